"""What was measured, as pictures: one SVG file for each family of workloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.measure import Results, cost, samples, spread
from benchmarks.wire import MEMORY

#: The pictures, and the beginnings of the names of what is in them.
_FAMILIES = {
    "lines": ("lines-",),
    "frames": ("frames-",),
    "messages": ("message-", "near-misses-"),
    "echo": ("echo-", "pingpong-"),
    "idle": ("idle-",),
    "sending": ("producer-", "push-"),
    "connections": ("connect", "memory", "memory-answered"),
}
_OURS = ("AsyncChat", "drop-in", "drop-in over TransportSocket")


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what is in the results.

    :return: the files that were written.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.hashsalt": "txasynchat", "svg.fonttype": "none", "font.size": 8}
    )
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for family, beginnings in _FAMILIES.items():
        names = [name for name in results["workloads"] if name.startswith(beginnings)]
        if names:
            written.append(folder / f"{family}.svg")
            _draw_family(results, names, written[-1])
    return written


def _draw_family(results: Results, names: list[str], file: Path) -> None:
    from matplotlib import pyplot

    columns = min(len(names), 2)
    rows = -(-len(names) // columns)
    peers = max(len(results["workloads"][name]["peers"]) for name in names)
    figure, axes = pyplot.subplots(
        rows, columns, squeeze=False, figsize=(5 * columns, rows * (0.7 + 0.2 * peers))
    )
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        _draw_workload(axis, results, name)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _draw_workload(axis: Any, results: Results, name: str) -> None:
    workload = results["workloads"][name]
    by, scale, unit = ("memory", 1, "bytes") if name in MEMORY else ("cpu", 1e6, "us of CPU")
    peers = [peer for peer in workload["peers"] if samples(results, name, peer)]
    costs = [
        spread([scale * cost(each, by) for each in samples(results, name, peer)]) for peer in peers
    ]
    axis.barh(
        range(len(peers)),
        [each.median for each in costs],
        xerr=[
            [each.median - each.low for each in costs],
            [each.high - each.median for each in costs],
        ],
        color=["tab:blue" if peer in _OURS else "silver" for peer in peers],
        error_kw={"elinewidth": 0.8},
    )
    axis.set_yticks(range(len(peers)), peers)
    axis.invert_yaxis()
    axis.set_title(name)
    axis.set_xlabel(f"{unit} per {workload['unit']}")
    medians = [each.median for each in costs]
    if medians and max(medians) > 20 * min(medians):
        axis.set_xscale("log")
