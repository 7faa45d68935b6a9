"""Services that are ended after their test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import HANDLERS, Running, Serve, starting


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Run ``python -m txasynchat serve`` in a folder that has the handlers of both faces."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    with starting(tmp_path) as start:

        def serve(*arguments: str, listen: str = "tcp:0:interface=127.0.0.1") -> Running:
            return start("--listen", listen, *arguments)

        yield serve
