"""What the README and the documentation show as code runs, and gives what they say."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import txasynchat

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def drop_in() -> Iterator[None]:
    """Pages show programs for the removed modules: they run as ``txasynchat run`` runs them."""
    txasynchat.install()
    yield
    txasynchat.uninstall()


@pytest.mark.usefixtures("drop_in")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_samples_of_a_page_run(page: Path) -> None:
    names: dict[str, Any] = {"__name__": "sample"}
    runner, parser = doctest.DocTestRunner(), doctest.DocTestParser()
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        if ">>> " not in block:
            exec(compile(block, str(page), "exec"), names)
            continue
        test = parser.get_doctest(block, names, page.name, str(page), 0)
        runner.run(test, clear_globs=False)
        names.update(test.globs)
    assert runner.failures == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
