"""A pytest plugin: the fixture ``chat``, which every project has that installs txasynchat.

It is loaded with each start of pytest, so what it needs is imported only when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from txasynchat.testing import Conversation

__all__ = ("chat",)


@pytest.fixture
def chat() -> Iterator[Callable[..., Conversation]]:
    """Connects handlers as ``txasynchat.testing.connect()`` does, and ends the connections.

    The test fails if one of the handlers raised, unless that was taken by ``take_errors()``.
    """
    from txasynchat.testing import connect

    talks: list[Conversation] = []

    def connected(handler: Any, **options: Any) -> Conversation:
        talk = connect(handler, **options)
        talks.append(talk)
        return talk

    yield connected
    for talk in talks:
        talk.leave()
    for talk in talks:
        talk.end()
