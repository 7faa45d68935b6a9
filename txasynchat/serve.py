"""``python -m txasynchat serve``: what ``twistd -n asynchat`` does, without Twisted's plugins."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from twisted.application.reactors import NoSuchReactor, getReactorTypes, installReactor
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.usage import UsageError

__all__ = ("install_reactor", "serve")


def install_reactor(name: str) -> None:
    """Install a reactor by the name that Twisted knows it by.

    :param name: "epoll", "poll", "select", "asyncio", ...
    :raise ValueError: if there is none, or it can't be installed, with the reason.
    """
    try:
        installReactor(name)
    except NoSuchReactor:
        known = ", ".join(sorted({each.shortName for each in getReactorTypes() if _loads(each)}))
        raise ValueError(f"there is no such reactor; there are {known}") from None
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _loads(reactor: Any) -> bool:
    # Those of other systems don't.
    try:
        import_module(reactor.moduleName)
    except Exception:
        return False
    return True


def serve(arguments: Sequence[str]) -> None:
    """Serve in the foreground, log to standard output, until a signal says stop.

    :param arguments: the options of ``twistd asynchat``, and ``--reactor NAME``.
    :raise SystemExit: with one line that says what is wrong with them.
    """
    arguments = _install_reactor(list(arguments))
    from txasynchat.tap import Options, makeService

    options: Any = Options()
    options.synopsis = f"Usage: python -m txasynchat serve [--reactor NAME] {options.synopsis}"
    try:
        options.parseOptions(arguments)
    except UsageError as error:
        words = str(error).rstrip(".")
        print(f"asynchat: {words}; --help lists the options", file=sys.stderr)
        raise SystemExit(2) from error
    _run(makeService(options))


def _install_reactor(arguments: list[str]) -> list[str]:
    # Before all others: most of what they name needs the reactor.
    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option == "--reactor":
            end = place + (1 if equals else 2)
            value = value if equals else "".join(arguments[place + 1 : end])
            try:
                install_reactor(value)
            except ValueError as error:
                raise SystemExit(f"asynchat: --reactor {value}: {error}") from error
            return arguments[:place] + arguments[end:]
    return arguments


def _run(service: Any) -> None:
    from twisted.internet import reactor  # noqa: TID251

    for_people = LogLevelFilterPredicate(LogLevel.info)
    observer = FilteringLogObserver(textFileLogObserver(sys.stdout), [for_people])
    globalLogBeginner.beginLoggingTo([observer])
    service.privilegedStartService()
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
