"""``check`` and ``--fix`` on packages of others, as PyPI has them.

They are fetched as wheels, by pip and by their hashes: a wheel is unpacked, where a source
distribution would run its ``setup.py``. Nothing of them is imported.
"""

from __future__ import annotations

import subprocess
import sys
import tokenize
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from txasynchat.check import Report, check
from txasynchat.fix import Fixes, fix

HASHES = {
    "ZServer==4.0.1": "e084134e8649e5d8796aeb88637af9f904c53d2ca49f46c768830d09ae0e53dd",
    "bacpypes==0.16.7": "95d844c7a972c66c27b8efcdf61587163ab7c1fa89ef945a5c8e8ddb42ebc28a",
    "bacpypes==0.18.7": "6818108d85178b197bed6db793dbeb63da59406754774d6cb086b49603c2fb5c",
    "dsmtpd==0.3": "fe770ec365ceed192f2f44921832a7287183e46cb40a60ac59564fc1a430a603",
    "eventlet==0.33.3": "e43b9ae05ba4bb477a10307699c9aff7ff86121b2640f9184d29059f5a687df8",
    "lewis==1.3.1": "e4f153f6cddd6e9a12367ab3a95f72e5450b7fa958fc79310e81a938773e765d",
    "polysh==0.13": "d90f4fcef870659f9c3f9841c3e63246b12232bdea138f30703943fda7a1e10f",
    "pysnmp==4.4.12": "d90946c5d7c55b1ddc03e065a99a2ed36e748dcf166ca04ee4126b8f25fc057a",
    "supervisor==4.1.0": "a76b2f77a560f2dc411c0254a4eb15f555e99faac48621b0f1fc9ab013944f47",
    "waitress==1.1.0": "40b0f297a7f3af61fbfbdc67e59090c70dc150a1601c39ecc9f5f1d283fb931b",
}
PYTHON_2 = ("ZServer==4.0.1", "bacpypes==0.16.7")
PYTHON_3 = tuple(name for name in HASHES if name not in PYTHON_2)

REMOVED = ("asyncore", "asynchat", "smtpd")
SYNTAX = "python-2"
SENT, TERMINATOR, COLLECTED = "text-sent", "text-terminator", "text-collected"

#: Each was looked at: it is Python 2 that Python 3 does not take, or a TypeError there.
CHANGES = {
    "ZServer==4.0.1": {
        "ZServer/PCGIServer.py": [(95, TERMINATOR), (138, TERMINATOR)],
        "ZServer/Zope2/utilities/copyzopeskel.py": [(188, SYNTAX)],
        "ZServer/Zope2/utilities/mkzopeinstance.py": [(146, SYNTAX)],
        "ZServer/medusa/chat_server.py": [
            (23, TERMINATOR),
            (26, SENT),
            (29, COLLECTED),
            *((line, SENT) for line in (38, 50, 53, 55, 58, 70, 74, 81)),
        ],
        "ZServer/medusa/filesys.py": [(193, SYNTAX)],
        "ZServer/medusa/ftp_server.py": [
            (82, TERMINATOR),
            (110, COLLECTED),
            *((line, SENT) for line in (231, 672, 674, 676)),
        ],
        "ZServer/medusa/http_server.py": [(382, TERMINATOR), (456, COLLECTED)],
        "ZServer/medusa/monitor.py": [(115, SYNTAX)],
        "ZServer/medusa/monitor_client.py": [(40, TERMINATOR), (48, COLLECTED)],
        "ZServer/medusa/test/test_11.py": [(27, TERMINATOR)],
        "ZServer/medusa/test/test_lb.py": [
            (25, TERMINATOR),
            (29, COLLECTED),
            (36, SENT),
            (79, TERMINATOR),
            (82, SENT),
        ],
        "ZServer/medusa/thread/select_trigger.py": [(275, TERMINATOR), (280, COLLECTED)],
        "ZServer/medusa/thread/thread_channel.py": [(100, TERMINATOR), (105, COLLECTED)],
        "webdav/client.py": [(474, SYNTAX)],
    },
    "bacpypes==0.16.7": {
        "bacpypes/comm.py": [(19, SYNTAX)],
        "bacpypes/pdu.py": [(20, SYNTAX)],
        "bacpypes/primitivedata.py": [(578, SYNTAX)],
    },
}


def fetch(names: tuple[str, ...], version: str, folder: Path) -> None:
    requirements = folder / f"{version}.txt"
    lines = [f"{name} --hash=sha256:{HASHES[name]}" for name in names]
    requirements.write_text("\n".join(lines))
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--quiet"]
    python = ["--python-version", version, "--implementation", "py", "--abi", "none"]
    patience = ["--timeout", "20", "--retries", "1"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", *options, *python, "--platform", "any"),
            *(*patience, "--dest", str(folder), "-r", str(requirements)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert "DO NOT MATCH THE HASHES" not in done.stderr
    if done.returncode:
        pytest.skip(f"pip can't fetch the packages: {' '.join(errors)[:200]}")


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each package, with what is in its wheel."""
    if find_spec("pip") is None:
        pytest.skip("pip is not here to fetch the packages")
    folder = tmp_path_factory.mktemp("wheels")
    fetch(PYTHON_2, "2.7", folder)
    fetch(PYTHON_3, "3.9", folder)
    found = {}
    for name in HASHES:
        (path,) = folder.glob(f"{name.replace('==', '-')}-*.whl")
        found[name] = folder / name
        zipfile.ZipFile(path).extractall(found[name])
    return found


@pytest.fixture(scope="session")
def reports(packages: dict[str, Path]) -> dict[str, Report]:
    """What is found in each package."""
    return {name: check([str(path)]) for name, path in packages.items()}


# -- Every use, and nothing else ----------------------------------------------------


def statements(path: Path) -> list[list[tokenize.TokenInfo]]:
    with path.open("rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    found: list[list[tokenize.TokenInfo]] = [[]]
    for token in tokens:
        if token.type == tokenize.NEWLINE or token.string in (";", ":"):
            found.append([])
        elif token.type in (tokenize.NAME, tokenize.OP, tokenize.STRING, tokenize.NUMBER):
            found[-1].append(token)
    return [statement for statement in found if statement]


def lines_of_uses(path: Path) -> set[int]:
    """The lines with a name or a string of the removed modules: read by ``tokenize`` alone."""
    found = statements(path)
    lines: set[int] = set()
    bound: set[str] = set()
    for statement in found:
        words = [token.string for token in statement]
        if words[0] in ("import", "from"):
            removed, copied = imported(words)
            bound |= removed
            names = {*REMOVED, *removed} if removed or copied else set()
            lines.update(x.start[0] for x in statement if x.string in names)
    for statement in found:
        words = ["", "", *(token.string for token in statement)]
        for at, token in enumerate(statement, 2):
            own = words[at - 1] != "." or (words[at - 2] == "self" and words[at] in REMOVED)
            named = words[at] in bound and own and words[2] not in ("import", "from")
            if named or (is_string(words[at]) and len(statement) > 1):
                lines.add(token.start[0])
    return lines


def imported(words: list[str]) -> tuple[set[str], bool]:
    """The names that an import of the removed modules binds, and whether it is one of a copy."""
    text = " ".join(words).replace(" . ", ".").replace("(", "").replace(")", "")
    base, _, names = text.partition("import ")
    base = base.removeprefix("from").strip()
    removed, copied = set(), False
    for each in names.split(","):
        name, _, alias = each.strip().partition(" as ")
        if (base or name) in REMOVED:
            removed.add(alias or name)
        elif {base.split(".")[-1], name.split(".")[-1], alias} & set(REMOVED):
            copied = True
    return removed, copied


def is_string(word: str) -> bool:
    return word[:1] in "\"'" and word.strip("\"'") in REMOVED


@pytest.mark.parametrize("name", HASHES)
def test_every_use_is_in_the_report_and_no_other_line(
    name: str, packages: dict[str, Path], reports: dict[str, Report]
) -> None:
    uses = {"import", "use", "subclass", "smtpd", "copy", "mention", "by-name"}
    expected = {
        (str(path), line) for path in packages[name].rglob("*.py") for line in lines_of_uses(path)
    }
    assert expected
    assert {(x.path, x.line) for x in reports[name].of_rules(*uses)} == expected


@pytest.mark.parametrize("name", HASHES)
def test_what_wants_a_change_is_what_was_found_by_hand(
    name: str, packages: dict[str, Path], reports: dict[str, Report]
) -> None:
    changes = [x for x in reports[name].findings if x.kind in ("change", "error")]
    found: dict[str, list[tuple[int, str]]] = {}
    for each in changes:
        path = Path(each.path).relative_to(packages[name]).as_posix()
        found.setdefault(path, []).append((each.line, each.rule))
    assert found == CHANGES.get(name, {})


def test_what_works_through_install_only_is_smtpd(reports: dict[str, Report]) -> None:
    needs = Counter(
        (name, finding.rule)
        for name, report in reports.items()
        for finding in report.findings
        if finding.kind == "install"
    )
    assert needs == {("dsmtpd==0.3", "smtpd"): 3}


# -- Rewritten imports ----------------------------------------------------------------


@dataclass
class Fixed:
    """A package before and after ``--fix``."""

    before: dict[Path, bytes]
    fixes: Fixes
    changed: list[Path]


@pytest.fixture(scope="session")
def fixed(packages: dict[str, Path], reports: dict[str, Report]) -> dict[str, Fixed]:
    """Each package, rewritten where it lies; the reports are of the state before."""
    found = {}
    for name, folder in packages.items():
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        fixes = fix(reports[name])
        changed = [path for path, data in before.items() if path.read_bytes() != data]
        found[name] = Fixed(before, fixes, changed)
    return found


def compiles(data: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(data, "it.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return False
    return True


@pytest.mark.parametrize("name", HASHES)
def test_what_is_fixed_compiles_and_differs_in_its_imports_only(
    name: str, fixed: dict[str, Fixed]
) -> None:
    assert {str(path) for path in fixed[name].changed} == {x.path for x in fixed[name].fixes.made}
    for path in fixed[name].changed:
        before, after = fixed[name].before[path], path.read_bytes()
        assert compiles(after)
        old, new = before.splitlines(), after.splitlines()
        assert [x for x in old if b"import" not in x] == [x for x in new if b"import" not in x]


@pytest.mark.parametrize("name", HASHES)
def test_every_file_with_an_import_is_fixed_or_said_to_be_left_alone(
    name: str, fixed: dict[str, Fixed], reports: dict[str, Report]
) -> None:
    importing = {finding.path for finding in reports[name].of_rules("import")}
    assert importing == {str(path) for path in fixed[name].changed} | set(fixed[name].fixes.left)


@pytest.mark.parametrize("name", HASHES)
def test_a_second_fix_changes_nothing(name: str, fixed: dict[str, Fixed]) -> None:
    report = check(map(str, fixed[name].changed))
    assert not report.of_rules("import")
    again = fix(report)
    assert (again.made, again.left) == ([], {})


def test_what_fix_leaves_alone_is_python_2_and_smtpd(
    packages: dict[str, Path], fixed: dict[str, Fixed]
) -> None:
    left = {
        Path(path).relative_to(packages[name]).as_posix(): why
        for name, package in fixed.items()
        for path, why in package.fixes.left.items()
    }
    assert ":20 has import smtpd, which finds" in left.pop("dsmtpd/_dsmtpd.py")
    assert left == {"ZServer/medusa/monitor.py": "it is not Python 3"}
