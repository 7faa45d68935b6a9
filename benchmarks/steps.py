"""Where the work of a workload in memory is: ``python -m benchmarks.steps NAME [--peers A,B]``.

Counts the steps of the interpreter, its bytecodes, by function, for each message and each chunk.
Unlike times they are the same whenever they are counted; but one may take twenty times as long as
another.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.framing import WORKLOADS, InMemoryContestant, Workload, chunks, messages
from benchmarks.peers import PEERS, UnavailableError

#: Bytes that are enough to see the average, and functions that are shown.
_ENOUGH = 20_000
_SHOWN = 8


class Stepped:
    """Put before a handler: counts the steps of all that it does with its input."""

    steps: Counter[str]

    def feed(self, chunks: Sequence[bytes]) -> None:
        """Take the chunks."""
        fed: Any = super()
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            fed.feed(chunks)
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        code: Any = frame.f_code  # co_qualname is there since Python 3.11
        name = f"{Path(code.co_filename).stem}.{getattr(code, 'co_qualname', code.co_name)}"
        frame.f_trace_opcodes, frame.f_trace_lines = True, False

        def step(frame: FrameType, event: str, argument: object) -> Any:
            if event == "opcode":
                self.steps[name] += 1
            return step

        return step


def count(workload: Workload, peer: str) -> tuple[Counter[str], int, int]:
    """Feed a little of a workload to a peer.

    :return: the steps of each function; how many messages that were, in how many chunks.
    :raise UnavailableError: if the peer takes no part in it.
    """
    few = replace(workload, stream=max(_ENOUGH, 2 * (workload.length + 4)))
    contestant = InMemoryContestant(few, PEERS[peer], quick=True)
    contestant.target = 0
    contestant.prepare()
    steps: Counter[str] = Counter()
    contestant.kind = type("Stepped", (Stepped, contestant.kind), {"steps": steps})
    sample = contestant.sample()
    return steps, sample.work, len(chunks(few, messages(few, quick=True)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the steps of some peers."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steps",
        description="Count the steps of the interpreter for each message, by function.",
    )
    parser.add_argument("name", choices=sorted(WORKLOADS), metavar="NAME", help="a workload")
    parser.add_argument("--peers", metavar="A,B", help="only these, by their names")
    options = parser.parse_args(arguments)
    workload = WORKLOADS[options.name]
    for peer in options.peers.split(",") if options.peers else workload.peers:
        try:
            steps, found, pieces = count(workload, peer)
        except UnavailableError as error:
            print(f"{peer}: n/a: {error}")
            continue
        print(f"{peer}\n{workload.unit:>12} {'chunk':>12}")
        rows = [("all", sum(steps.values())), *steps.most_common(_SHOWN)]
        for name, number in rows:
            print(f"{number / found:12,.1f} {number / pieces:12,.1f}  {name}")


if __name__ == "__main__":
    main()
