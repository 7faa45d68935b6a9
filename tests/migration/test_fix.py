"""``python -m txasynchat check --fix``: imports are rewritten, and nothing else."""

from __future__ import annotations

import ast
import builtins
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txasynchat.check import check
from txasynchat.fix import fix, rewritten


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import asyncore\n", "from txasynchat import asyncore\n"),
        ("import asyncore as a", "from txasynchat import asyncore as a"),
        ("import asyncore, asynchat\n", "from txasynchat import asyncore, asynchat\n"),
        ("from asyncore import loop\n", "from txasynchat.asyncore import loop\n"),
        ("from asynchat import *\n", "from txasynchat.asynchat import *\n"),
        (
            "from asyncore import (  # all\n    loop as run,\n    dispatcher,  # base\n)\n",
            "from txasynchat.asyncore import (  # all\n"
            "    loop as run,\n    dispatcher,  # base\n)\n",
        ),
        (
            "# first\nimport asyncore, socket as s, asynchat as ac, os  # last\n",
            "# first\nfrom txasynchat import asyncore, asynchat as ac\n"
            "import socket as s, os  # last\n",
        ),
        ("import os, asyncore\n", "from txasynchat import asyncore\nimport os\n"),
        (
            "import os; import asyncore;x = 1\n",
            "import os; from txasynchat import asyncore;x = 1\n",
        ),
        (
            "if os: import asyncore, socket\n",
            "if os: from txasynchat import asyncore; import socket\n",
        ),
        (
            "import asyncore, os; x = 1\n",
            "from txasynchat import asyncore; import os; x = 1\n",
        ),
        (
            "try:\n    import asyncore, os\nexcept ImportError:\n    asyncore = None\n",
            "try:\n    from txasynchat import asyncore\n    import os\n"
            "except ImportError:\n    asyncore = None\n",
        ),
        (
            "import asyncore, \\\n       asynchat\n",
            "from txasynchat import asyncore, \\\n       asynchat\n",
        ),
        (
            "import socket as x, asyncore as x\n",
            "import socket as x\nfrom txasynchat import asyncore as x\n",
        ),
        (
            "def f():\r\n\timport  asyncore\r\n",
            "def f():\r\n\tfrom txasynchat import  asyncore\r\n",
        ),
    ],
)
def test_an_import_is_rewritten(source: str, expected: str) -> None:
    assert rewritten(source) == expected
    assert rewritten(expected) == expected


@pytest.mark.parametrize(
    "source",
    [
        "from txasynchat import asyncore\nfrom txasynchat.asynchat import fifo\n",
        "from . import asyncore\nfrom .asyncore import loop\n",
        "from supervisor.medusa import asyncore_25 as asyncore\n",
        "import smtpd\nfrom smtpd import SMTPServer\n",
        "import asyncorelib, asyncio\n",
        "x = 'import asyncore'  # import asyncore\n",
        "x = 1\x0c\n\n\nif  x :pass ;\r\n\r\nclass A :\n\ty=  2\n",
        "",
    ],
)
def test_everything_else_stays_as_it_is(source: str) -> None:
    assert rewritten(source) == source


def test_the_imports_of_a_copy_stay() -> None:
    source = "import asyncore\nfrom asynchat import fifo\n"
    assert rewritten(source, frozenset({"asyncore"})) == (
        "import asyncore\nfrom txasynchat.asynchat import fifo\n"
    )


def test_what_is_not_python_is_refused() -> None:
    with pytest.raises(ValueError, match="can't parse"):
        rewritten("import asyncore\nprint 'x'\n")


# -- At random ------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["asyncore", "asynchat", "os", "socket", "six.moves", "txasynchat.asyncore"]
)
ALIASES = st.sampled_from(["", "", " as a", " as asyncore", " as b", " \\\n  as c"])
COMMENTS = st.sampled_from(["", "  # asyncore", " ", "\t#: x; import asynchat"])
BLANKS = st.sampled_from(["", "\n", "# import asyncore\n", "x = 'import asyncore'\n", "\x0c\n"])


@st.composite
def import_lines(draw: st.DrawFn) -> str:
    if draw(st.booleans()):
        pairs = draw(st.lists(st.tuples(NAMES, ALIASES), min_size=1, max_size=5))
        comma = draw(st.sampled_from([", ", ",", " , ", ", \\\n    "]))
        return "import " + comma.join(f"{name}{alias}" for name, alias in pairs)
    module = draw(st.sampled_from(["asyncore", "asynchat", "os", "txasynchat"]))
    pairs = draw(st.lists(st.tuples(st.sampled_from("pqr"), ALIASES), min_size=1, max_size=4))
    names = ", ".join(f"{name}{alias}" for name, alias in pairs)
    style = draw(st.sampled_from(["{}", "({})", "(\n    {},  # asyncore\n)"]))
    return f"from {module} import " + (style.format(names) if "\\" not in names else names)


@st.composite
def sources(draw: st.DrawFn) -> str:
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = ""
    for line in draw(st.lists(import_lines(), min_size=1, max_size=6)):
        kind = draw(st.sampled_from(["plain", "suite", "semicolon", "block"]))
        comment = draw(COMMENTS)
        text += draw(BLANKS)
        if kind == "plain":
            text += f"{line}{comment}\n"
        elif kind == "semicolon":
            text += f"y = 1; {line} ;z = 2{comment}\n"
        elif kind == "suite":
            text += f"if 1: {line}{comment}\n"
        else:
            text += f"try:\n\t# asyncore\n\t{line}{comment}\nfinally:\n\tpass\n"
    text += draw(BLANKS)
    if draw(st.booleans()):
        text = text.rstrip("\n")
    return text.replace("\n", newline)


class Fake(SimpleNamespace):
    """A module, whatever its name, that has every name."""

    def __getattr__(self, name: str) -> Any:
        return f"{self.name}.{name}" if not name.startswith("__") else None


def bound_by(source: str) -> dict[str, Any]:
    """What names are bound to when a source is run among modules that are not real."""

    def load(name: str, names: Any, locals: Any, wanted: Any = (), level: int = 0) -> Any:
        real = name.removeprefix("txasynchat.") if "." in name else name
        if wanted:
            if name == "txasynchat":
                return SimpleNamespace(
                    **{x: Fake(name=x) for x in ("asyncore", "asynchat", *"pqr")}
                )
            return Fake(name=real)
        return Fake(name=name.split(".")[0])

    names: dict[str, Any] = {"__builtins__": {**vars(builtins), "__import__": load}}
    exec(compile(source, "it.py", "exec"), names)
    del names["__builtins__"]
    return names


@given(sources())
def test_any_import_binds_what_it_bound_and_the_rest_is_the_same(source: str) -> None:
    new = rewritten(source)
    assert rewritten(new) == new
    assert bound_by(new) == bound_by(source)
    assert not imports_of_the_removed(new)
    assert lines_without_imports(new) == lines_without_imports(source)


def imports_of_the_removed(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [x.name for x in node.names if x.name in ("asyncore", "asynchat")]
        elif isinstance(node, ast.ImportFrom) and node.module in ("asyncore", "asynchat"):
            found.append(node.module)
    return found


def lines_without_imports(source: str) -> list[str]:
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    return [line for line in lines if line.strip()]


# -- Programs -------------------------------------------------------------------------

PROGRAMS = Path(__file__).parents[1] / "legacy" / "programs"
#: Imports are not all that these need: an option of run, and another package.
NEED_MORE = ("idiom_12_ssl_wrap_socket", "idiom_17_smtpd")
NAMES_OF_PROGRAMS = sorted(
    path.stem for path in PROGRAMS.glob("*.txt") if path.stem not in NEED_MORE
)


@pytest.mark.parametrize("name", NAMES_OF_PROGRAMS)
def test_a_program_with_rewritten_imports_runs_by_itself(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text(rewritten((PROGRAMS / path.name).read_text()))
    done = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    transcript = (PROGRAMS / f"{name}.txt").read_text()
    assert (done.stderr, done.stdout) == ("", transcript)


# -- Files ----------------------------------------------------------------------------


def command(*arguments: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "txasynchat", "check", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        **more,
    )


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, source: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return path

    return write


def test_fix_prints_what_it_rewrites_and_the_report_of_the_new_state(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    path = file("bot.py", "import asyncore, os  # both\nasyncore.loop()\n")
    done = command("--fix", ".", cwd=tmp_path)
    assert done.stdout == (
        "./bot.py:1: fixed: import asyncore, os -> from txasynchat import asyncore; import os\n"
        "./bot.py:1: works: from txasynchat import asyncore\n"
        "./bot.py:3: works: asyncore.loop\n"
        "1 file read\n"
        "works 2, install 0, change 0, error 0, note 0\n"
        "Next: nothing, the imports are txasynchat's.\n"
    )
    assert done.returncode == 0
    assert path.read_text() == (
        "from txasynchat import asyncore\nimport os  # both\nasyncore.loop()\n"
    )


def test_a_second_run_changes_nothing(file: Callable[[str, str], Path], tmp_path: Path) -> None:
    path = file("bot.py", "import asyncore\n")
    command("--fix", ".", cwd=tmp_path)
    before = path.stat()
    done = command("--fix", ".", cwd=tmp_path)
    assert "fixed" not in done.stdout
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_diff_shows_it_and_changes_nothing(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    path = file("bot.py", "import asyncore\n")
    done = command("--diff", "bot.py", cwd=tmp_path)
    assert done.stdout.startswith(
        "--- bot.py\n+++ bot.py (fixed)\n@@ -1 +1 @@\n"
        "-import asyncore\n+from txasynchat import asyncore\n"
        "bot.py:1: works: import asyncore\n"
    )
    assert path.read_text() == "import asyncore\n"


def test_json_has_what_was_fixed_and_what_was_left(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("bot.py", "import asyncore\n")
    file("old.py", "import asyncore\nprint 1\n")
    done = command("--fix", "--json", ".", cwd=tmp_path)
    printed = json.loads(done.stdout)
    before, after = "import asyncore", "from txasynchat import asyncore"
    assert printed["fixed"] == [{"path": "./bot.py", "line": 1, "before": before, "after": after}]
    assert printed["left"] == [{"path": "./old.py", "why": "it is not Python 3"}]
    assert (printed["status"], done.returncode) == (1, 1)


def test_each_change_is_told_by_its_line(
    file: Callable[[str, str], Path],
) -> None:
    source = "import os\n\nif os:\n    def f():\n        import os; import asyncore\n"
    path = file("bot.py", f"{source}try: from asynchat import (\n  fifo)\nfinally: import asyncore")
    lines = [(change.line, change.before) for change in fix(check([str(path)])).made]
    assert lines == [
        (5, "import asyncore"),
        (6, "from asynchat import (\n  fifo)"),
        (8, "import asyncore"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfimport asyncore\r\nx = 1\r\n",
        b"# -*- coding: latin-1 -*-\nimport asyncore\nx = '\xe4'\n",
        b"#!/usr/bin/env python\nimport asyncore",
        b"import asyncore\nx = 1\r\ny = 2\n\x0c\n",
    ],
)
def test_the_bytes_around_an_import_stay(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bot.py"
    path.write_bytes(data)
    fixes = fix(check([str(path)]))
    assert not fixes.left
    assert path.read_bytes() == data.replace(b"import asyncore", b"from txasynchat import asyncore")


def test_a_file_that_libcst_would_change_elsewhere_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bot.py"
    path.write_bytes(b"import asyncore\rx = 1\r")
    fixes = fix(check([str(path)]))
    assert fixes.left == {str(path): "libcst would change more than the imports"}
    assert path.read_bytes() == b"import asyncore\rx = 1\r"


def test_the_mode_of_a_file_stays_and_a_link_to_it_too(tmp_path: Path) -> None:
    path = tmp_path / "real" / "bot.py"
    path.parent.mkdir()
    path.write_text("import asyncore\n")
    path.chmod(0o750)
    link = tmp_path / "link.py"
    link.symlink_to(path)
    fix(check([str(link)]))
    assert link.is_symlink()
    assert path.read_text() == "from txasynchat import asyncore\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert os.listdir(path.parent) == ["bot.py"]


def test_a_file_that_can_not_be_replaced_is_left_and_nothing_lies_about(
    file: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    path = file("bot.py", "import asyncore\n")
    monkeypatch.setattr("os.replace", full)
    fixes = fix(check([str(path)]))
    assert fixes.left == {str(path): "can't be written: No space left on device"}
    assert fixes.made == []
    assert path.read_text() == "import asyncore\n"
    assert os.listdir(tmp_path) == ["bot.py"]


@pytest.mark.parametrize(
    "other",
    [
        "import smtpd",
        "from bacpypes.core import run",
        "import mock\nmock.patch('asyncore.loop')",
        "import sys\nsys.modules['asyncore']",
    ],
)
def test_a_program_that_needs_the_old_names_is_left_alone(
    other: str, file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    path = file("bot.py", "import asyncore\n")
    file("other.py", other)
    done = command("--fix", ".", cwd=tmp_path)
    assert path.read_text() == "import asyncore\n"
    (line,) = [line for line in done.stdout.splitlines() if "left alone" in line]
    assert line.startswith("./bot.py: left alone: ./other.py:")
    assert line.endswith("call txasynchat.install() before it imports them")
    assert done.returncode == 1


def test_where_install_is_called_the_names_are_one_and_the_same(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("main.py", "import txasynchat\ntxasynchat.install()\nimport smtpd\n")
    path = file("bot.py", "import asyncore\n")
    assert command("--fix", ".", cwd=tmp_path).returncode == 0
    assert path.read_text() == "from txasynchat import asyncore\n"


def test_python_2_is_left_alone_and_the_other_files_are_not(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    old = file("old.py", "import asyncore\nprint 'x'\n")
    new = file("new.py", "import asyncore\n")
    done = command("--fix", ".", cwd=tmp_path)
    assert "./old.py: left alone: it is not Python 3\n" in done.stdout
    assert old.read_text() == "import asyncore\nprint 'x'\n"
    assert new.read_text() == "from txasynchat import asyncore\n"
    assert done.returncode == 1


def test_an_import_that_may_mean_the_copy_beside_it_is_left_alone(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("pack/__init__.py", "")
    file("pack/asyncore.py", "")
    path = file("pack/part.py", "import asyncore\nimport asynchat\n")
    done = command("--fix", ".", cwd=tmp_path)
    assert path.read_text() == "import asyncore\nfrom txasynchat import asynchat\n"
    assert "pack/part.py: left alone: asyncore may be the copy beside it" in done.stdout
    assert done.returncode == 1


def test_a_script_beside_a_copy_is_left_alone(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("asyncore.py", "")
    path = file("bot.py", "import asyncore\n")
    assert command("--fix", ".", cwd=tmp_path).returncode == 0
    assert path.read_text() == "import asyncore\n"


def test_without_libcst_it_says_what_to_install(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("bot.py", "import asyncore\n")
    file("hidden/libcst.py", "raise ModuleNotFoundError('no', name='libcst')")
    hidden = {**os.environ, "PYTHONPATH": str(tmp_path / "hidden")}
    done = command("--fix", "bot.py", cwd=tmp_path, env=hidden)
    assert done.returncode == 2
    assert "pip install libcst" in done.stderr
    assert command("bot.py", cwd=tmp_path, env=hidden).returncode == 0
