"""The interpreter's own suites that use asyncore or asynchat pass with ours in their place.

They are run by an interpreter that still has them, 3.10 or 3.11: the one of the tests, or another
one at hand, which then borrows the tests' Twisted.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
OURS = ROOT / "txasynchat"
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
VERSIONS = sorted(("3.11", "3.10"), key=RUNNING.__ne__)  # the running one first
REACTORS = [each for each in ("epoll", "poll", "select") if hasattr(select, each)]
NONE = "no reactor"  # which loop() does not need
TIMEOUT = 90  # own_suite.py gives up before, and shows where it hangs

# What uses asyncore and asynchat: `grep -rlE '\b(asyncore|asynchat|smtpd)\b' Lib`.
NUMBERS = {"test.test_asynchat": 25, "test.test_asyncore": 101}
OTHERS = (
    "test.test_smtpd",
    "test.test_smtplib",
    "test.test_ftplib",
    "test.test_poplib",
    "test.test_logging.SMTPHandlerTest",
    "test.test_ssl.ThreadedTests.test_asyncore_server",
)
UP_TO_3_10 = "test.test_os.TestSendfile"

Report = dict[str, Any]
Choice = Callable[[Sequence[str]], "Interpreter"]


class Interpreter(NamedTuple):
    """A Python that has the suites."""

    path: str
    borrowed: Path | None  # where it finds Twisted, if not at home


def candidates(version: str) -> Iterator[str]:
    """Where a Python of that version may be."""
    if version == RUNNING:
        yield sys.executable
    if on_path := shutil.which(f"python{version}"):
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True))


def require(name: str, found: dict[str, Distribution]) -> None:
    """Add a distribution to those found, with all that it requires."""
    if name in found:
        return
    try:
        found[name] = distribution(name)
    except PackageNotFoundError:  # it is for another platform or Python
        return
    for requirement in found[name].requires or ():
        if "extra ==" not in requirement and (match := re.match(r"[\w.-]+", requirement)):
            require(match.group(), found)


@pytest.fixture(scope="session")
def twisted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Twisted, what it requires, and nothing else.

    The whole site-packages may hold a copy of the old modules, which came before the other
    interpreter's own. That Twisted is pure Python, what it requires works without its C.
    """
    folder = tmp_path_factory.mktemp("twisted")
    found: dict[str, Distribution] = {}
    require("twisted", found)
    for each in found.values():
        for top in {file.parts[0] for file in each.files or ()}:
            if re.fullmatch(r"\w+(\.py)?", top) and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(each.locate_file(top))))
    return folder


@pytest.fixture(scope="session")
def at_hand(twisted: Path) -> Choice:
    """Gives an interpreter of one of these versions, the first that there is."""
    known: dict[str, Interpreter | None] = {}

    def look(version: str) -> Interpreter | None:
        for path in candidates(version):
            python = Interpreter(path, None if path == sys.executable else twisted)
            program = (
                "import sys, test.test_asynchat, twisted.internet.selectreactor\n"
                f"assert sys.version_info[:2] == {tuple(map(int, version.split('.')))}\n"
            )
            checked = subprocess.run(
                [path, "-W", "ignore", "-c", program],
                env=environment(python),
                cwd=twisted,
                capture_output=True,
                text=True,
                timeout=60,
            )
            if checked.returncode == 0:
                return python
        return None

    def give(versions: Sequence[str]) -> Interpreter:
        for version in versions:
            if version not in known:
                known[version] = look(version)
            if python := known[version]:
                return python
        pytest.skip(
            f"no Python {' or '.join(versions)} that has Lib/test and takes the tests' Twisted:"
            " not the running one, none on PATH, none in ${PYENV_ROOT:-~/.pyenv}/versions"
        )

    return give


def environment(python: Interpreter) -> dict[str, str]:
    """The environment in which an interpreter finds the checkout and Twisted."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if python.borrowed is None:
        return {**kept, "PYTHONPATH": str(ROOT)}
    return {
        **kept,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{python.borrowed}",
        "PYTHONPYCACHEPREFIX": str(python.borrowed / "cache"),  # what is borrowed stays as it is
    }


def report_of(python: Interpreter, folder: Path, *words: str) -> Report:
    """Run own_suite.py as the words say, `*` being its path and its report's."""
    name = folder / "report.json"
    script = str(Path(__file__).with_name("own_suite.py"))
    command = [
        piece for word in words for piece in ([script, str(name)] if word == "*" else [word])
    ]
    ended = subprocess.run(
        [python.path, *command],
        env=environment(python),
        cwd=folder,  # the suites leave files
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert ended.returncode == 0, f"{command} ended with {ended.returncode}:\n{ended.stderr}"
    report: Report = json.loads(name.read_text())
    name.unlink()
    return {**report, "stderr": ended.stderr}


def kind(outcome: str | None) -> str:
    """The words for how a test ended, without the reason."""
    return (outcome or "did not run").partition(":")[0]


def passes(python: Interpreter, suite: str, reactor: str, folder: Path) -> Report:
    """Check that a suite passes with our modules, but for what fails with the old ones too."""
    on = [] if reactor == NONE else ["--reactor", reactor]
    ours = report_of(python, folder, "-m", "txasynchat", "run", *on, "*", suite)

    # It is our modules that it had, and the reactor asked for.
    assert ours["used"], "the suite has neither asyncore nor asynchat nor smtpd"
    for name, file in {**ours["modules"], **ours["used"]}.items():
        assert Path(file).parent == OURS, f"{name} is {file}"
    assert ours["reactor"] == (None if reactor == NONE else f"twisted.internet.{reactor}reactor")

    # What did not pass does not pass with the old modules either, here and now.
    ended = {**dict.fromkeys(ours["listed"], "did not run"), **ours["outcomes"]}
    suspects = {name: outcome for name, outcome in ended.items() if outcome != "ok"}
    old = report_of(python, folder, "*", suite, "--only", *suspects)
    worse = [
        f"{name}: {outcome}\nand with the old modules: {kind(old['outcomes'].get(name))}"
        for name, outcome in suspects.items()
        if kind(old["outcomes"].get(name)) not in (kind(outcome), "failed")
    ]
    assert not worse, "\n\n".join(worse)

    # It is the whole suite that ran, and the old modules that it was compared with.
    assert ours["listed"] == old["listed"]
    assert "ok" in ours["outcomes"].values()
    for file in old["used"].values():
        assert not Path(file).is_relative_to(ROOT)

    # What no test sees.
    if ours["altered"]:  # what it complains of is on stderr
        assert report_of(python, folder, "*", suite)["altered"], ours["stderr"]
    assert ours["in_threads"] == []
    assert ours["logged"] == []
    assert ours["left"] == []
    return ours


@pytest.mark.parametrize("reactor", [*REACTORS, NONE])
@pytest.mark.parametrize("suite", NUMBERS)
def test_the_old_modules_own_suites_pass(
    suite: str, reactor: str, at_hand: Choice, tmp_path: Path
) -> None:
    report = passes(at_hand(VERSIONS), suite, reactor, tmp_path)
    assert report["run"] == NUMBERS[suite]
    assert (report["passes"] > 0) == (reactor != NONE), "whether a loop() drove the reactor"
    if sys.platform == "linux":
        skipped = [name for name, out in report["outcomes"].items() if kind(out) == "skipped"]
        assert len(skipped) == (8 if suite == "test.test_asyncore" else 0)


@pytest.mark.parametrize(
    "reactor",
    [REACTORS[0], *(pytest.param(reactor, marks=pytest.mark.slow) for reactor in REACTORS[1:])],
)
@pytest.mark.parametrize("suite", OTHERS)
def test_other_suites_of_the_interpreter_pass(
    suite: str, reactor: str, at_hand: Choice, tmp_path: Path
) -> None:
    passes(at_hand(VERSIONS), suite, reactor, tmp_path)


@pytest.mark.parametrize("reactor", REACTORS)
def test_the_suite_of_sendfile_passes_that_used_them_up_to_3_10(
    reactor: str, at_hand: Choice, tmp_path: Path
) -> None:
    passes(at_hand(["3.10"]), UP_TO_3_10, reactor, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("reactor", REACTORS)
@pytest.mark.parametrize("suite", [*NUMBERS, *OTHERS])
def test_the_suites_of_the_other_interpreter_pass(
    suite: str, reactor: str, at_hand: Choice, tmp_path: Path
) -> None:
    first, other = at_hand(VERSIONS), at_hand(VERSIONS[1:])
    if other == first:
        pytest.skip(f"{first.path} is the only one at hand")
    passes(other, suite, reactor, tmp_path)
