"""Rounds, samples, ratios: what is the same for everything that is measured."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from benchmarks.peers import UnavailableError

#: One whose sample takes longer, in seconds, is measured in the first round only.
SLOW = 3.0

#: Distributions whose version a result depends on.
_DISTRIBUTIONS = ("Twisted", "txasynchat", "pyasynchat", "pyasyncore", "tornado", "uvloop")

#: The results of a run, as they stand in its JSON file.
Results = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One measurement of one peer. Seconds are for all of the work."""

    #: Messages, answers, pieces, connections.
    work: int
    #: Seconds of processor time: of this process in memory, of the server over sockets.
    cpu: float
    wall: float
    #: The client's, over sockets.
    client_cpu: float | None = None
    #: Bytes: of the server at its peak, beyond what it had; of one idle connection.
    memory: int | None = None


class Contestant(Protocol):
    """A peer in a workload."""

    def start(self) -> None:
        """Begin what takes a while to start."""

    def prepare(self) -> float:
        """Verify it, warm it up, and say how many seconds a sample takes.

        :raise UnavailableError: if it can't take part.
        """

    def sample(self) -> Sample:
        """Measure once."""

    def close(self) -> None:
        """The end, whatever has failed before."""


class WrongResultError(Exception):
    """What a peer made of the input is not what it should have."""


# -- Rounds ------------------------------------------------------------------------------


def run(
    contestants: Mapping[tuple[str, str], Contestant],
    rounds: int,
    log: Callable[[str], object] = lambda text: None,
) -> dict[tuple[str, str], dict[str, Any]]:
    """Measure all, interleaved: each round has one sample of each.

    :param contestants: by workload and peer.
    :return: by the same, the samples, or why there are none.
    """
    results: dict[tuple[str, str], dict[str, Any]] = {}
    limits: dict[tuple[str, str], int] = {}
    try:
        for contestant in contestants.values():
            contestant.start()
        for key, contestant in contestants.items():
            try:
                seconds = contestant.prepare()
            except UnavailableError as error:
                results[key] = {"absent": str(error)}
            except Exception as error:
                results[key] = {"absent": f"failed: {error}", "failed": True}
            else:
                results[key] = {"samples": []}
                limits[key] = 1 if seconds > SLOW else rounds
            if "absent" in results[key]:
                log(f"{key[0]}, {key[1]}: n/a: {results[key]['absent']}")
        for number in range(rounds):
            for key, limit in list(limits.items()):
                if number >= limit:
                    continue
                gc.collect()
                try:
                    results[key]["samples"].append(asdict(contestants[key].sample()))
                except Exception as error:
                    results[key] = {"absent": f"failed: {error}", "failed": True}
                    del limits[key]
                    log(f"{key[0]}, {key[1]}: failed: {error}")
    finally:
        for contestant in contestants.values():
            contestant.close()
    return results


# -- Ratios ------------------------------------------------------------------------------


class Spread(NamedTuple):
    """A median with its quartiles."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The median and the quartiles of some values."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, median, high)


def samples(results: Results, workload: str, peer: str) -> list[dict[str, Any]]:
    """All samples of a peer in a workload; none if it was not measured."""
    measured = results["workloads"].get(workload, {}).get("peers", {}).get(peer, {})
    return measured.get("samples", [])  # type: ignore[no-any-return]


def cost(sample: Mapping[str, Any], by: str) -> float:
    """What one piece of work costs: seconds of ``cpu`` or ``wall``, or bytes of ``memory``."""
    if by == "memory":
        return float(max(sample["memory"], 1))
    return float(sample[by] / sample["work"])


def ratio(
    results: Results, ours: tuple[str, str], theirs: tuple[str, str], by: str = "cpu"
) -> Spread | None:
    """How many times what ours costs theirs does: the median over the rounds.

    The ratio is formed within each round, where both ran one after the other.

    :param ours: workload and peer.
    :param theirs: the same of what it is compared with.
    :return: None where one of them was not measured.
    """
    ratios = [
        cost(their, by) / cost(our, by)
        for our, their in zip(samples(results, *ours), samples(results, *theirs), strict=False)
    ]
    return spread(ratios) if ratios else None


# -- Where it was measured ---------------------------------------------------------------


def machine() -> dict[str, Any]:
    """The processor, the interpreter and the versions of what was measured."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {
            name: version for name in _DISTRIBUTIONS if (version := _version(name)) is not None
        },
    }


def _processor() -> str:
    with_name = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return with_name[0] if with_name else platform.machine()


def _version(name: str) -> str | None:
    if name.startswith("pyasyn") and sys.version_info < (3, 12):
        return None  # the interpreter has its own
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
