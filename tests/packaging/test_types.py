"""The types of what is installed: all there, and of use in both styles, without a plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from building import ROOT, Venv, run
from support import bare_environment

SNIPPETS = ROOT / "tests" / "snippets"
PROGRAMS = [*sorted(SNIPPETS.glob("*.py")), ROOT / "tests" / "legacy" / "typed_program.py"]

needs_mypy = pytest.mark.skipif(find_spec("mypy") is None, reason="mypy comes with the extra lint")
needs_pyright = pytest.mark.skipif(
    find_spec("pyright") is None, reason="pyright comes with the extra lint"
)


def pyright(installed: Venv, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run pyright on what is installed: it looks into the environment of the first Python."""
    path = f"{installed.bin}{os.pathsep}{os.environ['PATH']}"
    command = (sys.executable, "-m", "pyright", *arguments)
    return run(*command, cwd=folder, env={**bare_environment(), "PATH": path})


@needs_pyright
def test_every_public_type_is_known(installed: Venv, tmp_path: Path) -> None:
    # What Twisted leaves without types is not ours to say.
    ran = pyright(installed, tmp_path, "--verifytypes", "txasynchat", "--ignoreexternal")
    assert "Type completeness score: 100%" in ran.stdout, ran.stdout


@needs_mypy
def test_mypy_takes_the_programs_of_users_and_finds_their_mistakes(
    installed: Venv, tmp_path: Path
) -> None:
    config = ("--config-file", SNIPPETS / "mypy.ini", "--cache-dir", tmp_path / "cache")
    command = (sys.executable, "-m", "mypy", "--python-executable", installed.python)
    ran = run(*command, *config, *PROGRAMS, cwd=tmp_path)
    assert ran.stdout == f"Success: no issues found in {len(PROGRAMS)} source files\n", ran.stdout


@needs_pyright
def test_pyright_takes_the_programs_of_users_and_finds_their_mistakes(
    installed: Venv, tmp_path: Path
) -> None:
    ran = pyright(installed, tmp_path, "--project", SNIPPETS / "pyrightconfig.json")
    assert ran.stdout == "0 errors, 0 warnings, 0 informations\n"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_the_programs_are_ones_that_run(installed: Venv, tmp_path: Path, program: Path) -> None:
    ran = run(installed.python, "-B", "-W", "error", program, cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
