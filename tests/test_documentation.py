"""What the README and the documentation show as code runs, and gives what they say.

Blocks of Python run where they stand, in the order of the page. Any other block has a test that
takes it from the page, by :func:`pages.block` or by the mark in front of it, and tries it: this
module finds those that nobody takes.
"""

from __future__ import annotations

import ast
import doctest
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pages import PAGES, ROOT, Block, blocks

import txasynchat

ALL = [each for page in PAGES for each in blocks(page)]
SHOWN = [each for each in ALL if not each.is_directive and each.language != "python"]
PARTS = [each for each in ALL if each.is_part]


@pytest.fixture
def drop_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pages show programs for the removed modules: they run as ``txasynchat run`` runs them."""
    monkeypatch.syspath_prepend(ROOT / "examples" / "migration")
    txasynchat.install()
    yield
    txasynchat.uninstall()


@pytest.mark.usefixtures("drop_in")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_samples_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": "sample"}
    runner, parser = doctest.DocTestRunner(), doctest.DocTestParser()
    for block in blocks(page):
        if not block.is_python:
            continue
        if ">>> " not in block.text:
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
            if block.file:
                monkeypatch.setitem(sys.modules, Path(block.file).stem, module_of(names))
            continue
        test = parser.get_doctest(block.text, names, page.name, str(page), block.line)
        runner.run(test, clear_globs=False)
        names.update(test.globs)
    assert runner.failures == 0


def module_of(names: dict[str, Any]) -> ModuleType:
    """What later blocks of the page import."""
    module = ModuleType("sample")
    vars(module).update(names)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("block", PARTS, ids=str)
def test_what_a_page_shows_of_a_file_is_what_is_in_it(block: Block) -> None:
    source = (ROOT / block.mark.removeprefix("part of: ")).read_text()
    at = 0
    for part in re.split(r"^ *# \.\.\.\n", block.text, flags=re.MULTILINE):
        at = source.find(part.strip("\n"), at)
        assert at >= 0, f"not in the file, or not in this order:\n{part}"


# -- Blocks of other languages ---------------------------------------------------------


def calls_of(path: Path) -> Iterator[ast.Call]:
    return (each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call))


def literals_of(call: ast.Call) -> list[Any]:
    return [each.value for each in call.args if isinstance(each, ast.Constant)]


def claims() -> Iterator[tuple[str, str]]:
    """What tests take: the page, or "" for any, and how the block or its mark begins."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for call in calls_of(path):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            taken = literals_of(call)
            if name == "block" and len(taken) == 2:
                yield taken[0], taken[1]
            elif name == "shown" and len(taken) == 1:
                yield "operations.md", f"file: {taken[0]}"
    for mark in re.findall(r"\(readme (\w+)\)", (ROOT / ".ci" / "run").read_text()):
        yield "README.md", f"command: {mark}"


@pytest.fixture(scope="module")
def taken() -> list[tuple[str, str]]:
    return list(claims())


@pytest.mark.parametrize("block", SHOWN, ids=str)
def test_a_block_that_is_no_python_is_tried_by_a_test(
    block: Block, taken: list[tuple[str, str]]
) -> None:
    assert any(block.page == page and block.begins_with(start) for page, start in taken), (
        f"no test takes this block of {block}: see tests/pages.py\n{block.text}"
    )


def test_every_fence_of_a_page_is_one_that_is_found_here() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *(?:```+|~~~+|:::+)", page.read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), page.name
