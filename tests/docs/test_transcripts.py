"""docs/transcripts.md: a conversation is recorded, shown, and played again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from pages import PAGES, block, blocks, changed, commands

if TYPE_CHECKING:
    from docs.conftest import Terminal

RECORD = commands(
    block("transcripts.md", "python -m txasynchat serve --trace trace.jsonl --trace-mask")
)[0].line
SHOW = commands(block("transcripts.md", "python -m txasynchat show"))[0].line
REPLAY = commands(block("transcripts.md", "python -m txasynchat replay"))[0].line


@pytest.fixture
def here(terminal: Terminal) -> Terminal:
    """A terminal where the modules are that the commands name."""
    (page,) = [each for each in PAGES if each.name == "transcripts.md"]
    (masks,) = [each.text for each in blocks(page) if "passwords = mask_after(" in each.text]
    (terminal.folder / "masks.py").write_text(masks)
    shout = block("README.md", "from txasynchat import AsyncChat").text
    (terminal.folder / "shout.py").write_text(shout)
    return terminal


def record(terminal: Terminal, said: bytes, *options: str) -> None:
    """Record one conversation with a service."""
    listen = "--listen tcp:0:interface=127.0.0.1"
    job = terminal.start(f"exec {RECORD} {listen} {' '.join(options)}")
    terminal.ask(job.port("tcp"), said)
    job.stop()


def test_a_conversation_is_shown_in_lines_like_those_of_the_page(here: Terminal) -> None:
    record(here, b"ECHO 5\nhello")
    shown = block("transcripts.md", "     +0.000000    1  open,")
    assert without_numbers(here.run(SHOW)) == without_numbers(shown.text)


def without_numbers(text: str) -> str:
    # Times, dates and ports.
    return re.sub(r"\d+", "N", re.sub(r"\d+-\d+-\d+ \d+:\d+:\d+", "TIME", text))


def test_the_mask_that_is_named_hides_passwords(here: Terminal) -> None:
    record(here, b"pass secret\r\n", "--handler shout:Upper")
    assert "secret" not in (here.folder / "trace.jsonl").read_text()


def test_a_handler_that_answers_as_it_did_is_told_so_in_one_line(here: Terminal) -> None:
    record(here, b"hello\nquit\n", "--handler shout:Upper")
    assert here.run(REPLAY).endswith(": all as recorded\n")


def test_a_handler_that_answers_otherwise_is_told_in_the_line_that_is_shown(here: Terminal) -> None:
    path, trace = here.folder / "shout.py", here.folder / "trace.jsonl"
    path.write_text(path.read_text().replace(r'b"\r\n")', r'b"\n")'))  # the page's lines end so
    record(here, b"hello\n", "--handler shout:Upper")
    # As if it had come in two pieces.
    first, second = (f'"data": "{piece}"' for piece in ("hel", r"lo\n"))
    opening, came, *rest = trace.read_text().splitlines(keepends=True)
    pieces = [changed(came, (r'"data": "hello\n"', each)) for each in (first, second)]
    trace.write_text("".join([opening, *pieces, *rest]))
    path.write_text(path.read_text().replace("line.upper()", "line.title()"))
    shown = block("transcripts.md", "trace.jsonl:4: connection 1: expected").text
    assert here.run(REPLAY, status=1) == shown
