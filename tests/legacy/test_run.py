"""``python -m txasynchat run``: an unmodified program, on our modules."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SAY_WHOSE = """\
import sys, asyncore, asynchat
print(asyncore.__name__, asynchat.__name__, sys.argv)
"""


def run(
    *arguments: str, cwd: Path, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command of ours in `cwd`, by the interpreter of the tests."""
    return subprocess.run(
        [sys.executable, *before, "-m", "txasynchat", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


def program(folder: Path, source: str, name: str = "program.py") -> Path:
    """Write a program."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return path


def test_a_script_gets_our_modules_and_its_own_arguments(tmp_path: Path) -> None:
    program(tmp_path, SAY_WHOSE)
    done = run("run", "program.py", "-v", "--count", "3", cwd=tmp_path)
    assert done.stdout == (
        "txasynchat.asyncore txasynchat.asynchat ['program.py', '-v', '--count', '3']\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_script_imports_what_lies_beside_it(tmp_path: Path) -> None:
    program(tmp_path, "import beside", "sub/script.py")
    program(tmp_path, "print('found')", "sub/beside.py")
    assert run("run", "sub/script.py", cwd=tmp_path).stdout == "found\n"


def test_a_script_is_the_main_module(tmp_path: Path) -> None:
    program(
        tmp_path,
        "import sys\n"
        "class Here: pass\n"
        "print(__name__, __file__, Here.__module__, sys.modules['__main__'].Here is Here)\n",
    )
    assert run("run", "program.py", cwd=tmp_path).stdout == "__main__ program.py __main__ True\n"


def test_a_module_is_run_with_its_own_arguments(tmp_path: Path) -> None:
    program(tmp_path, SAY_WHOSE, "package/tool.py")
    done = run("run", "-m", "package.tool", "-x", cwd=tmp_path)
    path = tmp_path / "package" / "tool.py"
    assert done.stdout == f"txasynchat.asyncore txasynchat.asynchat ['{path}', '-x']\n"


def test_a_package_is_run_by_its_main_module(tmp_path: Path) -> None:
    program(tmp_path, "from . import part\nprint(__package__, part.__name__)", "tool/__main__.py")
    program(tmp_path, "", "tool/part.py")
    program(tmp_path, "", "tool/__init__.py")
    assert run("run", "-m", "tool", cwd=tmp_path).stdout == "tool tool.part\n"


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("sys.exit(3)", 3),
        ("sys.exit()", 0),
        ("sys.exit('no')", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
def test_the_exit_status_is_the_programs_own(tmp_path: Path, ending: str, status: int) -> None:
    program(tmp_path, f"import sys\n{ending}\n")
    assert run("run", "program.py", cwd=tmp_path).returncode == status


def test_a_traceback_is_the_programs_own(tmp_path: Path) -> None:
    program(tmp_path, "def f():\n    raise ValueError('of the program')\n\nf()\n")
    alone = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    done = run("run", "program.py", cwd=tmp_path)
    assert alone.stderr.replace(f"{tmp_path}/", "") == done.stderr
    assert done.returncode == 1


def test_a_syntax_error_is_shown_without_a_traceback_of_ours(tmp_path: Path) -> None:
    program(tmp_path, "print 'Python 2'\n")
    done = run("run", "program.py", cwd=tmp_path)
    assert done.returncode == 1
    assert 'File "program.py", line 1' in done.stderr
    assert "txasynchat" not in done.stderr


def test_what_is_raised_out_of_the_loop_ends_the_program(tmp_path: Path) -> None:
    program(
        tmp_path,
        "import asyncore, socket\n"
        "a, b = socket.socketpair()\n"
        "class Quits(asyncore.dispatcher):\n"
        "    def handle_read(self):\n"
        "        raise SystemExit(5)\n"
        "Quits(a)\n"
        "b.send(b'x')\n"
        "asyncore.loop()\n",
    )
    done = run("run", "program.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (5, "")


def test_without_a_reactor_asked_for_none_is_loaded(tmp_path: Path) -> None:
    program(
        tmp_path,
        "import asyncore, sys\n"
        "asyncore.loop(timeout=0, count=1)\n"
        "print('twisted.internet.reactor' in sys.modules)\n",
    )
    assert run("run", "program.py", cwd=tmp_path).stdout == "False\n"


@pytest.mark.parametrize("name", ["poll", "select", "asyncio"])
def test_the_reactor_asked_for_is_the_one_that_runs_the_loop(tmp_path: Path, name: str) -> None:
    program(
        tmp_path,
        "import asyncore, socket\n"
        "from twisted.internet import reactor\n"
        "a, b = socket.socketpair()\n"
        "class Once(asyncore.dispatcher):\n"
        "    def writable(self):\n"
        "        return False\n"
        "    def handle_read(self):\n"
        "        print(type(reactor).__name__.lower(), reactor.running)\n"
        "        self.close()\n"
        "Once(a)\n"
        "reactor.callLater(0, b.send, b'x')\n"
        "asyncore.loop()\n"
        "print(reactor.running)\n",
    )
    done = run("run", "--reactor", name, "program.py", cwd=tmp_path)
    assert done.stdout.startswith(name)
    assert done.stdout.endswith("reactor True\nFalse\n")
    assert done.stderr == ""


def test_a_reactor_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    done = run("run", "--reactor", "nuclear", "program.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "--reactor nuclear: there is no such reactor; there are asyncio, " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py"], "can't open nowhere.py: No such file or directory"),
        (["-m", "nowhere"], "no module named nowhere that can be run"),
        (["-m", "nowhere.at.all"], "no module named nowhere.at.all"),
        ([], "the following arguments are required: SCRIPT"),
    ],
)
def test_a_program_that_is_not_there_is_said_in_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_ssl_wrap_socket_is_back_only_if_asked_for(tmp_path: Path) -> None:
    program(tmp_path, "import ssl\nprint(hasattr(ssl, 'wrap_socket'))\n")
    before = str(sys.version_info < (3, 12))
    assert run("run", "program.py", cwd=tmp_path).stdout.strip() == before
    asked = run("run", "--ssl-wrap-socket", "program.py", cwd=tmp_path)
    assert asked.stdout.strip() == "True"


def test_the_help_names_the_options() -> None:
    done = run("run", "--help", cwd=Path.cwd())
    for word in ("--reactor", "--ssl-wrap-socket", "-m MODULE", "SCRIPT"):
        assert word in done.stdout
