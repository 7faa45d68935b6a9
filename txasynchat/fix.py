"""Rewrites the imports of the removed modules. Needs ``pip install 'txasynchat[migrate]'``."""

from __future__ import annotations

import ast
import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import unified_diff
from itertools import groupby
from shutil import copymode
from typing import TypeAlias

import libcst as cst

from txasynchat.check import Report, decoded
from txasynchat.uses import OURS, Finding

__all__ = ("Change", "Fixes", "fix", "rewritten")

#: What loads the modules by their names, so that a changed import is not enough.
_BY_NAME = ("smtpd", "by-name", "library")


@dataclass(frozen=True)
class Change:
    """Lines of a file that were rewritten.

    :ivar line: the first of them, from 1.

    >>> print(Change("bot.py", 1, "import asyncore", "from txasynchat import asyncore"))
    bot.py:1: fixed: import asyncore -> from txasynchat import asyncore
    """

    path: str
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        before, after = (" ".join(text.split()) for text in (self.before, self.after))
        return f"{self.path}:{self.line}: fixed: {before} -> {after}"


@dataclass
class Fixes:
    """What was rewritten.

    :ivar made: the changes, in the order of the files.
    :ivar left: files with such imports that were left alone, by path, and why.
    :ivar diff: the lines of a unified diff.

    >>> fix(Report()).made
    []
    """

    made: list[Change] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    diff: list[str] = field(default_factory=list)


def fix(report: Report, *, write: bool = True) -> Fixes:
    """Rewrite the imports of the files that were checked, unless something needs the old names.

    A file is replaced as a whole or not at all, and keeps its mode.

    :param write: False to change no file.
    """
    fixes = Fixes()
    paths = sorted({finding.path for finding in report.of_rules("import", "gone")})
    needs = [] if report.of_rules("installed") else report.of_rules(*_BY_NAME)
    for path in paths:
        if needs:
            fixes.left[path] = _needs_install(needs[0])
        elif any(x.path == path and x.rule in ("python-2", "unreadable") for x in report.findings):
            fixes.left[path] = "it is not Python 3"
        else:
            _fix_file(path, report, fixes, write)
    return fixes


def _needs_install(finding: Finding) -> str:
    return (
        f"{finding.path}:{finding.line} has {finding.what}, which finds the modules by their old "
        "names: start the program by run, or call txasynchat.install() before it imports them"
    )


def _fix_file(path: str, report: Report, fixes: Fixes, write: bool) -> None:
    around = report.files[path]
    with open(path, "rb") as file:
        data = file.read()
    text, encoding = decoded(data)
    beside = frozenset() if "absolute_import" in text else around.beside
    keep = frozenset(OURS) & (around.copies | beside)
    try:
        new, pieces = _rewritten(text, keep)
    except ValueError as error:
        fixes.left[path] = str(error)
        return
    stays = [name for name in sorted(keep) if _imports(report, path, name)]
    if stays:
        fixes.left[path] = f"{' and '.join(stays)} may be the copy beside it"
    if new == text:
        return
    if write:
        try:
            _replace(path, new.encode(encoding))
        except OSError as error:
            fixes.left[path] = f"can't be written: {error.strerror}"
            return
    fixes.made += [Change(path, *piece) for piece in pieces]
    before, after = (each.splitlines(keepends=True) for each in (text, new))
    names = (path, f"{path} (fixed)")
    fixes.diff += [line.rstrip("\r\n") for line in unified_diff(before, after, *names)]


def _imports(report: Report, path: str, name: str) -> bool:
    return any(
        finding.path == path and re.search(rf"\b{name}\b", finding.what)
        for finding in report.of_rules("import")
    )


def _replace(path: str, data: bytes) -> None:
    path = os.path.realpath(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".txasynchat-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        copymode(path, temporary)
        owner = os.stat(path)
        with suppress(OSError):  # only root can give a file to somebody else
            os.chown(temporary, owner.st_uid, owner.st_gid)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def rewritten(source: str, keep: frozenset[str] = frozenset()) -> str:
    r"""A source with its imports of asyncore and asynchat from txasynchat.

    Everything else stays as it is, to the byte.

    :param keep: modules whose imports are to stay.
    :raise ValueError: if it can't be parsed, or something else would change.

    >>> rewritten("import asyncore, socket  # both\n")
    'from txasynchat import asyncore\nimport socket  # both\n'
    """
    return _rewritten(source, keep)[0]


#: The line of a statement, the statement, and what takes its place.
_Piece: TypeAlias = tuple[int, str, str]


def _rewritten(source: str, keep: frozenset[str]) -> tuple[str, list[_Piece]]:
    try:
        tree = cst.parse_module(source)
        if tree.code != source:
            raise ValueError("libcst would change more than the imports")
        rewriter = _Rewriter(frozenset(OURS) - keep, _lines_of_imports(source))
        return tree.visit(rewriter).code, rewriter.pieces
    except (cst.ParserSyntaxError, SyntaxError, RecursionError) as error:
        raise ValueError(f"libcst can't parse it: {str(error).splitlines()[0]}") from error


def _lines_of_imports(source: str) -> list[int]:
    # In their order. Libcst knows positions too, but takes much longer over it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = [x for x in ast.walk(ast.parse(source)) if isinstance(x, _IMPORTS)]
    return [line for line, _ in sorted((x.lineno, x.col_offset) for x in nodes)]


_IMPORTS = (ast.Import, ast.ImportFrom)
_Line = cst.SimpleStatementLine
_Suite = cst.SimpleStatementSuite
_Statements: TypeAlias = Sequence[cst.BaseSmallStatement]


class _Rewriter(cst.CSTTransformer):
    def __init__(self, modules: frozenset[str], lines: list[int]) -> None:
        super().__init__()
        self.pieces: list[_Piece] = []
        self._modules = modules
        self._lines = iter(lines)

    def leave_SimpleStatementLine(
        self, original_node: _Line, updated_node: _Line
    ) -> _Line | cst.FlattenSentinel[_Line]:
        body = self._body(original_node.body)
        if len(original_node.body) > 1 or len(body) == 1:
            return updated_node.with_changes(body=body)
        # A line for each; the comments before and behind stay where they were.
        newline = updated_node.trailing_whitespace.newline
        first = updated_node.with_changes(
            body=[body[0].with_changes(semicolon=cst.MaybeSentinel.DEFAULT)],
            trailing_whitespace=cst.TrailingWhitespace(newline=newline),
        )
        others = [
            updated_node.with_changes(
                body=[each.with_changes(semicolon=cst.MaybeSentinel.DEFAULT)],
                leading_lines=[],
                trailing_whitespace=cst.TrailingWhitespace(newline=newline),
            )
            for each in body[1:]
        ]
        others[-1] = others[-1].with_changes(trailing_whitespace=updated_node.trailing_whitespace)
        return cst.FlattenSentinel([first, *others])

    def leave_SimpleStatementSuite(self, original_node: _Suite, updated_node: _Suite) -> _Suite:
        return updated_node.with_changes(body=self._body(original_node.body))

    def _body(self, body: _Statements) -> list[cst.BaseSmallStatement]:
        new: list[cst.BaseSmallStatement] = []
        for statement in body:
            replaced: list[cst.BaseSmallStatement] = [statement]
            if isinstance(statement, cst.Import):
                replaced = self._import(statement)
            elif isinstance(statement, cst.ImportFrom):
                replaced = [self._import_from(statement)]
            if isinstance(statement, (cst.Import, cst.ImportFrom)):
                line = next(self._lines)
                if replaced != [statement]:
                    self.pieces.append((line, _code([statement]), _code(replaced)))
            new += replaced
        return new

    def _import_from(self, node: cst.ImportFrom) -> cst.ImportFrom:
        module = node.module
        if node.relative or not isinstance(module, cst.Name) or module.value not in self._modules:
            return node
        return node.with_changes(module=cst.Attribute(cst.Name("txasynchat"), module))

    def _import(self, node: cst.Import) -> list[cst.BaseSmallStatement]:
        if not any(self._is_ours(alias) for alias in node.names):
            return [node]
        new: list[cst.BaseSmallStatement] = [self._statement(node, x) for x in self._runs(node)]
        for at, each in enumerate(new[:-1]):
            after = cst.SimpleWhitespace(" ")
            new[at] = each.with_changes(semicolon=cst.Semicolon(whitespace_after=after))
        return new

    def _runs(self, node: cst.Import) -> list[list[cst.ImportAlias]]:
        # Ours in one statement, the others in one; in the old order if one name is bound twice.
        if not self._has_unique_names(node):
            return [list(run) for _, run in groupby(node.names, self._is_ours)]
        ours = [alias for alias in node.names if self._is_ours(alias)]
        others = [alias for alias in node.names if not self._is_ours(alias)]
        return [run for run in (ours, others) if run]

    def _has_unique_names(self, node: cst.Import) -> bool:
        names = [
            alias.evaluated_alias or alias.evaluated_name.split(".")[0] for alias in node.names
        ]
        return len(set(names)) == len(names)

    def _is_ours(self, alias: cst.ImportAlias) -> bool:
        return alias.evaluated_name in self._modules

    def _statement(
        self, node: cst.Import, aliases: list[cst.ImportAlias]
    ) -> cst.Import | cst.ImportFrom:
        last = aliases[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        names = [*aliases[:-1], last]
        if not self._is_ours(last):
            return node.with_changes(names=names)
        return cst.ImportFrom(
            module=cst.Name("txasynchat"),
            names=names,
            whitespace_after_import=node.whitespace_after_import,
            semicolon=node.semicolon,
        )


def _code(statements: _Statements) -> str:
    bare = [each.with_changes(semicolon=cst.MaybeSentinel.DEFAULT) for each in statements]
    return "; ".join(cst.Module([]).code_for_node(each) for each in bare)
