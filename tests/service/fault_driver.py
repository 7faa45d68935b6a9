"""Clients that do to a service what can go wrong, and write down what they sent and got.

What the client of a number does follows from the seed and that number.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

#: Seconds that a client waits for the service, before it says that it hangs.
PATIENCE = 30

FAULTS = (ConnectionError, ssl.SSLError, BlockingIOError)


@dataclass(frozen=True)
class Target:
    """Where a handler is served, and over what: "tcp", "tls" or "unix"."""

    face: str
    kind: str
    port: int
    path: Path


@dataclass
class Record:
    """What one client did."""

    number: int
    scenario: type[Scenario]
    target: Target
    #: Its address, as the log of the service has it.
    peer: str = ""
    began: float = 0.0
    ended: float = 0.0
    #: The messages that were sent in full, and those of which the answer came in full.
    sent: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    #: What went wrong for the client that was not its own doing.
    problem: str = ""

    def __str__(self) -> str:
        where = f"{self.target.face} over {self.target.kind}"
        return (
            f"client {self.number} ({self.peer}), {self.scenario.__name__} of {where}: "
            f"sent {len(self.sent)}, answered {len(self.answered)} {self.problem}"
        )


class Client:
    """A connection as a client sees it, and its record."""

    def __init__(self, record: Record, random: Random) -> None:
        self.record = record
        self.random = random
        self.kind = record.target.kind
        is_unix = self.kind == "unix"
        self.sock = socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET)
        self._buffer = b""

    def connect(self) -> None:
        """Connect, from an address of its own, by which the log of the service knows it."""
        number, target = self.record.number, self.record.target
        if self.kind == "unix":
            name = f"txasynchat-{os.getpid()}-{number}"
            self.sock.bind(f"\0{name}")  # in no file system
            self.record.peer = f"unix:@{name}"
            self.sock.connect(str(target.path))
        else:
            # This machine has sixteen million of them for itself.
            host = f"127.{1 + number // 65025}.{number // 255 % 255}.{1 + number % 255}"
            self.sock.bind((host, 0))
            self.record.peer = "{}:{}".format(*self.sock.getsockname())
            self.sock.connect(("127.0.0.1", target.port))
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(PATIENCE)

    # -- TLS -----------------------------------------------------------------------

    def shake_hands(self, authority: Path | None) -> None:
        """Begin TLS; with nobody to trust, that ends with an alert."""
        self.sock = trusting(authority).wrap_socket(self.sock, server_hostname="localhost")
        self.kind = "tls"

    # -- Sending -------------------------------------------------------------------

    def message(self, verb: str, *arguments: object) -> tuple[str, bytes]:
        """A new one: its name and its bytes."""
        identity = f"{self.record.number}.{len(self.record.sent)}"
        return identity, " ".join(map(str, (verb, identity, *arguments))).encode() + b"\n"

    def send(self, verb: str, *arguments: object) -> None:
        """Send a message in one of the ways in which it may come."""
        identity, data = self.message(verb, *arguments)
        for piece in self._cut(data):
            self.sock.sendall(piece)
        self.record.sent.append(identity)

    def _cut(self, data: bytes) -> Iterator[bytes]:
        how = self.random.choice(("whole", "whole", "bytes", "slowly", "pieces"))
        if how == "whole":
            yield data
        elif how == "bytes":
            yield from (data[at : at + 1] for at in range(min(len(data) - 1, 60)))
            yield data[min(len(data) - 1, 60) :]
        else:
            step = max(len(data) // 4, 1)
            for at in range(0, len(data), step):
                if how == "slowly":
                    self.linger(0.05)
                yield data[at : at + step]

    def linger(self, most: float) -> None:
        """Say nothing for a moment, or until the service does."""
        select.select([self.sock], [], [], self.random.random() * most)

    # -- Receiving -----------------------------------------------------------------

    def receive(self, size: int = 65536) -> bytes:
        """What comes next; ``b""`` at the end. The answers in it are noted."""
        data = self.sock.recv(size)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self.record.answered += [line.decode() for line in lines if not line.startswith(b".")]
        return data

    def receive_answers(self, size: int = 65536) -> None:
        """Until all is answered that was sent."""
        while len(self.record.answered) < len(self.record.sent):
            if not self.receive(size):
                raise ConnectionError("the service ended the connection, answers are missing")

    def receive_end(self) -> None:
        """Until the service ends the connection, in whichever way."""
        with suppress(*FAULTS):
            while self.receive():
                pass

    def drop_the_rest(self) -> None:
        """The same, where what comes is no answer to a message."""
        with suppress(*FAULTS):
            while self.sock.recv(65536):
                pass

    # -- Ending ----------------------------------------------------------------------

    def reset(self) -> None:
        """End with a reset, where the transport has such a thing."""
        if self.sock.family == socket.AF_INET:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def finish(self) -> None:
        """Close one half, or say that it ends, as TLS does."""
        if isinstance(self.sock, ssl.SSLSocket):
            with suppress(*FAULTS, OSError):
                self.sock.unwrap()
        else:
            self.sock.shutdown(socket.SHUT_WR)


# -- The scenarios ------------------------------------------------------------------------


class Scenario:
    """What one client does.

    :cvar weight: how often, compared with the others.
    :cvar reasons: why the service may say that the connection ended.
    :cvar failures: whether errors of the handler are provoked.
    :cvar lost: how many of the messages that were sent may have come too late to be
        handled, the last ones; None for any number.
    :cvar answered: whether all that were sent are answered.
    :cvar kinds: over what.
    """

    weight = 4
    reasons: frozenset[str] = frozenset({"peer"})
    failures = False
    lost: int | None = None
    answered = False
    kinds: frozenset[str] = frozenset({"tcp", "tls", "unix"})
    shakes_hands = True

    def __init__(self, client: Client, authority: Path) -> None:
        self.client = client
        self.random = client.random
        self.authority = authority

    def run(self) -> None:
        raise NotImplementedError

    def ask(self, most: int = 6) -> None:
        """Some messages of all kinds, at once or one after the other."""
        client = self.client
        at_once = self.random.random() < 0.5
        for _ in range(self.random.randint(1, most)):
            verb = self.random.choice(("echo", "echo", "later", "big", "produce"))
            if verb in ("big", "produce"):
                client.send(verb, self.random.randint(1, 5))
            else:
                client.send(verb, "x" * self.random.choice((0, 10, 1000, 19000)))
            if not at_once:
                client.receive_answers()
        client.receive_answers()


class Talks(Scenario):
    """A client as it should be."""

    weight = 20
    lost = 0
    answered = True

    def run(self) -> None:
        self.ask()
        if self.random.random() < 0.5:
            self.client.finish()
            self.client.receive_end()


class HalfCloses(Scenario):
    """Has sent all that it wants to, says so, and then reads."""

    lost = 0
    kinds = frozenset({"tcp", "unix"})

    def run(self) -> None:
        for _ in range(self.random.randint(1, 5)):
            self.client.send(self.random.choice(("echo", "later")))
        self.client.send("produce", 3)
        self.client.finish()
        self.client.receive_end()


class ReadsSlowly(Scenario):
    """Takes its time, and little at a time."""

    lost = 0
    answered = True

    def run(self) -> None:
        client = self.client
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(self.random.choice(("big", "produce")), self.random.randint(4, 12))
        client.send("echo")
        client.receive_answers(512)


class StopsReading(Scenario):
    """Asks for more than all buffers take, and reads none of it."""

    weight = 1
    reasons = frozenset({"timeout"})

    def run(self) -> None:
        client = self.client
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(self.random.randint(1, 4)):
            client.send(self.random.choice(("big", "produce")), 100)
        poll = select.poll()
        poll.register(client.sock, select.POLLHUP | select.POLLERR)
        if not poll.poll(PATIENCE * 1000):
            raise TimeoutError("a connection lives on whose client does not read")


class SaysNothing(Scenario):
    """Connects, and that is all."""

    weight = 1
    reasons = frozenset({"timeout"})

    def run(self) -> None:
        self.client.receive_end()


class NeverShakesHands(SaysNothing):
    """Connects to TLS, and that is all."""

    kinds = frozenset({"tls"})
    shakes_hands = False


class FallsSilent(Scenario):
    """Stops in the middle of a message."""

    weight = 1
    reasons = frozenset({"timeout"})
    lost = 0

    def run(self) -> None:
        self.ask(3)
        self.client.sock.sendall(b"echo half")
        self.client.receive_end()


class Resets(Scenario):
    """Is gone all of a sudden, at any moment."""

    weight = 6

    def run(self) -> None:
        moment = self.random.randrange(4)
        client = self.client
        if moment > 0:
            client.send("echo")
            client.receive_answers()
        if moment > 1:
            client.send(self.random.choice(("big", "produce")), 30)
            client.send("later")
        if moment > 2:
            client.receive()
            client.sock.sendall(b"echo half")
        client.linger(0.03)
        client.reset()


class Leaves(Scenario):
    """Closes at any moment, in order as far as its side goes."""

    def run(self) -> None:
        if self.random.random() < 0.7:
            self.ask(2)
            self.client.send("later")
            self.client.sock.sendall(b"echo half")


class SendsTooMuch(Scenario):
    """A message that is longer than what is allowed."""

    reasons = frozenset({"limit"})
    lost = 0

    def run(self) -> None:
        self.ask(3)
        with suppress(*FAULTS):
            for _ in range(10):
                self.client.sock.sendall(b"echo " * 1000)
        self.client.receive_end()


class IsDismissed(Scenario):
    """Asks for the end, and reads until it has come."""

    reasons = frozenset({"handler"})
    lost = 0
    answered = True

    def run(self) -> None:
        self.ask(3)
        self.client.send("bye")
        self.client.receive_answers()
        self.client.receive_end()


class Fails(Scenario):
    """Makes the handler raise; what comes behind that is not handled any more."""

    weight = 6
    reasons = frozenset({"error"})
    failures = True
    lost = 0
    commands: Sequence[tuple[Any, ...]] = (("fail",), ("fail_later",))
    goes_on = False

    def run(self) -> None:
        self.ask(3)
        with suppress(*FAULTS):
            self.client.send(*self.random.choice(self.commands))
            if self.random.random() < 0.5:
                identity, data = self.client.message("echo", "behind")
                self.client.sock.sendall(data)
                if self.goes_on:
                    self.client.record.sent.append(identity)
        self.client.receive_end()


class FailsInCollect(Fails):
    """Makes it raise in the middle of a message."""

    commands = (("echo", "x!x"), ("echo", "x" * 10000, "!"))
    lost = 1


class FailsInProducer(Fails):
    """Makes a producer raise, or give something strange, behind some pieces."""

    commands = tuple(("produce", n, how) for n in (0, 1, 40) for how in ("raise", "garbage"))
    goes_on = True  # until it is the producer's turn
    lost = 1


class TalksNonsense(Scenario):
    """Sends to TLS what is no TLS."""

    kinds = frozenset({"tls"})
    shakes_hands = False

    def run(self) -> None:
        with suppress(*FAULTS):
            choice = self.random.randrange(3)
            if choice == 0:
                self.client.sock.sendall(b"echo 1.1\n" * 100)
            elif choice == 1:
                self.client.sock.sendall(self.random.randbytes(500))
            else:
                self.client.sock.sendall(b"\x15\x03\x03\x00\x02\x02\x50")  # an alert
        if self.random.random() < 0.5:
            # Whoever has sent something that looks like the beginning of something waits.
            self.client.sock.shutdown(socket.SHUT_WR)
            self.client.drop_the_rest()
        else:
            self.client.reset()


class GivesUpShakingHands(Scenario):
    """Begins with TLS and goes away."""

    kinds = frozenset({"tls"})
    shakes_hands = False

    def run(self) -> None:
        hello = client_hello()
        self.client.sock.sendall(hello[: self.random.randint(1, len(hello))])
        self.client.linger(0.01)
        self.random.choice((self.client.reset, self.client.sock.close))()


class TrustsNobody(Scenario):
    """Does not like the certificate, and says so: a TLS alert."""

    kinds = frozenset({"tls"})
    shakes_hands = False

    def run(self) -> None:
        with suppress(ssl.SSLCertVerificationError):
            self.client.shake_hands(None)
            raise AssertionError("it does not trust anybody, but shook hands")


class Upgrades(Scenario):
    """STARTTLS, as it should be; or with nonsense, or nothing, where TLS should begin."""

    kinds = frozenset({"tcp", "unix"})

    def run(self) -> None:
        client = self.client
        self.ask(2)
        client.send("start_tls")
        client.receive_answers()
        choice = self.random.randrange(4)
        with suppress(*FAULTS):
            if choice == 0:
                client.sock.sendall(self.random.randbytes(300) + b"\n" * 10)
                client.finish()
                client.drop_the_rest()
            elif choice == 1:
                hello = client_hello()
                client.sock.sendall(hello[: self.random.randint(1, len(hello))])
                client.linger(0.01)
                client.reset()
            elif choice == 2:
                client.reset()
            else:
                self.go_on()

    def go_on(self) -> None:
        self.client.shake_hands(self.authority)
        self.ask(3)


class Injects(Scenario):
    """Puts a command behind STARTTLS, before there is TLS."""

    kinds = frozenset({"tcp", "unix"})
    reasons = frozenset({"error"})
    failures = True
    lost = 0

    def run(self) -> None:
        client = self.client
        self.ask(2)
        identity, data = client.message("start_tls")
        with suppress(*FAULTS):
            client.sock.sendall(data + b"echo evil\n")
        client.record.sent.append(identity)
        client.receive_end()


@cache
def trusting(authority: Path | None) -> ssl.SSLContext:
    """The client's side of TLS, which takes some time to make."""
    return ssl.create_default_context(cafile=authority)


def client_hello() -> bytes:
    """The first bytes of a client's TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(None).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def scenarios(kind: type[Scenario] = Scenario) -> Iterator[type[Scenario]]:
    """All of them."""
    for each in kind.__subclasses__():
        yield each
        yield from scenarios(each)


# -- The driver ---------------------------------------------------------------------------


class Driver:
    """Keeps a number of clients busy.

    :param targets: what they connect to.
    :param authority: who has signed the certificate of the service.
    :param seed: decides what each does.
    """

    def __init__(self, targets: Sequence[Target], authority: Path, seed: int) -> None:
        self.targets = targets
        self.authority = authority
        self.seed = seed
        self.records: list[Record] = []
        self._scenarios = sorted(scenarios(), key=lambda each: each.__name__)
        self._lock = threading.Lock()

    def run(self, seconds: float, at_once: int) -> list[Record]:
        """Let so many clients come, one behind the other, for so long. What they did."""
        first = len(self.records)
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._keep_busy, args=(lambda: time.monotonic() < until,))
            for _ in range(at_once)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return self.records[first:]

    def run_each(self, at_once: int) -> None:
        """Let a client do each thing to each target that it can be done to."""
        pairs = [(s, t) for s in self._scenarios for t in self.targets if t.kind in s.kinds]
        with ThreadPoolExecutor(at_once) as threads:
            list(threads.map(self.once, *zip(*pairs, strict=True)))

    def once(self, scenario: type[Scenario], target: Target) -> Record:
        """Let one client do this."""
        record = self._new_record(scenario, target)
        self._run(record, self._random(record.number))
        return record

    def _random(self, number: int) -> Random:
        return Random(f"{self.seed}/{number}")

    def _new_record(self, scenario: type[Scenario] | None, target: Target | None) -> Record:
        with self._lock:
            number = len(self.records)
            random = self._random(number)
            if scenario is None:
                weights = [each.weight for each in self._scenarios]
                scenario = random.choices(self._scenarios, weights)[0]
            if target is None:
                target = random.choice([t for t in self.targets if t.kind in scenario.kinds])
            record = Record(number, scenario, target)
            self.records.append(record)
        return record

    def _keep_busy(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            record = self._new_record(None, None)
            self._run(record, self._random(record.number))

    def _run(self, record: Record, random: Random) -> None:
        record.began = time.monotonic()
        client = Client(record, random)
        try:
            client.connect()
            scenario = record.scenario(client, self.authority)
            if record.target.kind == "tls" and scenario.shakes_hands:
                client.shake_hands(self.authority)
            scenario.run()
        except Exception as error:
            record.problem = f"{type(error).__name__}: {error}"
        finally:
            client.sock.close()
            record.ended = time.monotonic()
