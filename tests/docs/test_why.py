"""What the page that weighs this package against others says of them is so."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path

import pytest
from twisted.protocols.basic import Int32StringReceiver, LineReceiver

from txasynchat import AsyncChat

DOCS = Path(__file__).parents[2] / "docs"
#: The columns of the page's table, and who that is in the results.
COLUMNS = (
    ("AsyncChat",),
    ("drop-in",),
    ("LineReceiver", "Int32StringReceiver"),
    ("asyncio streams",),
    ("removed", "removed (poll)"),
)


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def shown() -> dict[str, list[str]]:
    """The page's figures, by the name of the workload."""
    rows = re.findall(r"^\| `([\w-]+)`: .*? (\|.*)$", (DOCS / "why.md").read_text(), re.MULTILINE)
    return {name: cells(row) for name, row in rows}


def measured(workload: str) -> dict[str, str]:
    """Who needed how much."""
    results = (DOCS / "performance" / "results.md").read_text()
    _, _, section = results.partition(f"### {workload}: ")
    rows = re.findall(r"^\|.*$", section.partition("\n###")[0], re.MULTILINE)
    return {row[0]: row[1] for row in map(cells, rows)}


@pytest.mark.parametrize("workload", shown())
def test_the_figures_are_those_that_were_measured(workload: str) -> None:
    found = measured(workload)
    for figure, names in zip(shown()[workload], COLUMNS, strict=True):
        assert figure == next((found[name] for name in names if name in found), ""), names


def test_the_table_of_figures_was_found() -> None:
    assert len(shown()) == 10


def test_the_longest_messages_are_those_of_the_others() -> None:
    text = (DOCS / "why.md").read_text()
    assert "| longest message, by default | 64 KiB | 16 KiB; 99,999 bytes | 64 KiB | none |" in text
    assert AsyncChat.max_message_length == 64 * 1024
    assert LineReceiver.MAX_LENGTH == 16 * 1024
    assert Int32StringReceiver.MAX_LENGTH == 99_999
    limit = inspect.signature(asyncio.StreamReader).parameters["limit"].default
    assert limit == 64 * 1024
