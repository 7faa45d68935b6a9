"""The idioms of real programs, each as a whole program that is run as it is.

What each must print stands beside it, ``programs/NAME.txt``. The same programs, with the
same transcripts, run on the old modules: that is what makes them legacy programs.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import trustme
from support import bare_environment

TIMEOUT = 30
PROGRAMS = Path(__file__).with_name("programs")
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.txt"))
IDIOMS = 22

#: Those that end with something else than 0.
STATUS = {"idiom_15_exit_now_and_close_all": 3}

#: Those that wait, run threads, fork, or are ended by a signal: where the reactor matters.
ON_EACH_REACTOR = [
    "idiom_01_loop_in_try",
    "idiom_02_loop_count_in_own_while",
    "idiom_03_own_poll",
    "idiom_04_loop_in_a_thread",
    "idiom_05_own_maps",
    "idiom_06_chat_on_pipes",
    "idiom_14_time_based_predicates",
    "idiom_15_exit_now_and_close_all",
    "idiom_18_added_from_another_thread",
    "idiom_21_push_from_main_thread",
    "idiom_22_close_from_another_thread",
    "reference_conversation",
]

#: Why the old modules of Python 3 cannot run them.
NOT_ON_THE_OLD_MODULES = {
    "idiom_09_fifo_assigned": "they have no fifo class since Python 3",
    "idiom_09_fifo_class": "they have no fifo class since Python 3",
    "idiom_19_socket_methods_forwarded": "they forward nothing to the socket since Python 3",
    "idiom_21_push_from_main_thread": "they lose data when two threads are at one queue",
}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files: a certificate, its key, who signed it, and somebody who did not."""
    folder = tmp_path_factory.mktemp("certificates")
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("localhost")
    paths = [folder / name for name in ("certificate", "key", "authority", "other")]
    certificate.cert_chain_pems[0].write_to_path(str(paths[0]))
    certificate.private_key_pem.write_to_path(str(paths[1]))
    authority.cert_pem.write_to_path(str(paths[2]))
    other.cert_pem.write_to_path(str(paths[3]))
    return [str(path) for path in paths]


def interpreter(name: str) -> list[str]:
    """The interpreter for a program; quiet about what is deprecated in the interpreter."""
    # smtpd, wherever it is from, and ssl.wrap_socket, where it still is
    warns = name == "idiom_17_smtpd" or (
        name == "idiom_12_ssl_wrap_socket" and sys.version_info < (3, 12)
    )
    return [sys.executable, *(["-W", "ignore::DeprecationWarning"] if warns else [])]


def check(name: str, command: list[str], folder: Path) -> None:
    """Run a program; it ends as it is to, prints what it is to, and has no complaints."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=bare_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == (PROGRAMS / f"{name}.txt").read_text().splitlines()
    assert done.returncode == STATUS.get(name, 0)


def program(name: str, certificates: list[str]) -> list[str]:
    """The program with its arguments."""
    return [
        str(PROGRAMS / f"{name}.py"),
        *(certificates if name == "idiom_12_ssl_wrap_socket" else []),
    ]


def options(name: str) -> list[str]:
    return ["--ssl-wrap-socket"] if name == "idiom_12_ssl_wrap_socket" else []


def needs_smtpd(name: str) -> None:
    if name.startswith("idiom_17") and find_spec("smtpd") is None:
        pytest.skip("smtpd is not here: pip install standard-smtpd")


def test_there_is_a_program_for_each_idiom() -> None:
    numbers = {int(name.split("_")[1]) for name in NAMES if name.startswith("idiom_")}
    assert numbers == set(range(1, IDIOMS + 1))


def test_each_program_has_a_transcript() -> None:
    programs = sorted(path.stem for path in PROGRAMS.glob("*.py"))
    assert [name for name in programs if not name.startswith("smtpd_")] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_program_knows_nothing_of_this_project(name: str) -> None:
    tree = ast.parse((PROGRAMS / f"{name}.py").read_text())
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported & {"asyncore", "asynchat"}
    assert imported <= {*sys.stdlib_module_names, "asyncore", "asynchat", "smtpd"}


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_unmodified(name: str, certificates: list[str], tmp_path: Path) -> None:
    needs_smtpd(name)
    command = [*interpreter(name), "-m", "txasynchat", "run", *options(name)]
    check(name, [*command, *program(name, certificates)], tmp_path)


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
@pytest.mark.parametrize("name", ON_EACH_REACTOR)
def test_it_runs_unmodified_on_a_reactor_of_ones_choice(
    name: str, reactor: str, certificates: list[str], tmp_path: Path
) -> None:
    if reactor == "epoll" and not sys.platform.startswith("linux"):
        pytest.skip("epoll is Linux's")
    command = [*interpreter(name), "-m", "txasynchat", "run", "--reactor", reactor, *options(name)]
    check(name, [*command, *program(name, certificates)], tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_old_modules_give_the_same_transcript(
    name: str, certificates: list[str], tmp_path: Path
) -> None:
    if name in NOT_ON_THE_OLD_MODULES:
        pytest.skip(f"not on the old modules: {NOT_ON_THE_OLD_MODULES[name]}")
    if find_spec("asyncore") is None or find_spec("asynchat") is None:
        pytest.skip("the old modules are not here, neither the interpreter's nor PyPI's copies")
    if name == "idiom_12_ssl_wrap_socket" and sys.version_info >= (3, 12):
        pytest.skip("ssl.wrap_socket() is gone from this interpreter")
    needs_smtpd(name)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", *program(name, certificates)]
    check(name, command, tmp_path)
