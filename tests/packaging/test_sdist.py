"""The sdist is enough for whoever packages it: to run the tests, to build the pages."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path, PurePath

import pytest
from building import LEAVINGS, Built, what_git_has


def files_of(sdist: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(sdist) as archive:
        members = [each for each in archive.getmembers() if each.isfile()]
    return {str(PurePath(*PurePath(each.name).parts[1:])): each for each in members}


def test_the_sdist_has_all_that_git_has(built: Built) -> None:
    tracked = what_git_has()
    if tracked is None:
        pytest.skip("there is no git that could tell what belongs to the project")
    assert set(tracked) - set(files_of(built.sdist)) == set()


@pytest.mark.parametrize(
    "name",
    [
        ".ci/run",
        "CHANGELOG.md",
        "LICENSE",
        "SECURITY.md",
        "benchmarks/__main__.py",
        "docs/conf.py",
        "docs/performance/echo.svg",
        "examples/echo.py",
        "fuzz/corpus/framing/lines",
        "tests/conftest.py",
        "tests/packaging/test_sdist.py",
        "twisted/plugins/txasynchat_plugin.py",
        "txasynchat/py.typed",
    ],
)
def test_the_sdist_has(built: Built, name: str) -> None:
    assert name in files_of(built.sdist)


def test_the_sdist_has_nothing_that_was_left_behind_by_running(built: Built) -> None:
    names = set(files_of(built.sdist))
    assert all((built.tree / name).exists() for name in LEAVINGS)
    assert names & set(LEAVINGS) == set()


def test_what_is_run_can_be_run_from_the_sdist(built: Built) -> None:
    assert files_of(built.sdist)[".ci/run"].mode & 0o100


def test_a_wheel_built_from_the_sdist_is_the_one_built_from_the_tree(built: Built) -> None:
    def contents(wheel: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(wheel) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    assert contents(built.wheel_of_the_sdist) == contents(built.wheel)
