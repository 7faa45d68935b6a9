"""Services in a folder of the test's own, and the files that docs/operations.md shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import Running, Serve

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a service in the test's folder; it is ended after the test."""
    running: list[Running] = []

    def start(*arguments: str) -> Running:
        running.append(Running(tmp_path, *arguments))
        return running[-1]

    yield start
    for each in running:
        each.kill()


@pytest.fixture
def shown() -> Callable[[str], str]:
    """The content of a file that docs/operations.md shows."""

    def content(name: str) -> str:
        pattern = rf"<!-- file: {re.escape(name)} -->\n```\w+\n(.*?)```"
        (found,) = re.findall(pattern, OPERATIONS.read_text(), re.DOTALL)
        return str(found)

    return content
