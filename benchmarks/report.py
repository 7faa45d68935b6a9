"""What was measured, as tables: ``python -m benchmarks.report FILE [--markdown] [--plots DIR]``."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.goals import GOALS, MEMORY_GOALS, Goal
from benchmarks.measure import Results, Spread, cost, ratio, samples
from benchmarks.wire import MEMORY

#: Of the wall time: a client that is busier than this limits the server.
_BUSY = 0.9

_PREFIXES = ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1.0, "s"))


def render(results: Results, markdown: bool = False) -> str:
    """All of it: the machine, the goals, a table for each workload."""
    page = _Page(markdown)
    page.paragraph(_where(results))
    page.heading("Goals")
    page.table(("workload", "ours", "beside", "goal", "measured", "limit", ""), _goals(results))
    if "idle-0" in results["workloads"]:
        page.heading("Among idle connections: what none idle costs, to what so many cost")
        page.table(("peer", "1,000 idle", "5,000 idle"), _among_idle(results))
    for name, workload in results["workloads"].items():
        page.heading(f"{name}: {workload['about']}")
        if name in MEMORY:
            page.table(("peer", "bytes", "AsyncChat", "drop-in"), _memory(results, name))
        else:
            head = ["peer", f"CPU per {workload['unit']}", "wall", "AsyncChat", "drop-in"]
            head += ["AsyncChat, wall", ""] if workload["wire"] else [""]
            page.table(head, _workload(results, name))
    return page.text()


class _Page:
    # Headings and tables, plain or in Markdown.

    def __init__(self, markdown: bool) -> None:
        self.markdown = markdown
        self.parts: list[str] = []

    def heading(self, text: str) -> None:
        self.parts.append(f"### {text}" if self.markdown else f"{text}\n{'-' * len(text)}")

    def paragraph(self, text: str) -> None:
        self.parts.append(text)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        body = [tuple(row) for row in rows]
        if not body:
            self.parts.append("not measured")
        elif self.markdown:
            lines = [head, ["---"] * len(head), *body]
            self.parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        else:
            widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
            self.parts.append(
                "\n".join(
                    "  ".join(
                        cell.ljust(width) for cell, width in zip(line, widths, strict=True)
                    ).rstrip()
                    for line in (head, *body)
                )
            )

    def text(self) -> str:
        return "\n\n".join(self.parts) + "\n"


def _where(results: Results) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; "
        f"{machine['python']}; {versions}; {results['rounds']} rounds"
        + (" of small samples" if results["quick"] else "")
        + "."
    )


# -- Tables ------------------------------------------------------------------------------


def _goals(results: Results) -> Iterable[Sequence[str]]:
    for name in results["workloads"]:
        yield from (_goal(results, goal) for goal in GOALS if goal.workload == name)
    for other in MEMORY_GOALS:
        if other.workload in results["workloads"]:
            most = other.measured(results)
            said, verdict = "", _reason(results, other.workload, other.face) or "n/a"
            if most is not None:
                said = f"{most / 2**20:.1f} MiB"
                verdict = "holds" if most < other.bytes else "MISSED"
            limit = f"< {other.bytes // 2**20} MiB"
            yield other.workload, other.face, "extra memory", limit, said, "", verdict


def _goal(results: Results, goal: Goal) -> Sequence[str]:
    beside = goal.against or goal.peer
    bound = f"{'<=' if goal.by == 'memory' else '>='} {goal.floor:g}"
    measured, possible = goal.measured(results), goal.possible(results)
    limit = f"{possible.median:.2f}" if possible is not None else ""
    if measured is None:
        reason = _reason(results, goal.workload, goal.face) or _reason(
            results, goal.against or goal.workload, goal.peer
        )
        return goal.workload, goal.face, beside, bound, "", limit, reason
    verdict = "holds" if goal.holds(measured) else "MISSED"
    if verdict == "MISSED" and possible is not None and not goal.holds(possible):
        verdict = "out of reach"
    return goal.workload, goal.face, beside, bound, _spread(measured), limit, verdict


def _among_idle(results: Results) -> Iterable[Sequence[str]]:
    for peer in results["workloads"].get("idle-0", {}).get("peers", {}):
        ratios = [
            ratio(results, (workload, peer), ("idle-0", peer))
            for workload in ("idle-1000", "idle-5000")
        ]
        if any(ratios):
            yield peer, *map(_spread, ratios)


def _workload(results: Results, name: str) -> Iterable[Sequence[str]]:
    workload = results["workloads"][name]
    for peer in workload["peers"]:
        measured = samples(results, name, peer)
        against = [
            _spread(ratio(results, (name, face), (name, peer))) for face in ("AsyncChat", "drop-in")
        ]
        if workload["wire"]:
            against.append(_spread(ratio(results, (name, "AsyncChat"), (name, peer), "wall")))
        if not measured:
            yield peer, "", "", *("" for _ in against), _reason(results, name, peer)
            continue
        costs = [statistics.median(cost(each, by) for each in measured) for by in ("cpu", "wall")]
        yield peer, *map(seconds, costs), *against, _remarks(measured, results["rounds"])


def _memory(results: Results, name: str) -> Iterable[Sequence[str]]:
    for peer in results["workloads"][name]["peers"]:
        measured = samples(results, name, peer)
        if not measured:
            yield peer, "", "", _reason(results, name, peer)
            continue
        against = [
            _spread(ratio(results, (name, face), (name, peer), "memory"))
            for face in ("AsyncChat", "drop-in")
        ]
        yield peer, f"{statistics.median(each['memory'] for each in measured):,.0f}", *against


def _remarks(measured: Sequence[dict[str, Any]], rounds: int) -> str:
    remarks = []
    if measured[0]["client_cpu"] is not None:
        busy = statistics.median(each["client_cpu"] / each["wall"] for each in measured)
        server = statistics.median(each["cpu"] / each["wall"] for each in measured)
        if busy > _BUSY and server < busy:
            remarks.append("client-bound")
        memory = max(each["memory"] or 0 for each in measured)
        if memory >= 2**20:
            remarks.append(f"+{memory / 2**20:.0f} MiB")
    if len(measured) == 1 < rounds:
        remarks.append("one round")
    return ", ".join(remarks)


def _reason(results: Results, workload: str, peer: str) -> str:
    measured = results["workloads"].get(workload, {}).get("peers", {}).get(peer)
    if measured is None:
        return "n/a: not in this run"
    return f"n/a: {measured['absent']}" if "absent" in measured else ""


def _spread(value: Spread | None) -> str:
    if value is None:
        return ""
    return f"{value.median:.2f} ({value.low:.2f}-{value.high:.2f})"


def seconds(value: float) -> str:
    """A time, with three digits and its unit."""
    scale, unit = next((each for each in _PREFIXES if value < 1000 * each[0]), _PREFIXES[-1])
    number = value / scale
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} {unit}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("file", type=Path, help="what python -m benchmarks --json wrote")
    parser.add_argument("--markdown", action="store_true", help="Markdown tables")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write SVG files there")
    options = parser.parse_args(arguments)
    results = json.loads(options.file.read_text())
    print(render(results, options.markdown), end="")
    if options.plots:
        from benchmarks.plots import draw

        draw(results, options.plots)


if __name__ == "__main__":
    main()
