"""The in-memory workloads: what cutting a stream into messages costs, without any socket."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

from benchmarks.handlers import Counting, Hashing, expected_digest
from benchmarks.measure import Sample, WrongResultError
from benchmarks.peers import PEERS, Peer, UnavailableError

KiB = 1024
MiB = 1024 * KiB

#: The delimiter that multipart bodies of the web have, with its line break.
BOUNDARY = b"\r\n--" + bytes(random.Random(66).choices(b"0123456789abcdef", k=62))

_LINES = ("AsyncChat", "drop-in", "removed", "LineReceiver", "Protocol by hand")
_FRAMES = ("AsyncChat", "drop-in", "removed", "Int32StringReceiver")
_OTHERS = ("AsyncChat coroutines", "asyncio streams", "bare find", "bare split")


@dataclass(frozen=True)
class Workload:
    """Messages of one kind, in chunks of one size."""

    name: str
    about: str
    #: "lines", "frames", "message", "near-misses".
    kind: str
    #: Bytes of one message.
    length: int
    #: Bytes of one chunk.
    chunk: int
    #: Bytes of the stream, about.
    stream: int
    peers: tuple[str, ...] = (*_LINES, *_OTHERS)
    #: Who can't, and why.
    absent: tuple[tuple[str, str], ...] = ()
    unit: str = "message"

    @property
    def delimiter(self) -> bytes | None:
        """What ends a message; None for frames."""
        if self.kind == "frames":
            return None
        return BOUNDARY if self.kind == "near-misses" else b"\r\n"


def messages(workload: Workload, quick: bool) -> list[bytes]:
    """What is to be found in the stream."""
    size = max(workload.stream // (8 if quick else 1), 2 * workload.length)
    if workload.kind == "near-misses":
        near = BOUNDARY[:-1] + b"."
        return [near * (workload.stream // len(near))]
    count = max(size // workload.length, 1) if workload.kind != "message" else 1
    text = random.Random(1).choices(b"abcdefghijklmnopqrstuvwxyz ", k=4096)
    body = bytes(text) * (workload.length // 4096 + 2)
    return [body[at % 4096 : at % 4096 + workload.length] for at in range(count)]


def chunks(workload: Workload, content: Sequence[bytes]) -> list[bytes]:
    """The stream, cut."""
    if workload.delimiter is None:
        stream = b"".join(len(each).to_bytes(4, "big") + each for each in content)
    else:
        stream = b"".join(each + workload.delimiter for each in content)
    return [stream[at : at + workload.chunk] for at in range(0, len(stream), workload.chunk)]


@lru_cache(maxsize=1)
def _material(workload: Workload, quick: bool) -> tuple[list[bytes], int, int, str]:
    # The chunks; how many bytes and messages are to be found in them; their digest.
    content = messages(workload, quick)
    size = sum(map(len, content))
    return chunks(workload, content), len(content), size, expected_digest(content)


class InMemoryContestant:
    """A peer in one of these workloads."""

    def __init__(self, workload: Workload, peer: Peer, quick: bool = False) -> None:
        self.workload = workload
        self.peer = peer
        self.quick = quick
        self.target = 0.02 if quick else 0.1
        self.repeats = 1

    def prepare(self) -> float:
        """Verify, then find out how often the stream is to be fed to fill a sample."""
        reasons = dict(self.workload.absent)
        if self.peer.name in reasons:
            raise UnavailableError(reasons[self.peer.name])
        self.kind = self._kind()
        self.verify()
        once = self.sample().wall
        self.repeats = max(1, ceil(self.target / once))
        return once * self.repeats

    def verify(self) -> None:
        """Compare what the peer finds with what is there."""
        stream, _, _, expected = _material(self.workload, self.quick)
        handler = self._handler(type("Hashed", (Hashing, self.kind), {}))
        handler.connect()
        handler.feed(stream)
        handler.disconnect()
        if handler.hexdigest() != expected:
            raise WrongResultError("it did not find the messages that are there")

    def sample(self) -> Sample:
        """Feed the stream to new handlers."""
        stream, count, size, _ = _material(self.workload, self.quick)
        handlers: list[Counting] = [self._handler(self.kind) for _ in range(self.repeats)]
        for handler in handlers:
            handler.connect()
        wall, cpu = time.perf_counter(), time.process_time()
        for handler in handlers:
            handler.feed(stream)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        for handler in handlers:
            handler.disconnect()
        if any((each.size, each.count) != (size, count) for each in handlers):
            raise WrongResultError("it lost something on the way")
        return Sample(work=count * self.repeats, cpu=cpu, wall=wall)

    def start(self) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Nothing to close."""

    def _kind(self) -> Any:
        name = "Frames" if self.workload.kind == "frames" else "Lines"
        module = self.peer.load()
        if not hasattr(module, name):
            raise UnavailableError(f"it has no {name.lower()}")
        return getattr(module, name)

    def _handler(self, kind: Any) -> Any:
        longest = max(self.workload.length, 1)
        if self.workload.kind == "near-misses":
            longest = self.workload.stream
        if self.workload.delimiter is None:
            return kind(longest)
        return kind(self.workload.delimiter, longest)


_CHUNKS = {"64k": 64 * KiB, "1460": 1460, "7": 7, "1": 1}
_ONE = ("bare split", "one message: there is nothing to split, see the bare find")
_QUADRATIC = "joins the message so far with each chunk and looks through all of it again"


def _workloads() -> list[Workload]:
    found = []
    for length in (10, 60, 1024):
        for name, chunk in _CHUNKS.items():
            found.append(
                Workload(
                    f"lines-{length}-in-{name}",
                    f"lines of {length:,} bytes in chunks of {_size(chunk)}",
                    "lines",
                    length,
                    chunk,
                    {"64k": MiB, "1460": 512 * KiB, "7": 128 * KiB, "1": 32 * KiB}[name],
                    unit="line",
                )
            )
    for length in (16, 1024, MiB):
        for name in ("64k", "1460"):
            size = "1m" if length == MiB else str(length)
            found.append(
                Workload(
                    f"frames-{size}-in-{name}",
                    f"4 bytes of length, {_size(length)} of body, in chunks of "
                    f"{_size(_CHUNKS[name])}",
                    "frames",
                    length,
                    _CHUNKS[name],
                    8 * MiB if length == MiB else 512 * KiB,
                    peers=(*_FRAMES, "AsyncChat coroutines", "asyncio streams", "bare find"),
                    unit="frame",
                )
            )
    found.append(
        Workload(
            "message-64m",
            "one message of 64 MiB in chunks of 64 KiB",
            "message",
            64 * MiB,
            64 * KiB,
            64 * MiB,
            absent=(_ONE, ("LineReceiver", _QUADRATIC), ("Protocol by hand", _QUADRATIC)),
        )
    )
    for name, stream in (("64k", 4 * MiB), ("7", 128 * KiB)):
        found.append(
            Workload(
                f"near-misses-66-in-{name}",
                f"{_size(stream)} of near misses of a delimiter of 66 bytes, in chunks of "
                f"{_size(_CHUNKS[name])}",
                "near-misses",
                66,
                _CHUNKS[name],
                stream,
                absent=(_ONE,),
            )
        )
    return found


def _size(count: int) -> str:
    if count >= KiB and count % KiB == 0 and count != KiB:
        return f"{count // MiB} MiB" if count % MiB == 0 else f"{count // KiB} KiB"
    return "1 byte" if count == 1 else f"{count:,} bytes"


WORKLOADS = {workload.name: workload for workload in _workloads()}


def contestants(name: str, quick: bool) -> dict[tuple[str, str], InMemoryContestant]:
    """All peers of a workload."""
    workload = WORKLOADS[name]
    return {
        (name, peer): InMemoryContestant(workload, PEERS[peer], quick) for peer in workload.peers
    }
