"""What must hold, as data: who costs how many times what ours costs, at least."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measure import Results, Spread, ratio, samples

_FACES = ("AsyncChat", "drop-in")
_REMOVED = ("removed (select)", "removed (poll)")
_ECHO = ("echo-1x1000", "echo-50x100")
_PRODUCER = ("producer-256m", "producer-256m-paused")
_PUSH = ("push-64m", "push-64m-paused")
_ON_TWISTED = "Protocol by hand"
_ON_SOCKETS = "bare epoll"


@dataclass(frozen=True)
class Goal:
    """In one workload, a floor for the ratio of a peer's cost to ours."""

    workload: str
    face: str
    peer: str
    floor: float
    #: "cpu", or "memory": then the ratio is ours to the peer's, and the floor is a ceiling.
    by: str = "cpu"
    #: The peer's workload, where it is another.
    against: str = ""
    #: Whose ratio to the peer shows what is possible in this language.
    limit: str = ""

    def measured(self, results: Results) -> Spread | None:
        """The ratio, if both were measured."""
        ours, theirs = (self.workload, self.face), (self.against or self.workload, self.peer)
        if self.by == "memory":
            ours, theirs = theirs, ours
        return ratio(results, ours, theirs, self.by)

    def possible(self, results: Results) -> Spread | None:
        """The same ratio of who shows the limit: a loop without any framework, say."""
        if not self.limit or self.limit == self.peer:
            return None
        return ratio(results, (self.workload, self.limit), (self.workload, self.peer))

    def holds(self, measured: Spread) -> bool:
        """Whether the median is on the right side."""
        if self.by == "memory":
            return measured.median <= self.floor
        return measured.median >= self.floor


@dataclass(frozen=True)
class MemoryGoal:
    """In one workload, so many bytes beyond what the server had, at most."""

    workload: str
    face: str
    bytes: int

    def measured(self, results: Results) -> int | None:
        """The most in any round, if it was measured."""
        found = [sample["memory"] for sample in samples(results, self.workload, self.face)]
        return max(found) if found and None not in found else None


def _line_goals() -> list[Goal]:
    goals = [
        Goal("lines-10-in-64k", "AsyncChat", "LineReceiver", 11, limit="bare split"),
        Goal("lines-10-in-64k", "AsyncChat", "bare split", 0.85),
        Goal("lines-10-in-64k", "drop-in", "removed", 11, limit="bare split"),
        Goal("lines-10-in-1460", "AsyncChat", "LineReceiver", 2.6, limit="bare split"),
        Goal("lines-10-in-1460", "drop-in", "removed", 3.8, limit="bare split"),
    ]
    had = {(goal.workload, goal.face, goal.peer) for goal in goals}
    for length in (10, 60, 1024):
        for chunk in ("64k", "1460", "7", "1"):
            workload = f"lines-{length}-in-{chunk}"
            least = 1.0 if workload == "lines-1024-in-1460" else 1.3
            for goal in (
                Goal(workload, "AsyncChat", "LineReceiver", 1.4, limit="bare split"),
                Goal(workload, "AsyncChat", "removed", 1.0, limit="bare split"),
                Goal(workload, "drop-in", "removed", least, limit="bare split"),
            ):
                if (goal.workload, goal.face, goal.peer) not in had:
                    goals.append(goal)
    return goals


def _framing_goals() -> list[Goal]:
    frames = (("16-in-64k", 1.0, 5.0), ("1m-in-64k", 6.0, 1.0), ("1m-in-1460", 35.0, 1.0))
    goals = []
    for name, floor, floor_of_drop_in in frames:
        workload = f"frames-{name}"
        goals += [
            Goal(workload, "AsyncChat", "Int32StringReceiver", floor, limit="bare find"),
            Goal(workload, "drop-in", "removed", floor_of_drop_in, limit="bare find"),
        ]
    for face in _FACES:
        goals += [
            Goal(workload, face, peer, floor)
            for workload in ("message-64m", "near-misses-66-in-7")
            for peer, floor in (("bare find", 0.95), ("removed", 5.0))
        ]
    return goals


def _wire_goals() -> list[Goal]:
    goals = [
        Goal("echo-1x1000", "AsyncChat", "LineReceiver", 3.0, limit=_ON_TWISTED),
        Goal("echo-50x100", "AsyncChat", "LineReceiver", 1.9, limit=_ON_TWISTED),
        *(Goal(each, "AsyncChat", _ON_TWISTED, 1.0) for each in _ECHO),
        *(
            Goal(each, "drop-in", peer, 1.2, limit=_ON_SOCKETS)
            for each in _ECHO
            for peer in _REMOVED
        ),
        *(
            Goal(each, "drop-in over TransportSocket", "LineReceiver", 1.5, limit=_ON_TWISTED)
            for each in _ECHO
        ),
    ]
    for workload, floor in (("pingpong-1", 0.9), ("pingpong-100", 1.1)):
        goals += [
            Goal(workload, "AsyncChat", "LineReceiver", 1.3, limit=_ON_TWISTED),
            Goal(workload, "AsyncChat", _ON_TWISTED, 0.98),
            *(Goal(workload, "drop-in", peer, floor, limit=_ON_SOCKETS) for peer in _REMOVED),
        ]
    goals += [
        Goal(workload, face, face, 0.95, against="idle-0")
        for workload in ("idle-1000", "idle-5000")
        for face in _FACES
    ]
    goals += [Goal("idle-1000", "drop-in", peer, 10.0, limit=_ON_SOCKETS) for peer in _REMOVED]
    for workloads, floor in ((_PRODUCER, 1.0), (_PUSH, 2.2)):
        for workload in workloads:
            goals.append(Goal(workload, "AsyncChat", _ON_TWISTED, 1.0))
            goals += [
                Goal(workload, "drop-in", peer, floor, limit=_ON_SOCKETS) for peer in _REMOVED
            ]
    return [
        *goals,
        Goal("connect", "AsyncChat", "LineReceiver", 0.95, limit=_ON_TWISTED),
        *(Goal("connect", "drop-in", peer, 0.9, limit=_ON_SOCKETS) for peer in _REMOVED),
        *(
            Goal(each, face, peer, 1.2, by="memory")
            for each in ("memory", "memory-answered")
            for face, peer in (("AsyncChat", _ON_TWISTED), ("drop-in", "removed (poll)"))
        ),
    ]


GOALS = [*_line_goals(), *_framing_goals(), *_wire_goals()]

MEMORY_GOALS = [MemoryGoal(workload, "drop-in", 2**20) for workload in _PUSH]
