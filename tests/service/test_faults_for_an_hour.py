"""An hour's worth of faults: nothing is lost without a reason, nothing is left behind.

Hundreds of clients at once do to one process, over TCP, TLS and UNIX sockets and to handlers
of both faces, what ``fault_driver.py`` has scenarios for. ``TXASYNCHAT_FAULTS_SECONDS`` and
``TXASYNCHAT_FAULTS_SEED`` change how long that lasts, and what each client does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trustme
from service.fault_driver import FAULTS, Client, Driver, Record, Talks, Target
from support import bare_environment

PROGRAM = Path(__file__).with_name("fault_server.py")
SECONDS = float(os.environ.get("TXASYNCHAT_FAULTS_SECONDS", 600))
SEED = int(os.environ.get("TXASYNCHAT_FAULTS_SEED", 5))
AT_ONCE = 100
ACCEPTED_LATE = 0.5  # seconds that a client may have to wait, at most, among so many
MIB = 1 << 20

if not Path("/proc/self/smaps_rollup").exists():
    pytest.skip("what is in a process is read from /proc, which Linux has", allow_module_level=True)


class Server:
    """The process with the services, and what it tells of itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._control, theirs = socket.socketpair()
        with theirs, (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(folder), str(theirs.fileno())],
                env=bare_environment(),
                pass_fds=[theirs.fileno()],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._answers = self._control.makefile("rb")

    def ask(self, command: str, *arguments: object) -> Any:
        self._control.sendall(json.dumps([command, *arguments]).encode() + b"\n")
        answer = json.loads(self._answers.readline())
        assert not isinstance(answer, str), answer
        return answer

    def targets(self) -> list[Target]:
        return [
            Target(face, kind, port, self.folder / face)
            for face, ports in self.ask("ports").items()
            for kind, port in ports.items()
        ]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def journal(self) -> Iterator[list[Any]]:
        with (self.folder / "journal").open() as lines:
            yield from map(json.loads, lines)

    def processor_time(self) -> float:
        """Seconds that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        self._answers.close()
        self._control.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    made = Server(tmp_path)
    try:
        yield made
    finally:
        made.kill()


def driver_for(server: Server) -> Driver:
    return Driver(server.targets(), server.folder / "authority.pem", SEED)


# -- The faults ---------------------------------------------------------------------------


def test_some_seconds_of_faults(server: Server) -> None:
    endure(server, 3)


@pytest.mark.slow
def test_an_hour_of_faults_in_ten_minutes(server: Server) -> None:
    endure(server, SECONDS)


def endure(server: Server, seconds: float) -> None:
    driver = driver_for(server)
    driver.run_each(AT_ONCE)
    if seconds > 60:
        driver.run(60, AT_ONCE)
    before = server.ask("measure")
    with shortages_of_descriptors(server) as shortages:
        driver.run(seconds, AT_ONCE)
    after = server.ask("measure")
    report(server, driver.records, before, after, len(shortages))
    assert not difference(before["left"], after["left"]), "nothing is left behind"
    complaints = Account(server, shortages).complaints(driver.records)
    assert not complaints, "\n".join(complaints[:20])
    assert after["blocks"] <= before["blocks"] * 1.05, "blocks of memory"
    # It takes some minutes until there are no more holes to be filled.
    assert seconds < 60 or after["resident"] <= before["resident"] * 1.05, "resident memory"
    assert server.end() == 0


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What is other than it was: how it was and how it is."""
    flat = [
        {**each, **{f"{kind} objects": n for kind, n in each["objects"].items()}, "objects": 0}
        for each in (before, after)
    ]
    return {
        what: [each.get(what, 0) for each in flat]
        for what in sorted({*flat[0], *flat[1]})
        if flat[0].get(what, 0) != flat[1].get(what, 0)
    }


@contextmanager
def shortages_of_descriptors(server: Server) -> Iterator[list[tuple[float, float]]]:
    """Every now and then the process may open hardly any more: from when to when."""
    shortages: list[tuple[float, float]] = []
    over = threading.Event()
    random = Random(SEED)

    def run() -> None:
        while not over.wait(1 + random.random() * 2):
            began = time.monotonic()
            server.ask("descriptors", random.randint(0, 5))
            over.wait(random.random() / 2)
            server.ask("descriptors", None)
            shortages.append((began, time.monotonic()))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield shortages
    finally:
        over.set()
        thread.join()


def report(server: Server, records: list[Record], before: Any, after: Any, shortages: int) -> None:
    print(f"seed {SEED}: {len(records)} connections, {shortages} shortages of descriptors")
    print(f"out of descriptors {server.ask('exhausted')} times")
    print(f"left behind: {difference(before['left'], after['left'])}")
    for what, unit in (("blocks", 1), ("resident", MIB)):
        was, now = before[what] / unit, after[what] / unit
        print(f"{what} of memory: {was:.2f} before, {now:.2f} after ({now / was - 1:+.2%})")
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    ended = {
        peer: fields["reason"]
        for event, peer, fields, *_ in server.journal()
        if event == "connection ended"
    }
    for record in records:
        reasons[record.scenario.__name__][ended.get(record.peer, "never accepted")] += 1
    for name, counts in sorted(reasons.items()):
        print(f"  {name}: {', '.join(f'{n} {why}' for why, n in counts.most_common())}")


class Account:
    """What the service says that it did, to be compared with what its clients did."""

    def __init__(self, server: Server, shortages: list[tuple[float, float]]) -> None:
        self.shortages = shortages
        self.opened: Counter[str] = Counter()
        self.ended: defaultdict[str, list[Any]] = defaultdict(list)
        self.handled: defaultdict[str, list[str]] = defaultdict(list)
        self.failures: defaultdict[str, list[Any]] = defaultdict(list)
        for event, peer, *rest in server.journal():
            if event == "connection opened":
                self.opened[peer] += 1
            elif event == "connection ended":
                self.ended[peer].append(rest[0])
            elif event == "handled":
                self.handled[peer].append(rest[0])
            else:
                self.failures[peer].append(rest)

    def complaints(self, records: list[Record]) -> list[str]:
        peers = {record.peer: record for record in records}
        assert len(peers) == len(records), "each has its own address"
        found = [f"{record}: {what}" for record in records for what in self.about(record)]
        for peer, failures in self.failures.items():
            record = peers.get(peer)
            if record is None or not record.scenario.failures or len(failures) > 1:
                found += [f"{record or peer}: logged: {each}" for each in failures]
        return found

    def about(self, record: Record) -> Iterator[str]:
        """What does not fit together."""
        scenario, peer = record.scenario, record.peer
        if not self.opened[peer]:
            if not self.in_a_shortage(record):
                yield "never accepted"
            return
        if record.problem:
            yield record.problem
        if self.opened[peer] != 1 or len(self.ended[peer]) != 1:
            yield f"opened {self.opened[peer]} times, ended {self.ended[peer]}"
            return
        (end,) = self.ended[peer]
        if end["reason"] not in scenario.reasons:
            yield f"ended by {end['reason']} ({end['detail']})"
        handled, sent = self.handled[peer], record.sent
        if handled != sent[: len(handled)]:
            yield f"handled {handled} of {sent}"
        if record.answered != sent[: len(record.answered)] or len(record.answered) > len(handled):
            yield f"answered {record.answered} of {handled}"
        if end["messages_in"] != len(handled):
            yield f"handled {len(handled)}, counted {end['messages_in']}"
        if scenario.lost is not None and len(handled) < len(sent) - scenario.lost:
            yield f"handled {len(handled)} of {len(sent)}, and ended by {end['reason']}"
        if scenario.answered and len(record.answered) < len(sent):
            yield f"answered {len(record.answered)} of {len(sent)}"

    def in_a_shortage(self, record: Record) -> bool:
        # Who waits for no answer may be gone before the service comes to accept it.
        late = record.ended + ACCEPTED_LATE
        return any(record.began <= end and begin <= late for begin, end in self.shortages)


# -- Out of descriptors -----------------------------------------------------------------


def test_out_of_descriptors_it_does_not_spin_and_goes_on_afterwards(server: Server) -> None:
    driver = driver_for(server)
    server.ask("descriptors", 10)
    with ExitStack() as clients:
        burst = 0
        before = server.processor_time()
        until = time.monotonic() + 1
        while time.monotonic() < until:
            record = Record(10**6 + burst, Talks, driver.targets[burst % len(driver.targets)])
            client = Client(record, Random(burst))
            clients.callback(client.sock.close)
            with suppress(*FAULTS):
                client.connect()
            burst += burst < 300
        used = server.processor_time() - before
        exhausted = server.ask("exhausted")
    server.ask("descriptors", None)
    print(f"{burst} connections, out of descriptors {exhausted} times, {used:.2f} s of CPU in 1 s")
    assert exhausted > 0
    assert used < 0.5
    for target in driver.targets:
        record = driver.once(Talks, target)
        assert not record.problem, record
        assert record.answered == record.sent
