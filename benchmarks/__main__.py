"""``python -m benchmarks [NAME...]``: measure, print the tables, write JSON and plots."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import framing, wire
from benchmarks.measure import Contestant, Results, machine, run
from benchmarks.peers import PEERS
from benchmarks.report import render

#: All workloads, in the order of the reports.
WORKLOADS: dict[str, framing.Workload | wire.Workload] = {**framing.WORKLOADS, **wire.WORKLOADS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    options = _parser().parse_args(arguments)
    if options.list:
        for name, workload in WORKLOADS.items():
            print(f"{name:24} {workload.about}")
        return 0
    names = [name for name in WORKLOADS if name.startswith(tuple(options.names) or ("",))]
    rounds = options.rounds or (3 if options.quick else 7)
    results: Results = {
        "machine": machine(),
        "rounds": rounds,
        "quick": options.quick,
        "workloads": {},
    }
    for group in _groups(names):
        begin = time.monotonic()
        _measure(results, group, rounds, options)
        _log(f"{', '.join(group)}: {time.monotonic() - begin:.0f} s")
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(render(results), end="")
    if options.plots:
        from benchmarks.plots import draw

        draw(results, options.plots)
    peers = [peer for each in results["workloads"].values() for peer in each["peers"].values()]
    return 1 if any("failed" in peer for peer in peers) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure txasynchat beside what one would take instead.",
    )
    parser.add_argument(
        "names", nargs="*", type=_beginning, metavar="NAME", help="workloads, or how they begin"
    )
    parser.add_argument("--list", action="store_true", help="list the workloads")
    parser.add_argument("--rounds", type=_positive, help="samples of each (7; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small samples")
    parser.add_argument("--peers", type=_peers, default=(), metavar="A,B", help="only these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write SVG files there")
    return parser


def _beginning(text: str) -> str:
    if not any(name.startswith(text) for name in WORKLOADS):
        raise argparse.ArgumentTypeError(f"no workload begins with {text!r}; see --list")
    return text


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one")
    return number


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(each.strip() for each in text.split(","))
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"no peer is {name!r}, but {', '.join(PEERS)}")
    return names


def _groups(names: Sequence[str]) -> list[list[str]]:
    # Those that are compared with each other are measured in the same rounds.
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(getattr(WORKLOADS[name], "group", "") or name, []).append(name)
    return list(groups.values())


def _measure(
    results: Results, names: Sequence[str], rounds: int, options: argparse.Namespace
) -> None:
    contestants: dict[tuple[str, str], Contestant] = {}
    for name in names:
        workload: Any = WORKLOADS[name]
        over_wire = name in wire.WORKLOADS
        results["workloads"][name] = {
            "about": workload.about,
            "unit": workload.unit,
            "wire": over_wire,
            "peers": {},
        }
        contestants |= (wire if over_wire else framing).contestants(name, options.quick)
    chosen = {
        key: contestant
        for key, contestant in contestants.items()
        if not options.peers or key[1] in options.peers
    }
    for (name, peer), measured in run(chosen, rounds, _log).items():
        results["workloads"][name]["peers"][peer] = measured


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
