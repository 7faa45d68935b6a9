"""Traces: who sent what when, as JSON lines, without a touch to the handler.

The format is described in docs/transcripts.md; :mod:`txasynchat.transcript` reads it.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from errno import ENOSPC
from io import TextIOBase
from json import dumps
from mmap import ACCESS_READ, mmap
from typing import Any

from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocolFactory,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import alsoProvides, directlyProvides, providedBy

from txasynchat.addresses import _proxy_wrapper, in_words
from txasynchat.factory import Refusal
from txasynchat.masks import Masker

__all__ = ("TracingFactory",)


class TracingFactory(WrappingFactory):
    """A factory around another: records what its connections receive and send.

    A connection behaves as it does without. Recorded is what its handler sees: over TLS
    the clear text, behind a proxy without the PROXY header. So the wrapper is put right
    around the handler's protocol, inside of other wrappers that `factory` makes.

    Records are written at once, by the reactor's thread. A file that can't be written
    is given up, which is logged once; the connections go on.

    :param factory: of any protocols.
    :param file: a path, appended to, created for its owner only; or a file object, of
        text or binary, which is flushed after each record.
    :param mask: called for each connection; makes what masks its secrets, see
        :mod:`txasynchat.masks`. None records everything as it is. When it raises, or
        masks another number of bytes, all the rest of the connection is masked and that
        is logged once.
    :param clock: tells the seconds since the epoch, ``IReactorTime``; None for the system's.
    :raise OSError: if the file can't be opened.

    >>> from io import StringIO
    >>> from twisted.internet.protocol import Factory
    >>> from twisted.internet.task import Clock
    >>> from twisted.internet.testing import StringTransport
    >>> from txasynchat.echo import EchoHandler
    >>> file = StringIO()
    >>> factory = TracingFactory(Factory.forProtocol(EchoHandler), file, clock=Clock())
    >>> protocol = factory.buildProtocol(None)
    >>> protocol.makeConnection(StringTransport())
    >>> protocol.dataReceived(b"ECHO 2\\n")
    >>> print(file.getvalue().splitlines()[1])
    {"time": 0.000000, "connection": 1, "event": "in", "data": "ECHO 2\\n"}
    """

    _log = Logger()
    noisy = False

    def __init__(
        self,
        factory: IProtocolFactory | Factory[Any],
        file: Any,
        mask: Callable[[], Masker] | None = None,
        clock: Any = None,
    ) -> None:
        super().__init__(factory)  # type: ignore[no-untyped-call]
        self.mask = mask
        self._now: Callable[[], float] = time.time if clock is None else clock.seconds
        self._mask_failed = False
        self._number = 0
        self._write: Callable[[str], object] | None
        self._close: Callable[[], object] | None = None
        if isinstance(file, (str, bytes, os.PathLike)):
            path = _File(file)
            self._number = path.last_number
            self._write, self._close = path.write, path.close
        else:
            self._write = _writer(file)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The protocol that the factory makes, traced. ``IProtocolFactory``."""
        outer = inner = self.wrappedFactory.buildProtocol(addr)
        above = None
        while isinstance(inner, ProtocolWrapper):
            above, inner = inner, inner.wrappedProtocol
        if inner is None or isinstance(inner, Refusal):
            return outer
        tracer = _Tracer(self, inner)
        if above is None:
            return tracer
        above.wrappedProtocol = tracer
        return outer

    def close(self) -> None:
        """Record no more, and close the file if it was given by its path."""
        self._write = None
        close, self._close = self._close, None
        if close is not None:
            close()

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _record(self, number: int, event: str, more: str = "") -> None:
        if self._write is None:
            return
        head = f'{{"time": {self._now():.6f}, "connection": {number}, "event": "{event}"'
        try:
            self._write(f"{head}{more}}}\n")
        except Exception:  # of whatever kind: a trace must not harm what it traces
            self._log.failure("the trace can't be written: nothing is recorded any more")
            self.close()

    def _masking_failed(self) -> None:
        if not self._mask_failed:
            self._mask_failed = True
            self._log.failure(
                "the mask {mask} failed: all the rest of such a connection is masked",
                mask=self.mask,
            )


#: What a protocol calls on its transport, and the event that it is recorded as.
_CALLS = {
    "abortConnection": "abort",
    "loseWriteConnection": "finish",
    "startTLS": "tls",
    "stopProducing": "lose",
}

_BYTES_LIKE = (bytes, bytearray, memoryview)


class _Tracer(ProtocolWrapper):
    """Stands between a protocol and its transport, and is to each what the other is."""

    factory: TracingFactory

    def __init__(self, factory: TracingFactory, protocol: Any) -> None:
        super().__init__(factory, protocol)  # type: ignore[arg-type]
        self._number = 0  # 0 until its opening is recorded
        self._over = False
        self._ends: set[str] = set()
        self._masker: Masker | None = None
        self._listens = [
            each
            for each in (IHalfCloseableProtocol, IHandshakeListener)
            if each.providedBy(protocol)
        ]
        alsoProvides(self, *self._listens)  # wrappers around may look before it is connected

    def logPrefix(self) -> str:
        """As without a trace."""
        protocol: Any = self.wrappedProtocol
        prefix: str = (
            protocol.logPrefix() if hasattr(protocol, "logPrefix") else type(protocol).__name__
        )
        return prefix

    # -- From the transport ---------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        """Connected."""
        given = providedBy(transport) - IHalfCloseableProtocol - IHandshakeListener
        directlyProvides(self, given, *self._listens)
        self.transport = transport
        self.factory.registerProtocol(self)  # type: ignore[no-untyped-call]
        self._make_masker()
        if self._peer_is_known():
            self._open()
        self._protocol.makeConnection(self)

    @property
    def _protocol(self) -> Any:
        return self.wrappedProtocol

    @property
    def _below(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        """Input."""
        self._record_data("in", data)
        self._protocol.dataReceived(data)

    def readConnectionLost(self) -> None:
        """The peer sends no more."""
        self._record("eof")
        self._protocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """The peer reads no more, or this is our own doing."""
        self._protocol.writeConnectionLost()

    def handshakeCompleted(self) -> None:
        """TLS is up."""
        self._record("handshake")
        self._protocol.handshakeCompleted()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end."""
        protocol = self.wrappedProtocol
        try:
            super().connectionLost(reason)  # type: ignore[no-untyped-call]
        finally:
            if self._number or self._peer_is_known():
                self._record("close", _end_of(protocol, reason))
            self._over = True

    # -- From the protocol ----------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Output."""
        self._record_data("out", data)
        self._below.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Output in pieces."""
        pieces = list(data)
        if all(isinstance(piece, _BYTES_LIKE) for piece in pieces):
            self._record_data("out", b"".join(pieces))
        self._below.writeSequence(pieces)

    def loseConnection(self, *args: Any, **kwargs: Any) -> None:
        """The protocol closes."""
        self._record_once("lose")
        self._below.loseConnection(*args, **kwargs)

    @property
    def connected(self) -> int:  # type: ignore[override]
        """Whether the transport is there."""
        return int(getattr(self.transport, "connected", 0))

    @property
    def disconnecting(self) -> bool:  # type: ignore[override]
        """Whether the transport is closing."""
        return bool(getattr(self.transport, "disconnecting", False))

    def __getattr__(self, name: str) -> Any:
        # All else that the transport has, and nothing that it has not.
        value = getattr(self.transport, name)
        event = _CALLS.get(name)
        if event is None:
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            self._record_once(event)
            if event == "tls":
                alsoProvides(self, ISSLTransport)
            return value(*args, **kwargs)

        return call

    # -- Records ----------------------------------------------------------------------

    def _peer_is_known(self) -> bool:
        proxy = _proxy_wrapper(self.transport)
        return proxy is None or proxy._proxyInfo is not None

    def _open(self) -> None:
        self._number = self.factory._next_number()
        words = {
            "peer": in_words(self._below.getPeer()),
            "host": in_words(self._below.getHost()),
            "handler": _handler_name(self.wrappedProtocol),
            "tls": ISSLTransport.providedBy(self),
        }
        self._record("open", f", {dumps(words)[1:-1]}")

    def _record(self, event: str, more: str = "") -> None:
        if self._over:
            return
        if not self._number:
            self._open()
        self.factory._record(self._number, event, more)

    def _record_once(self, event: str) -> None:
        if event not in self._ends:
            self._ends.add(event)
            self._record(event)

    def _record_data(self, direction: str, data: Any) -> None:
        if self._over or self.factory._write is None or not isinstance(data, _BYTES_LIKE):
            return
        data = bytes(data)
        if not data:
            return
        shown = data if self._masker is None else self._masked(direction, data)
        masked = "" if shown == data else ', "masked": true'
        self._record(direction, f', "data": {dumps(shown.decode("latin-1"))}{masked}')

    def _make_masker(self) -> None:
        if self.factory.mask is not None:
            try:
                self._masker = self.factory.mask()
            except Exception:
                self._mask_all()

    def _masked(self, direction: str, data: bytes) -> bytes:
        assert self._masker is not None
        try:
            shown = self._masker(direction, data)
            if len(bytes(shown)) != len(data):
                raise ValueError(f"masked {len(data)} bytes with {len(shown)}")
            return bytes(shown)
        except Exception:
            # What it would make of the rest can't be trusted.
            self._mask_all()
            return b"*" * len(data)

    def _mask_all(self) -> None:
        self._masker = lambda direction, data: b"*" * len(data)
        self.factory._masking_failed()


def _handler_name(protocol: Any) -> str:
    return str(getattr(protocol, "handler_name", None) or type(protocol).__name__)


def _end_of(protocol: Any, reason: Failure) -> str:
    words = {"reason": getattr(reason.type, "__name__", ""), "detail": reason.getErrorMessage()}
    decided = getattr(protocol, "close_reason", None)
    if decided is not None:
        words["close_reason"] = str(decided)
        words["close_detail"] = str(getattr(protocol, "close_detail", ""))
    return f", {dumps(words)[1:-1]}"


def _writer(file: Any) -> Callable[[str], object]:
    text = isinstance(file, TextIOBase)

    def write(line: str) -> None:
        file.write(line if text else line.encode())
        file.flush()

    return write


class _File:
    """A file that is appended to.

    :ivar last_number: of the last connection that was opened in it; 0 for none.
    """

    def __init__(self, path: Any) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.last_number = 0
        try:
            self._look()
        except BaseException:
            os.close(self._fd)
            raise

    def _look(self) -> None:
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return
        with mmap(self._fd, 0, access=ACCESS_READ) as content:
            # No data can look like this: its quotes are escaped.
            place = content.rfind(b', "event": "open"')
            number = re.search(rb"(\d+)$", content[max(0, place - 20) : max(0, place)])
            if number is not None:
                self.last_number = int(number[1])
            if content[-1:] != b"\n":  # from a crash
                self.write("\n")

    def write(self, line: str) -> None:
        """Append one record, with one call of the system's.

        :raise OSError: if not all of it could be written.
        """
        data = line.encode()
        if os.write(self._fd, data) < len(data):
            raise OSError(ENOSPC, os.strerror(ENOSPC))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
