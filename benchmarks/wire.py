"""The workloads over sockets: a server process, a client process, and what the server needs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import traffic
from benchmarks.measure import Sample, WrongResultError
from benchmarks.peers import PEERS, Peer, UnavailableError
from benchmarks.serve import descriptors

MiB = 2**20

#: Descriptors that a server has besides its connections, at most.
_SPARE = 12

#: Seconds that a reader stops for.
PAUSE = 0.5

_ALL = (
    "AsyncChat",
    "drop-in",
    "drop-in over TransportSocket",
    "AsyncChat coroutines",
    "removed (select)",
    "removed (poll)",
    "LineReceiver",
    "Protocol by hand",
    "asyncio Protocol",
    "asyncio Protocol (uvloop)",
    "asyncio streams",
    "asyncio streams (uvloop)",
    "tornado IOStream",
    "bare epoll",
)
_SENDING = tuple(name for name in _ALL if name not in ("LineReceiver", "AsyncChat coroutines"))


@dataclass(frozen=True)
class Workload:
    """What a client does with a server."""

    name: str
    about: str
    #: What the server does; see :mod:`benchmarks.serve`.
    service: str
    #: What the client does once in a sample; see :class:`benchmarks.client.Client`.
    command: dict[str, Any]
    unit: str
    #: Which argument of the command is made larger until a sample is long enough, if one is.
    grows: str = ""
    #: What the client does before anything is measured.
    first: dict[str, Any] = field(default_factory=dict)
    #: A new server for each sample: what a process had before hides what it needs.
    fresh: bool = False
    #: Connections that do nothing.
    idle: int = 0
    peers: tuple[str, ...] = _ALL
    #: Workloads of the same group are measured in the same rounds.
    group: str = ""

    def smaller(self) -> Workload:
        """For a quick run."""
        command = dict(self.command)
        if self.service == "producer":
            command["size"] //= 4
            command["times"] = 1
        if command.get("pause"):
            command["pause"] /= 5
        if command["do"] == "stay":
            command["count"] //= 4
        return replace(self, command=command)


# -- Processes -----------------------------------------------------------------------------


class Process:
    """A process of the suite, which ends with its standard input."""

    def __init__(self, *arguments: str) -> None:
        self._name = " ".join(arguments)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        self.pid = self._process.pid

    def line(self) -> str:
        """What it says next.

        :raise WrongResultError: if it has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").splitlines()[-1:]
            raise WrongResultError(f"{self._name} ended with {': '.join([str(status), *last])}")
        return line.strip()

    def tell(self, line: str) -> None:
        """Say something to it."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: line() will say why
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def cpu(self) -> float:
        """Seconds of processor time that it has used, once it has nothing left to do."""
        # The clock of another process, see clock_getcpuclockid(3). While that runs it is behind.
        clock = (~self.pid << 3) | 2
        used, before = time.clock_gettime(clock), -1.0
        deadline = time.monotonic() + 1
        while used != before and time.monotonic() < deadline:
            time.sleep(0.003)
            used, before = time.clock_gettime(clock), used
        return used

    def resident(self, peak: bool = False) -> int:
        """Bytes of memory that it has, or had at most since :meth:`reset_peak`."""
        name = "VmHWM:" if peak else "VmRSS:"
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise WrongResultError("a process without memory")

    def reset_peak(self) -> bool:
        """Forget the most that it had. False if the system does not allow that."""
        try:
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        except OSError:
            return False
        return True

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            if file is not None:
                with suppress(BrokenPipeError):
                    file.close()


# -- Contestants ---------------------------------------------------------------------------


class WireContestant:
    """A peer in one of these workloads: its server and a client."""

    def __init__(self, workload: Workload, peer: Peer, quick: bool = False) -> None:
        self.workload = workload.smaller() if quick else workload
        self.peer = peer
        self.target = 0.05 if quick else 0.25
        self.command = dict(self.workload.command)
        self._processes: list[Process] = []

    def start(self) -> None:
        """Start the server."""
        self.server = self._process("benchmarks.serve", self.peer.name, self.workload.service)

    def connect(self) -> None:
        """Start the client, once the server listens, and do what comes first.

        :raise UnavailableError: if it can't.
        """
        port = self.server.line()
        if port.startswith("n/a: "):
            raise UnavailableError(port.removeprefix("n/a: "))
        self.client = self._process("benchmarks.client", port)
        if self.workload.idle:
            self._ask({"do": "stay", "count": self.workload.idle})
        if self.workload.first:
            self._ask(self.workload.first)
        self.server.cpu()  # once it has nothing left to do
        self.resident = self.server.resident()

    def prepare(self) -> float:
        """Find out what fills a sample."""
        check_descriptors(self.peer, self.workload)
        self.connect()
        if not self.workload.fresh:
            self.measure()  # opens the connections
        grows = self.workload.grows
        sample = self.measure()
        while grows and sample.wall < self.target:
            factor = min(max(self.target * 1.1 / sample.wall, 1.2), 10)
            self.command[grows] = int(self.command[grows] * factor) + 1
            sample = self.measure()
        if self.workload.fresh:
            self.close()
        return sample.wall

    def sample(self) -> Sample:
        """Measure once, with a new server if the workload wants one."""
        if not self.workload.fresh:
            return self.measure()
        self.start()
        try:
            self.connect()
            return self.measure()
        finally:
            self.close()

    def measure(self) -> Sample:
        """Let the client do its work, and see what that costs the server."""
        has_peak = self.server.reset_peak()
        cpu = self.server.cpu()
        answer = self._ask(self.command)
        cpu = self.server.cpu() - cpu
        memory = self.server.resident(peak=True) - self.resident if has_peak else None
        return Sample(**answer, cpu=cpu, memory=memory)

    def close(self) -> None:
        """End the processes."""
        while self._processes:
            self._processes.pop().end()

    def _process(self, *arguments: str) -> Process:
        process = Process(*arguments)
        self._processes.append(process)
        return process

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        self.client.tell(json.dumps(command))
        answer: dict[str, Any] = json.loads(self.client.line())
        return answer


class MemoryContestant(WireContestant):
    """What an idle connection costs the server."""

    def measure(self) -> Sample:
        """Open the connections, and see how much the server grows by each."""
        before = self.server.resident()
        sample = super().measure()
        return replace(sample, memory=(self.server.resident() - before) // sample.work)


def check_descriptors(peer: Peer, workload: Workload) -> None:
    """See that a server can have as many connections as a workload needs.

    :raise UnavailableError: if not.
    """
    count = _SPARE + workload.idle + workload.command.get("connections", 8)
    if workload.command["do"] == "stay":
        count += workload.first["count"] + workload.command["count"]
    if peer.name == "removed (select)" and count > 1024:
        raise UnavailableError("select() takes descriptors below 1,024")
    if count > descriptors():
        raise UnavailableError(f"{count:,} descriptors needed, the limit is {descriptors():,}")


# -- Workloads -----------------------------------------------------------------------------


def _exchange(name: str, about: str, connections: int, depth: int, **more: Any) -> Workload:
    command = {"do": "exchange", "connections": connections, "depth": depth, "times": 1}
    return Workload(name, about, "echo", command, "answer", "times", **more)


def _download(name: str, about: str, service: str, size: int, pause: float) -> Workload:
    # Several in a row: the first, after others had the machine, may cost twice what the next do.
    times = 2 if pause else 4
    command = {"do": "download", "size": size, "pause": pause, "times": times}
    first = {"do": "download", "size": MiB, "pause": 0, "times": 1}
    fresh = service == "push"
    return Workload(
        name, about, service, command, "64 KiB", first=first, fresh=fresh, peers=_SENDING
    )


def _idle(count: int) -> Workload:
    about = f"10 connections with one request of 60 bytes in flight each, among {count:,} idle"
    return _exchange(f"idle-{count}", about, 10, 1, idle=count, group="idle")


def _memory(name: str, which: str, answered: bool) -> Workload:
    return Workload(
        name,
        f"memory for each of 3,000 idle connections{which}, behind the first 1,000",
        "echo",
        {"do": "stay", "count": 3000, "answered": answered},
        "connection",
        first={"do": "stay", "count": 1000, "answered": answered},
        fresh=True,
        peers=(
            "AsyncChat",
            "drop-in",
            "drop-in over TransportSocket",
            "removed (poll)",
            "LineReceiver",
            "Protocol by hand",
            "asyncio Protocol",
        ),
    )


_PUSH = "64 MiB in one push"
_PRODUCER = "256 MiB from a producer"
_STOPS = ", to a reader that stops for half a second"

WORKLOADS = {
    workload.name: workload
    for workload in (
        _exchange("echo-1x1000", "echo of lines of 60 bytes, 1 connection 1,000 deep", 1, 1000),
        _exchange("echo-50x100", "echo of lines of 60 bytes, 50 connections 100 deep", 50, 100),
        _exchange("pingpong-1", "1 connection with one request of 60 bytes in flight", 1, 1),
        _exchange("pingpong-100", "100 connections with one request of 60 bytes each", 100, 1),
        _idle(0),
        _idle(1000),
        _idle(5000),
        _download("producer-256m", _PRODUCER, "producer", 256 * MiB, 0),
        _download("producer-256m-paused", _PRODUCER + _STOPS, "producer", 256 * MiB, PAUSE),
        _download("push-64m", _PUSH, "push", traffic.PUSHED, 0),
        _download("push-64m-paused", _PUSH + _STOPS, "push", traffic.PUSHED, PAUSE),
        Workload(
            "connect",
            "connect, one request, one answer, close; 8 at the same time",
            "once",
            {"do": "connect", "count": 20, "together": 8},
            "connection",
            "count",
        ),
        _memory("memory", "", answered=False),
        _memory("memory-answered", " that had an answer each", answered=True),
    )
}


#: Those in which it is the memory that is measured.
MEMORY = ("memory", "memory-answered")


def contestants(name: str, quick: bool) -> dict[tuple[str, str], WireContestant]:
    """All peers of a workload."""
    workload = WORKLOADS[name]
    kind = MemoryContestant if name in MEMORY else WireContestant
    return {(name, peer): kind(workload, PEERS[peer], quick) for peer in workload.peers}
