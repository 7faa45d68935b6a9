"""README.md: what somebody does who has got a clone, and nothing else."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pages import ROOT, block, changed, commands

if TYPE_CHECKING:
    from docs.conftest import Terminal

LOCAL = "tcp:8007:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"
NOT_OF_A_CLONE = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build")
GAME = b"ann\r\nsay hello\r\nquit\r\n"

Open = Callable[..., "Terminal"]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder of programs in which ``python3`` is the interpreter of the tests, without more."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").symlink_to(os.path.realpath(sys.executable))
    return folder


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clean clone."""
    folder = tmp_path / "txasynchat"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_OF_A_CLONE))
    return folder


def install(terminal: Terminal, line: str) -> None:
    """Run a command with pip, which needs a package index."""
    try:
        terminal.run(line)
    except AssertionError as error:
        if "No matching distribution found" in str(error):
            pytest.skip("pip can get nothing from a package index here")
        raise


def test_a_clone_becomes_a_service_with_the_first_command(
    open_terminal: Open, clone: Path, bare: Path
) -> None:
    terminal = open_terminal(clone, bare)
    (shown,) = commands(block("README.md", "command: run"))
    *preparing, last = shown.line.split(" && ")
    install(terminal, " && ".join(preparing))
    job = terminal.start(f"{last} --listen {LOCAL[1]}")
    assert terminal.ask(job.port(), b"ECHO 5\nhello") == b"hello"


def test_the_guide_installs_as_the_first_command_does() -> None:
    (shown,) = commands(block("README.md", "command: run"))
    made = commands(block("getting-started.md", "python3 -m venv .venv"))
    lines = " && ".join(each.line for each in made)
    assert lines.replace("'.[tls]'", ".") == shown.line.rpartition(" && ")[0]


def test_the_guide_makes_its_environment_active(
    open_terminal: Open, tmp_path: Path, bare: Path
) -> None:
    (activate,) = commands(block("getting-started.md", ". .venv/bin/activate"))
    terminal = open_terminal(tmp_path, bare)
    terminal.run("python3 -m venv --without-pip .venv")
    said = terminal.run(f"{activate.line} && command -v python")
    assert said == f"{tmp_path}/.venv/bin/python\n"


def test_a_legacy_script_runs_with_two_commands_and_has_tls_with_one_more(
    open_terminal: Open, clone: Path, bare: Path, openssl: None
) -> None:
    folder = clone.parent / "mine"
    folder.mkdir()
    shutil.copy(clone / "examples/migration/mud_legacy.py", folder / "your_server.py")
    terminal = open_terminal(folder, bare)
    first, second = commands(
        block("README.md", "python3 -m venv .venv && .venv/bin/pip install '../txasynchat")
    )
    install(terminal, first.line)
    job = terminal.start(f"{second.line} 0")
    assert b"ann: hello\r\n" in terminal.ask(job.port(), GAME)

    (third,) = commands(block("README.md", ".venv/bin/python -m txasynchat serve"))
    (certificate,) = commands(block("README.md", "openssl req -x509"))
    terminal.run(certificate.line)
    job = terminal.start(
        changed(
            third.line,
            ("YourServer", "MudServer"),
            ("ssl:8443", "ssl:0:interface=127.0.0.1"),
        )
    )
    said = terminal.run(
        rf"printf '{GAME.decode().encode('unicode_escape').decode()}' | "
        f"openssl s_client -quiet -connect 127.0.0.1:{job.port('ssl')} 2>/dev/null"
    )
    assert "ann: hello" in said


def test_the_handler_of_the_readme_shouts_in_a_service(terminal: Terminal, nc: None) -> None:
    (terminal.folder / "shout.py").write_text(block("README.md", "from txasynchat import").text)
    (shown,) = commands(block("README.md", "twistd -n asynchat --handler shout:Upper"))
    job = terminal.start(changed(shown.line, LOCAL))
    said = terminal.run(rf"printf 'hi\nquit\n' | nc -q1 127.0.0.1 {job.port('tcp')}")
    assert said == "HI\nQUIT\n"
    job.wait_for("serving shout:Upper on unix:shout.sock")
