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
        ["handler", "H", _ECHO, "What serves each connection: a subclass of txasynchat.AsyncChat."],
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
    try:
        handler = getattr(import_module(module_name), class_name)
    except (Exception, SystemExit) as error:
        raise _refusal("--handler", name, _one_line(error)) from error
    from txasynchat.protocol import AsyncChat

    if not (isinstance(handler, type) and issubclass(handler, AsyncChat)):
        raise _refusal("--handler", name, f"{class_name} is no subclass of txasynchat.AsyncChat")
    try:
        signature(handler.__init__).bind(None)
    except TypeError as error:
        raise _refusal("--handler", name, f"{class_name} needs arguments: {error}") from error
    return Factory.forProtocol(handler)


def _refusal(option: str, value: str, why: str) -> SystemExit:
    return SystemExit(f"asynchat: {option} {value}: {why}")


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
