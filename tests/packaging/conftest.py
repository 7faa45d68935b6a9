"""Services in a folder of the test's own, the files that docs/operations.md shows, and what
was built and installed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from building import Built, Venv, once, succeed
from serving import Running, Serve

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a service in the test's folder; it is ended after the test."""
    running: list[Running] = []

    def start(*arguments: str) -> Running:
        running.append(Running(tmp_path, *arguments))
        return running[-1]

    yield start
    for each in running:
        each.kill()


@pytest.fixture
def shown() -> Callable[[str], str]:
    """The content of a file that docs/operations.md shows."""

    def content(name: str) -> str:
        pattern = rf"<!-- file: {re.escape(name)} -->\n```\w+\n(.*?)```"
        (found,) = re.findall(pattern, OPERATIONS.read_text(), re.DOTALL)
        return str(found)

    return content


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of pytest-xdist have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def built(shared: Path) -> Built:
    """The sdist and the wheels."""
    return Built(once(shared / "built", lambda folder: Built(folder).make()))


@pytest.fixture(scope="session")
def installed(shared: Path, built: Built) -> Venv:
    """A venv in which pip has installed the wheel and what it needs; nobody may write there."""

    def make(folder: Path) -> None:
        made = Venv(folder).make(with_pip=True)
        made.pip("install", built.wheel)
        succeed("chmod", "-R", "a-w", made.site)

    return Venv(once(shared / "installed", make))
