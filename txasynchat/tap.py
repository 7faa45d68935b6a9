"""The options of ``twistd asynchat``, and of ``python -m txasynchat serve``."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.usage import Options as TwistedOptions

from txasynchat.connections import Connections
from txasynchat.handlers import HandlerError, factory_from, load
from txasynchat.limits import DEFAULTS, Limits
from txasynchat.listening import Listener
from txasynchat.service import ChatService, ListeningService, Signals
from txasynchat.workers import Workers

if TYPE_CHECKING:
    from txasynchat.trace import TracingFactory

__all__ = ("Options", "WorkerOptions", "makeService")

_ECHO = "txasynchat.echo:EchoHandler"
_LOCAL = "tcp:8007:interface=127.0.0.1"


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError
    return int(number) if number.is_integer() else number


_WHOLE = (_count, "expected a whole number, 0 for no limit")
_TIME = (_seconds, "expected a number of seconds, 0 for no limit")

#: Options with a number: how to read it, its default in words, what it is for. Those but
#: the last two are limits; 0 is none.
_LIMITS: dict[str, tuple[tuple[Callable[[str], float], str], str, str]] = {
    "max-connections": (
        _WHOLE,
        "nine tenths of the descriptors",
        "How many connections may be alive at once; more are refused.",
    ),
    "max-per-peer": (
        _WHOLE,
        f"{DEFAULTS['max_per_peer']}, but any number from this machine",
        "How many of these one address may have (for IPv6, one /64 network).",
    ),
    "max-message-length": (
        _WHOLE,
        "the handler's; 64 MiB for legacy ones",
        "The longest message, in bytes; one that sends more is cut off.",
    ),
    "max-queued-output": (
        _WHOLE,
        "the handler's; 1 MiB for legacy ones",
        "While more bytes wait to be sent, nothing more is read from that peer.",
    ),
    "first-message-timeout": (
        _TIME,
        f"{DEFAULTS['first_message_timeout']}",
        "Seconds in which a peer has to send its first message.",
    ),
    "idle-timeout": (
        _TIME,
        f"the handler's; else {DEFAULTS['idle_timeout']}",
        "Seconds without a byte in either direction, before a connection is closed.",
    ),
    "close-timeout": (
        _TIME,
        "the handler's",
        "Seconds without progress that a close waits for a peer that does not read.",
    ),
}

_DRAIN = 30


class Options(TwistedOptions):
    """The options of ``twistd asynchat``.

    >>> options = Options()
    >>> options.parseOptions(["--handler", "nonsense"])
    Traceback (most recent call last):
    ...
    SystemExit: asynchat: --handler nonsense: expected MODULE:NAME
    """

    synopsis = "[--listen ENDPOINT]... [--handler MODULE:NAME [--arg VALUE]...] [options]"
    longdesc = (
        "Serves an asynchat handler. With no options it serves the ECHO example on "
        "127.0.0.1, port 8007; try it with: printf 'ECHO 5\\nhello' | nc -q1 127.0.0.1 8007"
    )
    optParameters: list[list[Any]] = [
        [
            "handler",
            "H",
            _ECHO,
            "What serves each connection: a subclass of txasynchat.AsyncChat; a handler for "
            "asynchat or asyncore, constructed with (sock, addr); a server for asyncore; a "
            "Twisted factory; or a callable that builds one of these.",
        ],
        *(
            [name, None, None, f"{text} [default: {default}]"]
            for name, (_, default, text) in _LIMITS.items()
        ),
        [
            "drain-timeout",
            None,
            str(_DRAIN),
            "Seconds that connections have to finish their message and their output once "
            "the service is told to stop; 0 to cut them at once.",
        ],
        ["trace", None, None, "Append what is sent and received to this file, as JSON lines."],
        [
            "trace-mask",
            None,
            None,
            "MODULE:NAME of what hides secrets from --trace, made by txasynchat.masks.mask_after() "
            "for one.",
        ],
        [
            "metrics",
            None,
            None,
            "Serve numbers for Prometheus at /metrics on this endpoint (needs "
            "txasynchat[metrics]).",
        ],
        ["workers", None, "1", "How many processes share the work."],
    ]
    compData: Any = None
    #: What ``--metrics`` serves; :func:`makeService` sets it.
    numbers: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []
        self["arg"] = []

    def opt_listen(self, description: str) -> None:
        """Where to listen, as a Twisted server endpoint string: tcp:8007, ssl:6697:certKey=...,
        unix:/run/chat, systemd:domain=INET:index=0, haproxy:tcp:8007, ... May be given more than
        once. [default: tcp:8007:interface=127.0.0.1]"""
        self["listen"].append(description)

    def opt_arg(self, value: str) -> None:
        """An argument for what --handler names, as VALUE or NAME=VALUE: a Python literal, or
        else text. May be given more than once. A legacy handler gets it behind (sock, addr)."""
        self["arg"].append(value)

    opt_l = opt_listen

    def postOptions(self) -> None:
        """Check every value.

        :raise SystemExit: with one line that names the bad one. (After a usage
            error Twisted prints the whole help, and the line is easily missed.)
        """
        self["listen"] = self["listen"] or [_LOCAL]
        self["limits"] = Limits(**self._given_limits())
        self["drain-timeout"] = self._number(
            "drain-timeout", (_seconds, "expected a number of seconds")
        )
        self["workers"] = self._number("workers", (_count, "expected a whole number"))
        if not self["workers"]:
            raise self._refusal("workers", "expected a number above 0")
        self["factory"] = self._checked("handler", lambda name: factory_from(name, self["arg"]))
        self["listeners"] = self._listeners()
        self["mask"] = self._checked("trace-mask", load)
        if self["mask"] is not None and not callable(self["mask"]):
            raise self._refusal("trace-mask", "is not callable")
        if self["mask"] is not None and self["trace"] is None:
            raise self._refusal("trace-mask", "there is no --trace to hide anything from")
        self["scrape"] = self._scrape()
        self["record"] = self._checked("trace", self._tracing)

    def parseOptions(self, options: Any = None) -> None:
        """Keeps what was given, for the workers. Twisted calls this."""
        self.given: tuple[str, ...] = tuple(sys.argv[1:] if options is None else options)
        super().parseOptions(options)  # type: ignore[no-untyped-call]

    def chat_service(self) -> ChatService:
        """What serves the connections of one process."""
        name = self["handler"].partition(":")[2]
        connections = Connections(self["factory"], self["limits"], name)
        return ChatService(
            connections, self["listeners"], self["handler"], self["drain-timeout"], self["record"]
        )

    def _listeners(self) -> list[Listener]:
        return [_listener("--listen", each) for each in self["listen"]]

    def _scrape(self) -> Listener | None:
        if self["metrics"] is None:
            return None
        from txasynchat.metrics import metrics_site

        try:
            self["site"] = metrics_site(lambda: self.numbers())
        except ImportError as error:
            raise self._refusal("metrics", str(error)) from error
        return _listener("--metrics", self["metrics"])

    def _given_limits(self) -> dict[str, Any]:
        given = {
            name: self._number(name, how)
            for name, (how, *_) in _LIMITS.items()
            if self[name] is not None
        }
        return {name.replace("-", "_"): value or None for name, value in given.items()}

    def _number(self, name: str, how: tuple[Callable[[str], float], str]) -> float:
        read, expected = how
        try:
            return read(self[name])
        except ValueError:
            raise self._refusal(name, expected) from None

    def _checked(self, name: str, make: Callable[[str], Any]) -> Any:
        value = self[name]
        if value is None:
            return None
        try:
            return make(value)
        except (HandlerError, OSError) as error:
            raise self._refusal(name, str(error)) from error

    def _refusal(self, name: str, why: str) -> SystemExit:
        return _refusal(f"--{name}", self[name], why)

    def _tracing(self, path: str) -> Callable[[IProtocolFactory], TracingFactory]:
        from txasynchat.trace import TracingFactory

        if self["workers"] > 1:
            path += ".1"  # each has a file of its own
        # Whether it can be written, while somebody looks. It may hold secrets.
        os.close(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return lambda factory: TracingFactory(factory, path, self["mask"])


class WorkerOptions(Options):
    """The same options, as one of several workers understands them.

    :param number: its number.
    :param sockets: for each endpoint, the descriptors and the address families of the
        sockets that its parent has opened.
    """

    def __init__(self, number: int, sockets: Sequence[Sequence[tuple[int, int]]]) -> None:
        super().__init__()
        self._worker = number
        self._sockets = sockets

    def _listeners(self) -> list[Listener]:
        pairs = zip(self["listen"], self._sockets, strict=True)
        return [_listener("--listen", each, inherited=sockets) for each, sockets in pairs]

    def _scrape(self) -> None:
        return None  # the parent serves the sum

    def _tracing(self, path: str) -> Callable[[IProtocolFactory], TracingFactory]:
        self["workers"] = 1
        return super()._tracing(f"{path}.{self._worker}")


def makeService(options: Options) -> IService:
    """The service that `options` ask for. Twisted calls this."""
    serves: ChatService | Workers
    if options["workers"] == 1:
        serves = options.chat_service()
        options.numbers = serves.connections.numbers
    else:
        serves = Workers(
            options["workers"],
            options.given,
            options["listen"],
            options["handler"],
            options["drain-timeout"],
        )
        options.numbers = serves.numbers
    signals = Signals(serves.hurry, serves.reload)
    parts: list[Service] = [serves, signals]
    if options["scrape"] is not None:
        scraped = ListeningService(options["site"], [options["scrape"]], "metrics", "--metrics")
        parts.append(scraped)
    everything: Any = MultiService()
    everything.setName("asynchat")
    for part in parts:
        part.setServiceParent(everything)
    return everything  # type: ignore[no-any-return]


def _listener(option: str, description: str, **how: Any) -> Listener:
    try:
        return Listener(description, **how)
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        if isinstance(error, ImportError) and "OpenSSL" in words:
            words = "TLS needs pyOpenSSL: pip install 'twisted[tls]'"
        if isinstance(error, IndexError) and "systemd:" in description:
            words = "systemd has passed no socket of that index"
        raise _refusal(option, description, words) from error


def _refusal(option: str, value: str, why: str) -> SystemExit:
    return SystemExit(f"asynchat: {option} {value}: {why}")
