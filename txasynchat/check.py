"""``python -m txasynchat check``: what of a program works as it is, and what wants a change."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import stat
import sys
import tokenize
import warnings
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from txasynchat.python2 import python_2_in, uses_in_tokens
from txasynchat.traps import traps_of
from txasynchat.uses import LIBRARIES, MODULES, RULES, Finding, Module, Use, uses_of

if TYPE_CHECKING:
    from txasynchat.fix import Fixes

__all__ = ("KINDS", "Report", "Surroundings", "check", "check_command", "decoded", "findings_in")

#: The kinds of findings, in the order of the summary.
KINDS = ("works", "install", "change", "error", "note")

_SUFFIXES = (".py", ".pyw", ".tac")
#: Whatever a source without any of this does is none of our business, if only it can be parsed.
_HAS_TO_DO = re.compile("|".join((*MODULES, *LIBRARIES, "txasynchat", r"print\s*>>")))

_OTHERS_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages"})


# -- One source -------------------------------------------------------------------


@dataclass(frozen=True)
class Surroundings:
    """What lies around a file, where ``import`` may find something else.

    :ivar copies: modules found there, in place of the removed ones and of libraries.
    :ivar beside: modules that Python 2 found beside the file, and Python 3 does not.
    :ivar package: the outermost package that the file is in; or empty.

    >>> Surroundings.of("nowhere/bot.py").copies
    frozenset()
    """

    copies: frozenset[str] = frozenset()
    beside: frozenset[str] = frozenset()
    package: str = ""

    @classmethod
    def of(cls, path: str) -> Surroundings:
        """Look around a file."""
        own = top = os.path.dirname(os.path.abspath(path))
        package = ""
        while os.path.isfile(os.path.join(top, "__init__.py")):
            top, package = os.path.split(top)
        if os.path.basename(top) in ("site-packages", "dist-packages"):
            copies: frozenset[str] = frozenset()  # pyasyncore stands in for the removed one
        else:
            copies = _modules_in(top)
        stem = os.path.splitext(os.path.basename(path))[0]
        beside = _modules_in(own) - {stem} if own != top else frozenset()
        return cls(copies, beside, package)


def _modules_in(folder: str) -> frozenset[str]:
    found = set()
    for name in (*MODULES, *LIBRARIES):
        path = os.path.join(folder, name)
        if os.path.isfile(f"{path}.py") or os.path.isfile(os.path.join(path, "__init__.py")):
            found.add(name)
    return frozenset(found)


def decoded(data: bytes) -> tuple[str, str]:
    """The text of a source, with its own ends of lines, and its encoding.

    :raise SyntaxError: if there is no such encoding.
    :raise UnicodeDecodeError: if it is not in its encoding.

    >>> decoded(b"# -*- coding: latin-1 -*-\\r\\n")
    ('# -*- coding: latin-1 -*-\\r\\n', 'iso-8859-1')
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return data.decode(encoding), encoding


def findings_in(path: str, data: bytes, around: Surroundings | None = None) -> list[Finding]:
    """What a source has of the removed modules.

    :param path: for the findings; nothing is read.
    :param around: what lies around the file; nothing if None.

    >>> for finding in findings_in("bot.py", b"import asyncore, smtpd"):
    ...     print(finding.line, finding.kind, finding.what)
    1 works import asyncore
    1 install import smtpd
    """
    around = around or Surroundings()
    found = {
        Finding(path, use.line, use.rule, use.what, use.advice or RULES[use.rule].advice)
        for use in _uses(data, around)
    }
    return sorted(found)


def _uses(data: bytes, around: Surroundings) -> list[Use]:
    try:
        text, _ = decoded(data)
    except (SyntaxError, UnicodeDecodeError) as error:
        flaw = Use(1, "unreadable", f"can't be decoded: {error}")
        return [flaw, *uses_in_tokens(data.decode("latin-1"), around.copies)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the program's own start complains about
            return list(_uses_by_syntax(text, around))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [_flaw(text, error), *uses_in_tokens(text, around.copies)]


def _uses_by_syntax(text: str, around: Surroundings) -> Iterator[Use]:
    if not _HAS_TO_DO.search(text) and sys.version_info < (3, 14):  # traps_of() says why
        ast.parse(text)
        return
    module = Module(text, around.copies)
    for use in uses_of(module):
        yield use
        if use.rule == "import" and "absolute_import" not in text:
            yield from _beside(use, around)
    found: set[str] = set()
    for use in traps_of(module):
        if use.rule == "python-2":
            if use.what not in found:
                yield use
            found.add(use.what)
        elif module.uses_the_modules():
            yield use


def _flaw(text: str, error: Exception) -> Use:
    if isinstance(error, TabError):
        return Use(error.lineno or 1, "python-2", "Python 2 syntax: tabs and blanks mixed")
    if isinstance(error, SyntaxError):
        marks = python_2_in(text)
        if {what for _, what in marks} == {"async as a name"}:
            what = "async as a name, a keyword since Python 3.7"
            return Use(marks[0][0], "python-2", what, "give it another name, then check again")
        if marks:
            what = ", ".join(what for _, what in marks)
            return Use(marks[0][0], "python-2", f"Python 2 syntax: {what}")
        version = ".".join(map(str, sys.version_info[:2]))
        return Use(error.lineno or 1, "unreadable", f"not Python {version}: {error.msg}")
    why = "it is too deep" if isinstance(error, (RecursionError, MemoryError)) else error
    return Use(1, "unreadable", f"can't be parsed: {why}")


def _beside(use: Use, around: Surroundings) -> Iterator[Use]:
    for name in sorted(around.beside):
        if re.search(rf"\b{name}\b", use.what):
            yield Use(
                use.line,
                "copy",
                f"{use.what}, beside {name}.py",
                "Python 2 took that one, Python 3 takes the removed module: say which is meant",
            )


# -- Many files -------------------------------------------------------------------


@dataclass
class Report:
    """What was found.

    :ivar findings: sorted by file and line.
    :ivar files: the files that were read, by path; with what lies around each.
    :ivar skipped: what was not read, by path, and why.

    >>> Report([Finding("bot.py", 1, "import", "import asyncore")]).counts()["works"]
    1
    """

    findings: list[Finding] = field(default_factory=list)
    files: dict[str, Surroundings] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How many findings there are of each kind."""
        counted = Counter(finding.kind for finding in self.findings)
        return {kind: counted[kind] for kind in KINDS}

    def of_rules(self, *rules: str) -> list[Finding]:
        """The findings of some rules."""
        return [finding for finding in self.findings if finding.rule in rules]

    @property
    def status(self) -> int:
        """The exit status: 1 if something wants a change or can't be read, else 0."""
        counts = self.counts()
        return int(bool(counts["change"] or counts["error"]))


def check(paths: Iterable[str]) -> Report:
    """Read files and folders, and report what they have of the removed modules.

    :param paths: folders are searched for Python files and scripts.
    :raise FileNotFoundError: if there is no such path.
    """
    report = Report()
    seen: set[str] = set()
    data: dict[str, bytes] = {}
    for path in paths:
        if not os.path.exists(path):
            raise FileNotFoundError(path)
        for each in _files(path, report) if os.path.isdir(path) else [path]:
            if os.path.realpath(each) not in seen:
                seen.add(os.path.realpath(each))
                _read(each, data, report)
    packages = {around.package for around in report.files.values()}
    for each, around in report.files.items():
        if each in data:
            # A library that is read itself is not to be told what it imports.
            own = {f"import {name}" for name in packages | around.copies | around.beside}
            found = findings_in(each, data[each], around)
            report.findings += [x for x in found if x.rule != "library" or x.what not in own]
    report.findings.sort()
    return report


def _read(path: str, data: dict[str, bytes], report: Report) -> None:
    report.files[path] = Surroundings.of(path)
    try:
        with open(path, "rb") as file:
            data[path] = file.read()
    except OSError as error:
        report.findings.append(Finding(path, 1, "unreadable", f"can't be read: {error.strerror}"))


def _files(folder: str, report: Report) -> Iterator[str]:
    def failed(error: OSError) -> None:
        where = str(error.filename)
        report.findings.append(Finding(where, 1, "unreadable", f"can't be read: {error.strerror}"))

    for where, folders, names in os.walk(folder, onerror=failed):
        for name in sorted(folders):
            why = _skipped(where, name)
            if why:
                report.skipped[os.path.join(where, name)] = why
                folders.remove(name)
        folders.sort()
        for name in sorted(names):
            path = os.path.join(where, name)
            if _is_python(path, report):
                yield path


def _skipped(where: str, name: str) -> str:
    path = os.path.join(where, name)
    if os.path.islink(path):
        return "a symbolic link to a folder"
    if os.path.exists(os.path.join(path, "pyvenv.cfg")):
        return "a virtual environment"
    if name.startswith(".") or name in _OTHERS_FOLDERS:
        return "not the program's own"
    return ""


def _is_python(path: str, report: Report) -> bool:
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        regular = False  # a link that leads nowhere
    named = path.endswith(_SUFFIXES)
    if not regular:
        if named:
            report.skipped[path] = "not a file"
        return False
    if named:
        return True
    try:
        with open(path, "rb") as file:
            start = file.read(2)
            return start == b"#!" and b"python" in file.readline(200)
    except OSError:
        return False  # nobody says that it is Python


# -- The command ------------------------------------------------------------------


def check_command(parser: ArgumentParser) -> None:
    """Give a parser the arguments of ``python -m txasynchat check``.

    ``call``, among what it parses, does the work; it is to be called with all of that.

    >>> parser = ArgumentParser()
    >>> check_command(parser)
    >>> parser.parse_args(["bot.py", "--json"]).json
    True
    """
    parser.description = (
        "Read a program, without running it, and report each use of asyncore, asynchat and smtpd: "
        "whether it works as it is, by run or install() only, or wants a change."
    )
    parser.epilog = (
        "Exit status: 0 if nothing wants a change, 1 if something does or can't be read, "
        "or if --fix had to leave something alone; 2 for a bad command line."
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, or a folder to search")
    parser.add_argument(
        "--fix", action="store_true", help="rewrite the imports; needs txasynchat[migrate]"
    )
    parser.add_argument(
        "--diff", action="store_true", help="print what --fix would rewrite, and rewrite nothing"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--quiet", action="store_true", help="leave out what works, and what is merely noted"
    )
    parser.set_defaults(call=lambda options: _run(options, parser))


def _run(options: Namespace, parser: ArgumentParser) -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    if options.diff and options.json:
        parser.error("--diff and --json can't be had together")
    try:
        report, fixes = check(options.paths), None
        if options.fix or options.diff:
            fixes = _fix(report, options, parser)
            report = check(options.paths)
        _print(report, fixes, options)
        sys.stdout.flush()
    except FileNotFoundError as error:
        parser.error(f"there is no {error.args[0]}")
    except BrokenPipeError:
        # Whoever reads has seen enough; the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    status = report.status or int(bool(fixes and fixes.left))
    if status:
        sys.exit(status)


def _fix(report: Report, options: Namespace, parser: ArgumentParser) -> Fixes:
    try:
        from txasynchat.fix import fix
    except ImportError as error:
        if (error.name or "").split(".")[0] != "libcst":
            raise
        parser.exit(2, f"{parser.prog}: --fix and --diff need libcst: pip install libcst\n")
    return fix(report, write=not options.diff)


def _print(report: Report, fixes: Fixes | None, options: Namespace) -> None:
    if options.json:
        print(json.dumps(_as_json(report, fixes), indent=1))
        return
    if fixes is not None:
        for line in fixes.diff if options.diff else map(str, fixes.made):
            print(_plain(line))
        for path, why in fixes.left.items():
            print(_plain(f"{path}: left alone: {why}"))
    for finding in report.findings:
        if not options.quiet or finding.kind not in ("works", "note"):
            print(_plain(str(finding)))
    for line in _summary(report):
        print(_plain(line))


def _as_json(report: Report, fixes: Fixes | None) -> dict[str, Any]:
    left = fixes.left if fixes else {}
    return {
        "findings": [
            {
                "path": each.path,
                "line": each.line,
                "kind": each.kind,
                "rule": each.rule,
                "what": each.what,
                "advice": each.advice,
                "page": each.page,
            }
            for each in report.findings
        ],
        "counts": report.counts(),
        "files": len(report.files),
        "skipped": [{"path": path, "why": why} for path, why in report.skipped.items()],
        "fixed": [
            {"path": each.path, "line": each.line, "before": each.before, "after": each.after}
            for each in (fixes.made if fixes else [])
        ],
        "left": [{"path": path, "why": why} for path, why in left.items()],
        "status": report.status or int(bool(left)),
    }


def _summary(report: Report) -> Iterator[str]:
    yield f"{_number(len(report.files), 'file')} read" + _skips(report.skipped)
    if report.findings:
        yield ", ".join(f"{kind} {count}" for kind, count in report.counts().items())
    mixed = report.of_rules("import") and report.of_rules("migrated")
    if mixed and not report.of_rules("installed"):
        yield (
            "Some files import txasynchat's modules, some the removed ones: a loop serves its own "
            "only. Use --fix or install()."
        )
    yield f"Next: {_next_step(report)}"


def _skips(skipped: dict[str, str]) -> str:
    if not skipped:
        return ""
    names = Counter(os.path.basename(path) for path in skipped)
    words = [name if count == 1 else f"{name} ({count})" for name, count in names.most_common(8)]
    more = ", ..." if len(names) > 8 else ""
    return f", {len(skipped)} skipped: {', '.join(words)}{more}"


def _next_step(report: Report) -> str:
    counts = report.counts()
    if report.status:
        count = counts["change"] + counts["error"]
        return f"see to {_number(count, 'finding')} of change or error, then check again."
    if counts["install"] or report.of_rules("import"):
        smtpd = "pip install standard-smtpd, then " if report.of_rules("smtpd") else ""
        tls = " --ssl-wrap-socket" if report.of_rules("ssl-wrap-socket") else ""
        loops = {x.path for x in report.of_rules("use") if x.what == "asyncore.loop"}
        scripts = [path for path in loops if not report.files[path].package]
        program = scripts[0] if len(loops) == len(scripts) == 1 else "PROGRAM"
        return f"{smtpd}run it: python -m txasynchat run{tls} {program}"
    if report.of_rules("migrated"):
        return "nothing, the imports are txasynchat's."
    return "nothing, none of asyncore, asynchat and smtpd is used."


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _plain(line: str) -> str:
    # On one line, and nothing that a terminal obeys.
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in line)
