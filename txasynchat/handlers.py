"""What ``--handler MODULE:NAME`` names, as a factory for endpoints."""

from __future__ import annotations

import os
import sys
from ast import literal_eval
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from errno import EADDRINUSE
from functools import partial
from importlib import import_module
from inspect import Signature, signature
from traceback import extract_tb
from types import FunctionType
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory

from txasynchat.asyncore import dispatcher
from txasynchat.legacy.aliases import install
from txasynchat.legacy.reactors import driver
from txasynchat.legacy.serving import LegacyFactory, accepts, builder

__all__ = ("HandlerError", "factory_from", "load", "parse_arguments")


class _NotServable(TypeError):
    """Says why in words that go on behind the name."""


class HandlerError(Exception):
    """What is named can't be served; says why in one line."""


def load(name: str) -> Any:
    """Import an object.

    :param name: ``MODULE:NAME``. The working directory is looked at as well; the old
        names ``asyncore`` and ``asynchat`` are there for the module.
    :raise HandlerError: if there is no such thing, or the module can't be imported.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise HandlerError("expected MODULE:NAME")
    if os.getcwd() not in sys.path:  # as "python -m" has it; the twistd script has not
        sys.path.append(os.getcwd())
    install()
    driver.no_loop = (
        f"{module_name} runs asyncore.loop() when it is imported: put what starts it behind "
        'if __name__ == "__main__":'
    )
    try:
        return getattr(import_module(module_name), attribute)
    except (Exception, SystemExit) as error:
        raise HandlerError(_one_line(error)) from error
    finally:
        driver.no_loop = ""


def parse_arguments(texts: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that the texts of ``--arg`` stand for.

    :param texts: ``VALUE`` or ``NAME=VALUE``. A value is a Python literal, or else a str.

    >>> parse_arguments(["8025", "lobby", "('127.0.0.1', 0)", "colour=red", "'a=b'"])
    ([8025, 'lobby', ('127.0.0.1', 0), 'a=b'], {'colour': 'red'})
    """
    positional: list[Any] = []
    by_name: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name.isidentifier():
            by_name[name] = _literal(value)
        else:
            positional.append(_literal(text))
    return positional, by_name


def _literal(text: str) -> Any:
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def factory_from(name: str, arguments: Sequence[str] = ()) -> IProtocolFactory:
    """A factory for what is named.

    That may be an AsyncChat class; a factory, or a class of factories; a handler or a
    server for asyncore or asynchat, or one server; or a callable that builds one of
    these, or that builds a handler of ``(sock, addr)``.

    :param name: ``MODULE:NAME``.
    :param arguments: of ``--arg``: a class, or a callable, is called with these; a legacy
        handler behind ``(sock, addr)``.
    :raise HandlerError: if that can't be served, with the reason.
    """
    named = load(name)
    args, kwargs = parse_arguments(arguments)
    try:
        with _taken_addresses_do():
            return _factory_of(named, args, kwargs)
    except _NotServable as error:
        raise HandlerError(f"{name.partition(':')[2]} {error}") from error
    except Exception as error:  # of a constructor
        raise HandlerError(_one_line(error)) from error


@contextmanager
def _taken_addresses_do() -> Iterator[None]:
    # A legacy server opens a socket of its own, which is closed then. Its address may well
    # be the endpoint's, or that of another worker's server.
    bind, listen = dispatcher.bind, dispatcher.listen
    taking: Any = dispatcher
    taking.bind, taking.listen = _unless_taken(bind), _unless_taken(listen)
    try:
        yield
    finally:
        taking.bind, taking.listen = bind, listen


def _unless_taken(call: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def try_to(self: dispatcher, value: Any) -> None:
        try:
            call(self, value)
        except OSError as error:
            if error.errno != EADDRINUSE:
                raise

    return try_to


def _factory_of(named: Any, args: list[Any], kwargs: dict[str, Any]) -> IProtocolFactory:
    # A _NotServable says what is wrong with it.
    from txasynchat.protocol import AsyncChat

    if isinstance(named, type):
        if issubclass(named, AsyncChat):
            _check_call(named, args, kwargs)
            return _of_chats(partial(named, *args, **kwargs) if args or kwargs else named)
        if issubclass(named, dispatcher):
            if accepts(named):
                return LegacyFactory.for_server(_called(named, args, kwargs))
            return LegacyFactory(_builder(named, args, kwargs))
        if not IProtocolFactory.implementedBy(named):
            raise _NotServable(_NOTHING_TO_SERVE)
        return _of_object(_called(named, args, kwargs))
    if IProtocolFactory.providedBy(named) or isinstance(named, dispatcher):
        if args or kwargs:
            raise _NotServable("is an object, not a class: it takes no --arg")
        return _of_object(named)
    if callable(named):
        return _of_callable(named, args, kwargs)
    raise _NotServable(_NOTHING_TO_SERVE)


_NOTHING_TO_SERVE = (
    "is no subclass of txasynchat.AsyncChat, no asyncore dispatcher, no factory, "
    "and no callable that builds one"
)


def _of_chats(build: Callable[[], Any]) -> IProtocolFactory:
    factory: Any = Factory()
    factory.protocol = build
    factory.noisy = False
    return factory  # type: ignore[no-any-return]


def _of_object(made: Any) -> IProtocolFactory:
    if IProtocolFactory.providedBy(made):
        return made
    if isinstance(made, dispatcher):
        if not accepts(type(made)):
            raise _NotServable("is no server: it has no handle_accepted() or handle_accept()")
        return LegacyFactory.for_server(made)
    raise _NotServable(_NOTHING_TO_SERVE)


def _of_callable(
    build: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> IProtocolFactory:
    from txasynchat.protocol import AsyncChat

    if not _takes(build, args, kwargs) and _takes(build, [None, None, *args], kwargs):
        return LegacyFactory(lambda sock, addr: build(sock, addr, *args, **kwargs))
    made = _called(build, args, kwargs)
    if isinstance(made, AsyncChat):
        return _of_chats(partial(build, *args, **kwargs))
    if isinstance(made, type):
        return _factory_of(made, [], {})
    return _of_object(made)


def _builder(
    kind: type[dispatcher], args: list[Any], kwargs: dict[str, Any]
) -> Callable[[Any, Any], object]:
    if not (args or kwargs):
        try:
            return builder(kind)
        except TypeError as error:
            raise _NotServable(str(error)) from error
    _check_call(kind, [None, None, *args], kwargs)
    return lambda sock, addr: kind(sock, addr, *args, **kwargs)


def _takes(build: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> bool:
    try:
        _signature(build).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # of C, without a signature
        pass
    return True


def _check_call(build: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
    try:
        if (args or kwargs) and getattr(build, "__init__", None) is object.__init__:
            raise TypeError("too many, it takes none")
        _signature(build).bind(*args, **kwargs)
    except TypeError as error:
        advice = "" if args or kwargs else "; give them by --arg"
        raise _NotServable(f"needs other arguments: {error}{advice}") from error


def _signature(build: Callable[..., Any]) -> Signature:
    from txasynchat.protocol import AsyncChat

    init: object = getattr(build, "__init__", None)
    of_chat = isinstance(build, type) and issubclass(build, AsyncChat)
    if of_chat and isinstance(init, FunctionType):
        # Where it is inherited Python 3.10 takes that of __new__(), which takes anything.
        build = partial(init, None)
    return signature(build)


def _called(build: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    _check_call(build, args, kwargs)
    return build(*args, **kwargs)


def _one_line(error: BaseException) -> str:
    # With the place in the user's own file where it was raised.
    words = " ".join(f"{type(error).__name__}: {error}".split())
    ours = os.path.dirname(__file__)
    frames = [
        frame
        for frame in extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", ours)) and "importlib" not in frame.filename
    ]
    if frames and not isinstance(error, SyntaxError):
        words += f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})"
    return words
