"""Services of both faces in one process, which writes down all that it does: run as a program.

``fault_server.py FOLDER DESCRIPTOR`` finds ``server.pem`` in the folder. Over the socket that it
is given it tells what is in the process. It serves on TCP, TLS and UNIX sockets, and appends to
the file ``journal``, as JSON lines: connections as the log tells of them, each message that a
handler got, failures that were logged.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import socket
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import IO, Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import Factory
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater
from twisted.logger import (
    ILogObserver,
    LogEvent,
    formatEvent,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from txasynchat import AsyncChat
from txasynchat import asynchat as old_asynchat
from txasynchat import asyncore as old_asyncore
from txasynchat.addresses import in_words
from txasynchat.service import ChatService
from txasynchat.tap import Options

reactor: Any = installed

#: Short, so that a test sees each of them hit, many times; but not by a client that has
#: to wait for its processor.
LIMITS = (
    "--max-connections=0",
    "--max-message-length=20000",
    "--first-message-timeout=4",
    "--idle-timeout=5",
    "--close-timeout=2",
)
KINDS = ("tcp", "tls", "unix")
#: The names of the handlers below.
FACES = ("Chat", "OldChat")

PIECE = b"." * 65535 + b"\n"


class Provoked(Exception):
    """Raised because a client has asked for it."""


class Journal:
    """What happened, as a file of JSON lines. Nothing of it stays in memory."""

    file: IO[str]
    tls: Any

    def write(self, *what: object) -> None:
        self.file.write(json.dumps(what) + "\n")

    def write_of(self, peer: str, what: str, *more: object) -> None:
        """What happened to the connection of a peer. Names of sockets that are in no file
        system begin with a zero byte."""
        self.write(what, peer.replace("\\x00", "@").replace("\0", "@"), *more)


journal = Journal()


# -- The handlers ---------------------------------------------------------------------


class Pieces:
    """A producer that gives some pieces, and then ends in one way or another."""

    def __init__(self, count: int, end: bytes, last: str = "") -> None:
        self.count = count
        self.end = end
        self.last = last

    def more(self) -> Any:
        if self.count:
            self.count -= 1
            return PIECE
        if self.last == "raise":
            raise Provoked("more()")
        if self.last == "garbage":
            return 5
        end, self.end = self.end, b""
        return end


class Commands:
    """What a client can ask for: ``VERB ID ARGUMENTS``. The end of each answer is ``ID``."""

    peer = ""

    def collect_incoming_data(self: Any, data: bytes) -> None:
        if b"!" in data:
            raise Provoked("collect_incoming_data()")
        self._collect_incoming_data(data)

    def found_terminator(self: Any) -> Any:
        verb, identity, *arguments = self._get_data().decode().split(" ")
        journal.write_of(self.peer, "handled", identity)
        return getattr(self, f"do_{verb}")(f"{identity}\n".encode(), *arguments)

    def do_echo(self: Any, end: bytes, *_: str) -> None:
        self.push(end)

    def do_big(self: Any, end: bytes, pieces: str) -> None:
        for _ in range(int(pieces)):
            self.push(PIECE)
        self.push(end)

    def do_produce(self: Any, end: bytes, pieces: str, last: str = "") -> None:
        self.push_with_producer(Pieces(int(pieces), end, last))

    def do_fail(self: Any, end: bytes) -> None:
        raise Provoked("found_terminator()")

    def do_bye(self: Any, end: bytes) -> None:
        self.push(end)
        self.close_when_done()

    def do_later(self, end: bytes, *_: str) -> Any:
        return self.do_echo(end)

    def do_fail_later(self, end: bytes) -> Any:
        return self.do_fail(end)


class Chat(Commands, AsyncChat):
    """With all that is new: coroutines, TLS in the middle."""

    def handle_connect(self) -> None:
        assert self.transport is not None
        self.peer = in_words(self.transport.getPeer())
        self.set_terminator(b"\n")

    def do_later(self, end: bytes, *_: str) -> Any:
        return ensureDeferred(self._later(end, False))

    def do_fail_later(self, end: bytes) -> Any:
        return ensureDeferred(self._later(end, True))

    async def _later(self, end: bytes, fails: bool) -> None:
        await deferLater(reactor, 0.02)
        if fails:
            raise Provoked("a coroutine")
        self.push(end)

    def do_start_tls(self, end: bytes) -> Any:
        self.push(end)
        return self.start_tls(journal.tls)


class OldChat(Commands, old_asynchat.async_chat):
    """As handlers were written for asynchat."""

    def __init__(self, sock: Any, addr: Any) -> None:
        super().__init__(sock)
        self.peer = f"unix:{addr}" if isinstance(addr, str) else f"{addr[0]}:{addr[1]}"
        self.set_terminator(b"\n")

    def do_start_tls(self, end: bytes) -> None:
        self.push(end)
        socket: Any = self.socket
        socket.start_tls(journal.tls)


# -- What is in the process ---------------------------------------------------------------


@implementer(ILogObserver)
class Observer:
    """Writes the events of connections into the journal, and failures."""

    def __call__(self, event: LogEvent) -> None:
        name = event.get("event", "")
        failure = event.get("log_failure")
        if name in ("connection opened", "connection ended"):
            fields = ("number", "reason", "detail", "messages_in", "queued_output")
            journal.write_of(event["peer"], name, {each: event.get(each) for each in fields})
        elif failure is not None:
            what = [failure.type.__name__, str(failure.value), formatEvent(event)]
            journal.write_of(str(event.get("peer", "")), "failure", *what, failure.getTraceback())
        elif "EMFILE" in event.get("log_format", ""):
            Control.exhausted += 1


class Control(LineOnlyReceiver):
    """Answers what is in the process, as one JSON line for each command."""

    delimiter = b"\n"
    #: How often the process was out of descriptors.
    exhausted = 0

    def __init__(self, services: dict[str, ChatService]) -> None:
        self.services = services

    def lineReceived(self, line: bytes) -> None:
        command, *arguments = json.loads(line)
        answer = getattr(self, f"do_{command}")(*arguments)
        if isinstance(answer, Deferred):
            answer.addCallbacks(self.answer, lambda failure: self.answer(failure.getTraceback()))
        else:
            self.answer(answer)

    def answer(self, answer: object) -> None:
        self.sendLine(json.dumps(answer).encode())  # type: ignore[no-untyped-call]

    def do_ports(self) -> dict[str, dict[str, int]]:
        """Where each handler listens."""
        return {
            face: {
                kind: getattr(port.getHost(), "port", 0)
                for kind, port in zip(KINDS, service.ports, strict=True)
            }
            for face, service in self.services.items()
        }

    def do_descriptors(self, spare: int | None) -> int:
        """Leave the process so many that it may open; None for as many as there can be."""
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        soft = most if spare is None else _descriptors() + spare
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
        return soft

    def do_exhausted(self) -> int:
        """How often it was out of them."""
        return self.exhausted

    def do_numbers(self) -> dict[str, Any]:
        """What the services count."""
        return {
            face: service.connections.numbers()["handlers"]
            for face, service in self.services.items()
        }

    def do_measure(self) -> Any:
        """What is in the process, once nobody is connected and no timer runs. It waits for
        that, but no longer than twenty seconds."""
        return ensureDeferred(self._measure())

    async def _measure(self) -> dict[str, Any]:
        for _ in range(400):
            if not (any(map(len, self._registers())) or reactor.getDelayedCalls()):
                break
            await deferLater(reactor, 0.05)
        journal.file.flush()
        return measurement(sum(map(len, self._registers())))

    def _registers(self) -> list[Any]:
        return [service.connections for service in self.services.values()]


def measurement(connections: int) -> dict[str, Any]:
    for _ in range(3):
        gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return {
        "left": {
            "connections": connections,
            "descriptors": _descriptors(),
            "timers": [str(call) for call in reactor.getDelayedCalls()],
            "readers": sorted(type(each).__name__ for each in reactor.getReaders()),
            "writers": sorted(type(each).__name__ for each in reactor.getWriters()),
            "legacy map": len(old_asyncore.socket_map),
            "objects": _objects(),
        },
        "blocks": sys.getallocatedblocks(),
        "resident": _resident(),
    }


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) - 1


#: The modules of what belongs to connections, and coroutines and generators.
_OF_CONNECTIONS = (
    "txasynchat.",
    "__main__.",
    "twisted.internet.",
    "twisted.protocols.",
    "twisted.python.failure.",
    "OpenSSL.",
    "builtins.coroutine",
    "builtins.generator",
)


def _objects() -> dict[str, int]:
    counts: Counter[str] = Counter()
    for each in gc.get_objects():
        name = f"{type(each).__module__}.{type(each).__name__}"
        # Twisted keeps timers that were cancelled until their time has come.
        if name.startswith(_OF_CONNECTIONS) and not name.endswith(".DelayedCall"):
            counts[name] += 1
    return dict(sorted(counts.items()))


def _resident() -> int:
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))


# -- The program ------------------------------------------------------------------------------


def service_of(face: str, folder: Path) -> ChatService:
    pem = folder / "server.pem"
    listen = (
        "tcp:0:interface=0.0.0.0",
        f"ssl:0:interface=0.0.0.0:privateKey={pem}:certKey={pem}",
        f"unix:{folder / face}",
    )
    options = Options()
    options.parseOptions(
        [*LIMITS, *(f"--listen={each}" for each in listen), f"--handler=__main__:{face}"]
    )
    return options.chat_service()


def main(folder: Path, control_descriptor: int) -> None:
    globalLogBeginner.beginLoggingTo([Observer(), textFileLogObserver(sys.stdout)])
    journal.file = (folder / "journal").open("w")
    journal.tls = PrivateCertificate.loadPEM((folder / "server.pem").read_bytes()).options()
    services = {face: service_of(face, folder) for face in FACES}
    for service in services.values():
        service.startService()
        reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    control: Any = Factory.forProtocol(partial(Control, services))
    control.noisy = False
    reactor.adoptStreamConnection(control_descriptor, socket.AF_UNIX, control)
    os.close(control_descriptor)
    print("ready", flush=True)
    reactor.run()
    journal.file.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
