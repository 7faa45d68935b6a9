"""Services that are ended after their test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import HANDLERS, Running, Serve


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Run ``python -m txasynchat serve`` in a folder that has the handlers of both faces."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    running: list[Running] = []

    def start(*arguments: str, listen: str = "tcp:0:interface=127.0.0.1") -> Running:
        running.append(Running(tmp_path, "--listen", listen, *arguments))
        return running[-1]

    yield start
    for each in running:
        each.kill()
