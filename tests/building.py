"""The project as users get it, built and installed once for all processes of a test run."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from support import bare_environment

ROOT = Path(__file__).parents[1]

#: What running the tests, the services and the tools leaves in a tree.
LEAVINGS = (
    ".hypothesis/unicode_data/charmap.json.gz",
    ".venv/lib/module.py",
    "build/stale.py",
    "docs/_build/index.html",
    "fuzz/found/crash",
    "tests/.hypothesis/examples/one",
    "tests/core/.pytest_cache/README.md",
    "tests/core/__pycache__/test_framing.pyc",
    "twisted/plugins/dropin.cache",
    "txasynchat/__pycache__/echo.pyc",
    "twistd.log",
)

_CALL_A_HOOK = (
    "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
)


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder`, filled by the first process that asks for it."""
    finished = folder / ".finished"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its status."""
    settings = {"env": bare_environment(), "timeout": 200, **options}
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, **settings)  # type: ignore[call-overload, no-any-return]


def succeed(*command: object, **options: object) -> str:
    """Run a command that must succeed.

    :return: what it printed.
    """
    ran = run(*command, **options)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def what_git_has() -> list[str] | None:
    """The files of the project; None where there is no git to ask."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return None
    listed = run("git", "ls-files", cwd=ROOT)
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    return [name for name in names if (ROOT / name).exists()] or None


def _copy_the_tree(to: Path) -> None:
    others = ["--others", "--exclude-standard"]
    if what_git_has() is None:
        left = [".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "_build"]
        shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(".git", *left))
        return
    for name in {*(what_git_has() or ()), *succeed("git", "ls-files", *others, cwd=ROOT).split()}:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)


class Built:
    """What was built of a copy of the tree. Nothing is left in the tree itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "tree"

    def make(self) -> None:
        """Build it all."""
        _copy_the_tree(self.tree)
        for name in LEAVINGS:
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            (self.tree / name).touch()
        self._get_the_builder()
        self._build("sdist", self.tree)
        succeed("tar", "-xf", self.sdist, cwd=self.folder)
        self._build("wheel", self.folder / self.sdist.name[: -len(".tar.gz")], "again")
        self._build("wheel", self.tree)
        self._build("editable", self.tree)

    def _get_the_builder(self) -> None:
        (needed,) = re.findall(r'^requires = \["(.*)"\]$', self._read("pyproject.toml"), re.M)
        pip = [sys.executable, "-m", "pip", "--retries", "1", "install", "--target"]
        got = run(*pip, self.folder / "builder", needed)
        if got.returncode != 0 and "No matching distribution found" in got.stderr:
            pytest.skip(f"pip can get no {needed} from a package index, to build with")
        assert got.returncode == 0, got.stdout + got.stderr

    def _read(self, name: str) -> str:
        return (self.tree / name).read_text()

    def _build(self, kind: str, tree: Path, folder: str = "") -> None:
        to = self.folder / (folder or kind)
        to.mkdir()
        path = {**bare_environment(), "PYTHONPATH": str(self.folder / "builder")}
        succeed(sys.executable, "-c", _CALL_A_HOOK, f"build_{kind}", to, cwd=tree, env=path)

    def _only(self, pattern: str) -> Path:
        (found,) = self.folder.glob(pattern)
        return found

    @property
    def sdist(self) -> Path:
        """The sdist."""
        return self._only("sdist/txasynchat-*.tar.gz")

    @property
    def wheel(self) -> Path:
        """The wheel, built of the tree."""
        return self._only("wheel/txasynchat-*.whl")

    @property
    def wheel_of_the_sdist(self) -> Path:
        """The wheel, built of the unpacked sdist."""
        return self._only("again/txasynchat-*.whl")

    @property
    def editable_wheel(self) -> Path:
        """What ``pip install -e`` installs."""
        return self._only("editable/txasynchat-*.whl")


class Venv:
    """A virtual environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.python = self.bin / "python"

    def make(self, with_pip: bool) -> Venv:
        """Make it."""
        venv.create(self.folder, with_pip=with_pip, symlinks=True)
        return self

    @property
    def site(self) -> Path:
        """Where packages are installed."""
        (found,) = (self.folder / "lib").glob("python*/site-packages")
        return found

    def pip(self, *arguments: object) -> None:
        """Run pip in it."""
        quiet = ("--disable-pip-version-check", "--no-input")
        succeed(self.python, "-m", "pip", *quiet, *arguments, cwd=self.folder)


def as_one_who_may_not_write() -> list[str]:
    """What to put before a command so that the modes of files count, for root as well."""
    if os.geteuid() != 0:
        return []
    command = ["setpriv", "--bounding-set=-dac_override"]
    if shutil.which("setpriv") is None or run(*command, "true").returncode != 0:
        pytest.skip("root may write anywhere, and setpriv can't keep it from that here")
    return command
