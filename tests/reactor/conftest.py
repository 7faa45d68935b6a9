"""Connections over real transports: TCP, UNIX, TLS, and one in memory beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
import trustme
from support import Link, MemoryLink, SocketLink


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority of the tests' own."""
    return trustme.CA()


@pytest.fixture
def link(
    request: pytest.FixtureRequest, tmp_path: Path, authority: trustme.CA
) -> Iterator[Callable[..., Link]]:
    """Makes a connection over the transport that the test is parametrized with."""
    links: list[Link] = []

    def make(kind: str, chat: Any) -> Link:
        made = (
            MemoryLink(chat)
            if kind == "memory"
            else SocketLink(chat, kind, str(tmp_path / "socket"), authority)
        )
        links.append(made)
        return made

    yield make
    from twisted.internet import reactor

    for each in links:
        pytest_twisted.blockon(each.end().addTimeout(10, reactor))
