"""The command line of ``twistd asynchat`` and ``twist asynchat``."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from inspect import signature
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.python.usage import Options as TwistedOptions

from txasynchat.asyncore import dispatcher
from txasynchat.legacy.aliases import install
from txasynchat.legacy.transport_socket import LegacyFactory, accepts, builder
from txasynchat.service import ChatService

__all__ = ("Options", "makeService")

_ECHO = "txasynchat.echo:EchoHandler"
_LOCAL = "tcp:8007:interface=127.0.0.1"


class Options(TwistedOptions):
    """The options of ``twistd asynchat``.

    >>> options = Options()
    >>> options.parseOptions(["--handler", "nonsense"])
    Traceback (most recent call last):
    ...
    SystemExit: asynchat: --handler nonsense: expected MODULE:CLASS
    """

    synopsis = "[--listen ENDPOINT]... [--handler MODULE:CLASS]"
    longdesc = (
        "Serves an asynchat handler. With no options it serves the ECHO example on "
        "127.0.0.1, port 8007; try it with: printf 'ECHO 5\\nhello' | nc -q1 127.0.0.1 8007"
    )
    optParameters = [
        [
            "handler",
            "H",
            _ECHO,
            "What serves each connection: a subclass of txasynchat.AsyncChat; or a handler for "
            "asynchat or asyncore, constructed with (sock, addr); or a server for asyncore, "
            "constructed without arguments.",
        ],
    ]
    compData: Any = None

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []

    def opt_listen(self, description: str) -> None:
        """Where to listen, as a Twisted server endpoint string (tcp:8007, unix:/run/chat, ...).
        May be given more than once. [default: tcp:8007:interface=127.0.0.1]"""
        self["listen"].append(description)

    opt_l = opt_listen

    def postOptions(self) -> None:
        """Check every value.

        :raise SystemExit: with one line that names the bad one. (After a usage
            error Twisted prints the whole help, and the line is easily missed.)
        """
        self["listen"] = self["listen"] or [_LOCAL]
        self["factory"] = _factory(self["handler"])
        self["endpoints"] = [(_endpoint(each), each) for each in self["listen"]]


def makeService(options: Options) -> ChatService:
    """The service that `options` ask for. Twisted calls this."""
    return ChatService(options["factory"], options["endpoints"], options["handler"])


def _endpoint(description: str) -> Any:
    # Not at import time: "twistd --reactor" has to come first.
    from twisted.internet import reactor  # noqa: TID251

    try:
        return serverFromString(reactor, description)
    except Exception as error:
        raise _refusal("--listen", description, _one_line(error)) from error


def _factory(name: str) -> IProtocolFactory:
    module_name, colon, class_name = name.partition(":")
    if not (module_name and colon and class_name):
        raise _refusal("--handler", name, "expected MODULE:CLASS")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as "python -m" has it; the twistd script has not
    # An old module may say "import asyncore".
    install()
    try:
        handler = getattr(import_module(module_name), class_name)
    except (Exception, SystemExit) as error:
        raise _refusal("--handler", name, _one_line(error)) from error
    try:
        return _factory_of(handler)
    except TypeError as error:
        raise _refusal("--handler", name, f"{class_name} {error}") from error
    except Exception as error:  # of a server's own constructor
        raise _refusal("--handler", name, _one_line(error)) from error


def _factory_of(handler: Any) -> IProtocolFactory:
    # A TypeError says what is wrong with it.
    from txasynchat.protocol import AsyncChat

    if not isinstance(handler, type):
        if isinstance(handler, dispatcher):
            if not accepts(type(handler)):
                raise TypeError("is no server: it has no handle_accepted() or handle_accept()")
            return LegacyFactory.for_server(handler)
    elif issubclass(handler, AsyncChat):
        _check_call(handler)
        return Factory.forProtocol(handler)
    elif issubclass(handler, dispatcher):
        if accepts(handler):
            _check_call(handler)
            return LegacyFactory.for_server(handler())
        return LegacyFactory(builder(handler))
    raise TypeError("is no subclass of txasynchat.AsyncChat, and no asyncore dispatcher")


def _check_call(kind: type[Any]) -> None:
    try:
        signature(kind).bind()
    except TypeError as error:
        raise TypeError(f"needs arguments: {error}") from error


def _refusal(option: str, value: str, why: str) -> SystemExit:
    return SystemExit(f"asynchat: {option} {value}: {why}")


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
