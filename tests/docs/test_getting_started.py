"""docs/getting-started.md, command by command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pages import block, changed, commands

if TYPE_CHECKING:
    from docs.conftest import Terminal

TWISTD = block("getting-started.md", "twistd -n asynchat")
LOCAL = "tcp:8007:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"


@pytest.fixture
def folder(terminal: Terminal) -> Path:
    """A folder of one's own, with the files of the page."""
    for file in (
        block("getting-started.md", "file: greeter.py"),
        block("getting-started.md", "file: test_greeter.py"),
    ):
        (terminal.folder / file.file).write_text(file.text)
    return terminal.folder


def test_the_first_service_echoes(terminal: Terminal, nc: None) -> None:
    (start,) = commands(TWISTD)
    job = terminal.start(f"{start.line} --listen {LOCAL[1]}")
    (talk,) = commands(block("getting-started.md", "printf 'ECHO 5"))
    said = terminal.run(changed(talk.line, ("8007", str(job.port()))))
    assert said == talk.output.rstrip("\n")


def test_the_greeter_greets_on_both_endpoints(terminal: Terminal, folder: Path, nc: None) -> None:
    (start,) = commands(
        block("getting-started.md", "python -m txasynchat serve --handler greeter:Greeter")
    )
    job = terminal.start(changed(start.line, LOCAL))
    (talk,) = commands(block("getting-started.md", "printf 'world\\nnobody\\n' | nc"))
    assert terminal.run(changed(talk.line, ("8007", str(job.port("tcp"))))) == talk.output
    job.wait_for("serving greeter:Greeter on unix:")
    assert terminal.run(changed(talk.line, ("127.0.0.1 8007", "-U greeter.sock"))) == talk.output


def test_its_tests_pass(terminal: Terminal, folder: Path) -> None:
    install, test = commands(block("getting-started.md", "pip install pytest"))
    assert install.line == "pip install pytest"  # that is there
    said = terminal.run(f"{test.line} -p no:cacheprovider")
    in_any_time = re.compile(r" in [\d.]+s")
    assert in_any_time.sub("", said) == in_any_time.sub("", test.output)
