"""The fuzzing harnesses work: on their stored corpus, and on inputs made up here.

Without atheris, which looks for inputs much harder: see ``fuzz/README.md``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import common
import framing
import legacy_smtp
import pytest

from txasynchat.core.framing import Framer
from txasynchat.legacy.transport_socket import TransportSocket

FUZZ = Path(__file__).parents[2] / "fuzz"
HARNESSES = [framing, legacy_smtp]


def corpus(harness: ModuleType) -> list[bytes]:
    """The stored inputs of a harness."""
    return [each.read_bytes() for each in sorted((FUZZ / "corpus" / harness.__name__).iterdir())]


def stored() -> Iterator[Any]:
    for harness in HARNESSES:
        for path in sorted((FUZZ / "corpus" / harness.__name__).iterdir()):
            yield pytest.param(harness, path, id=f"{harness.__name__}-{path.name}")


def words() -> list[bytes]:
    """What the dictionary has."""
    text = (FUZZ / "legacy_smtp.dict").read_text(encoding="ascii")
    found = re.findall(r'^\w*=?"(.*)"$', text, re.MULTILINE)
    return [each.encode("ascii").decode("unicode_escape").encode("latin-1") for each in found]


def mutated(data: bytes, chance: random.Random, parts: list[bytes]) -> bytes:
    """`data` with some bytes changed, left out and put in."""
    result = bytearray(data)
    for _ in range(chance.randrange(6)):
        at = chance.randrange(len(result) + 1)
        what = chance.randrange(4)
        if what == 0:
            result[at:at] = chance.choice(parts)
        elif what == 1:
            result[at:at] = chance.randbytes(chance.randrange(4))
        elif what == 2:
            del result[at : at + chance.randrange(10)]
        else:
            result[at : at + 1] = chance.randbytes(1)
    return bytes(result)


def inputs(harness: ModuleType, seed: int, number: int) -> Iterator[bytes]:
    """So many inputs: made of stored ones, and of words."""
    chance, seeds = random.Random(seed), corpus(harness)
    parts = words() if harness is legacy_smtp else seeds
    for _ in range(number):
        if chance.randrange(2):
            data = chance.choice(seeds)
        else:
            data = chance.randbytes(1 + chance.randrange(8))
            data += b"".join(chance.choice(parts) for _ in range(chance.randrange(20)))
        yield mutated(data, chance, parts)


@pytest.fixture(autouse=True)
def limits_are_logged(logged_failures: Callable[[], list[str]]) -> Iterator[None]:
    """Take what is logged of messages that are too long; nothing else is."""
    yield
    others = [each for each in logged_failures() if "raise max_message_length" not in each]
    assert not others


@pytest.mark.parametrize(("harness", "path"), list(stored()))
def test_a_stored_input_shows_nothing(harness: ModuleType, path: Path) -> None:
    harness.one_input(path.read_bytes())


@pytest.mark.parametrize("harness", HARNESSES, ids=lambda each: str(each.__name__))
@pytest.mark.parametrize("seed", range(4))
def test_inputs_made_up_show_nothing(harness: ModuleType, seed: int) -> None:
    for data in inputs(harness, seed, 150):
        try:
            harness.one_input(data)
        except Exception as error:
            raise AssertionError(f"the input {data!r} shows something") from error


@pytest.mark.parametrize("harness", HARNESSES, ids=lambda each: str(each.__name__))
def test_an_empty_input_shows_nothing(harness: ModuleType) -> None:
    harness.one_input(b"")


# -- A harness that never finds anything would look the same ----------------------------------


def broken_take(take: Callable[..., bytes]) -> Callable[..., bytes]:
    """A framer's _take() that holds back a byte less than what may be a terminator."""

    def wrapper(self: Framer, literal: bytes | None, pos: int, end: int, keep: int) -> bytes:
        return take(self, literal, pos, end, max(keep - 1, 0))

    return wrapper


def broken_recv(recv: Callable[..., bytes]) -> Callable[..., bytes]:
    """A socket's recv() that loses a byte now and then."""

    def wrapper(self: TransportSocket, bufsize: int, flags: int = 0) -> bytes:
        data = recv(self, bufsize, flags)
        return data[:-1] if len(data) > 40 else data

    return wrapper


def finds(harness: ModuleType) -> bool:
    """Whether the stored inputs show something."""
    for data in corpus(harness):
        try:
            harness.one_input(data)
        except common.Finding:
            return True
    return False


def test_the_harness_finds_a_framer_that_misses_terminators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Framer, "_take", broken_take(Framer._take))
    assert finds(framing)


def test_the_harness_finds_a_socket_that_loses_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TransportSocket, "recv", broken_recv(TransportSocket.recv))
    assert finds(legacy_smtp)


def test_the_harness_finds_a_timer_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_again(self: TransportSocket, reason: object) -> None:
        lost(self, reason)
        self._transport.reactor.callLater(1e9, int)

    lost: Any = TransportSocket.lost
    monkeypatch.setattr(TransportSocket, "lost", lose_again)
    assert finds(legacy_smtp)


def test_the_harness_finds_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(self: TransportSocket, data: bytes) -> bool:
        if data.startswith(b"221"):
            self._gathered.append(None)  # type: ignore[arg-type]
            self._flush()
        return bool(before(self, data))

    before: Any = TransportSocket.gather
    monkeypatch.setattr(TransportSocket, "gather", gather)
    assert finds(legacy_smtp)
