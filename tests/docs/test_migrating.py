"""docs/migrating.md: a program on its way, each of its states, each command that is shown."""

from __future__ import annotations

import re
import runpy
import shutil
import signal
import smtplib
import socket
import ssl
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from pages import ROOT, block, blocks, changed, commands

import txasynchat
from txasynchat.testing import check_chat_handler

if TYPE_CHECKING:
    from docs.conftest import Job, Terminal

PAGE = ROOT / "docs" / "migrating.md"
PROGRAMS = ROOT / "examples" / "migration"

IMPORTS = "import asynchat\nimport asyncore\n"
BELL = b"The bell of the tower strikes.\r\n"


@pytest.fixture
def folder(terminal: Terminal) -> Path:
    """The folder of the program."""
    for path in PROGRAMS.glob("*.py"):
        shutil.copy(path, terminal.folder)
    return terminal.folder


def step(number: int) -> str:
    """What the page shows of the program after a step."""
    (shown,) = [each for each in blocks(PAGE) if each.mark == f"program: step {number}"]
    return shown.text


def as_it_was(source: str) -> str:
    return source


def after_step_2(source: str) -> str:
    return changed(source, (IMPORTS, step(2) + "\n" + IMPORTS))


def after_step_3(source: str) -> str:
    return changed(source, (IMPORTS, step(3)))


RUN = commands(block("migrating.md", "python -m txasynchat run mud_legacy.py"))[0].line
PLAIN = "python mud_legacy.py"

#: What each state of the old program is, and how it is started.
STATES = {
    "on the removed modules": (as_it_was, PLAIN),
    "1: run": (as_it_was, RUN),
    "2: install()": (after_step_2, PLAIN),
    "3: changed imports": (after_step_3, PLAIN),
}

Start = Callable[..., "Job"]


@pytest.fixture
def start(terminal: Terminal, folder: Path) -> Start:
    """Starts the old program in one of its states."""

    def started(state: str, *arguments: object) -> Job:
        change, line = STATES[state]
        path = folder / "mud_legacy.py"
        path.write_text(change(path.read_text()))
        return terminal.start(" ".join([line, *map(str, arguments)]))

    return started


IN_EACH_STATE = pytest.mark.parametrize("state", STATES)


@IN_EACH_STATE
def test_the_old_program_is_the_same_game_in_each_state(
    terminal: Terminal, start: Start, state: str, nc: None
) -> None:
    job = start(state, 0)
    (talk,) = commands(block("migrating.md", "printf 'ann\\r\\nsay hello\\r\\nquit\\r\\n' | nc"))
    said = terminal.run(changed(talk.line, ("4000", str(job.port()))))
    assert said.splitlines() == talk.output.splitlines()
    job.stop(signal.SIGINT)
    assert job.output.endswith("ann is 127.0.0.1\nthe town sleeps\n")


@IN_EACH_STATE
def test_its_bell_strikes_in_each_state(start: Start, state: str) -> None:
    with socket.create_connection(("127.0.0.1", start(state, 0, 1).port()), 30) as ann:
        ann.sendall(b"ann\r\n")
        assert_hears(ann, BELL)


def assert_hears(client: socket.socket, words: bytes) -> None:
    heard = b""
    while words not in heard:
        more = client.recv(65536)
        assert more, heard
        heard += more


def test_it_says_where_it_listens(start: Start) -> None:
    shown = commands(block("migrating.md", "python -m txasynchat run mud_legacy.py"))[0].output
    start("1: run", 0).wait_for("^" + shown.replace("4000", r"\d+"))


def test_the_check_says_what_is_shown(terminal: Terminal, folder: Path) -> None:
    (shown,) = commands(block("migrating.md", "python -m txasynchat check --quiet mud_legacy.py"))
    assert terminal.run(shown.line) == shown.output


# -- Step 4: on an endpoint --------------------------------------------------------------


def make_a_certificate(terminal: Terminal) -> None:
    (shown,) = commands(block("migrating.md", "openssl req -x509"))
    terminal.run(shown.line)


def local(endpoint: str) -> tuple[str, str]:
    """How to change a port of a page into one that is free."""
    return endpoint, f"{endpoint.split(':')[0]}:0:interface=127.0.0.1"


def serve_with_tls(terminal: Terminal) -> Job:
    (shown,) = commands(
        block(
            "migrating.md",
            "python -m txasynchat serve --handler mud_legacy:MudServer --listen ssl:4001",
        )
    )
    return terminal.start(changed(shown.line, local("ssl:4001")))


def test_openssl_plays_the_unchanged_game_over_tls(
    terminal: Terminal, folder: Path, openssl: None
) -> None:
    make_a_certificate(terminal)
    job = serve_with_tls(terminal)
    (talk,) = commands(
        block("migrating.md", "printf 'ann\\r\\nsay hello\\r\\nquit\\r\\n' | openssl s_client")
    )
    said = terminal.run(changed(talk.line, ("4001", str(job.port("ssl")))))
    assert said.splitlines() == talk.output.splitlines()


def test_a_client_that_trusts_the_certificate_plays_the_unchanged_game(
    terminal: Terminal, folder: Path, openssl: None
) -> None:
    make_a_certificate(terminal)
    port = serve_with_tls(terminal).port("ssl")
    trusting = ssl.create_default_context(cafile=str(folder / "server.pem"))
    with socket.create_connection(("127.0.0.1", port), 30) as plain:
        plain.settimeout(30)
        with trusting.wrap_socket(plain, server_hostname="localhost") as ann:
            ann.sendall(b"ann\r\nquit\r\n")
            assert_hears(ann, b"Farewell.\r\n")


def test_the_bell_of_the_unchanged_game_strikes_in_a_service(
    terminal: Terminal, folder: Path
) -> None:
    line = "python -m txasynchat serve --handler mud_legacy:MudServer --arg 4000 --arg bell=30"
    assert line.partition("MudServer ")[2] in PAGE.read_text()
    job = terminal.start(changed(line, ("bell=30", "bell=1")) + f" --listen {local('tcp:4000')[1]}")
    with socket.create_connection(("127.0.0.1", job.port("tcp")), 30) as ann:
        ann.sendall(b"ann\r\n")
        assert_hears(ann, BELL)


def test_the_unchanged_game_is_served_to_those_with_tls_and_those_without(
    terminal: Terminal, folder: Path
) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("localhost")
    made.private_key_pem.write_to_path(str(folder / "privkey.pem"))
    made.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.cert_pem.write_to_path(str(folder / "chain.pem"))
    (shown,) = commands(
        block("migrating.md", "python -m txasynchat serve --handler mud_legacy:MudServer \\")
    )
    job = terminal.start(changed(shown.line, local("tcp:4000"), local("ssl:4001")))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with (
        socket.create_connection(("127.0.0.1", job.port("tcp")), 30) as ann,
        socket.create_connection(("127.0.0.1", job.port("ssl")), 30) as plain,
        trusting.wrap_socket(plain, server_hostname="localhost") as bob,
    ):
        ann.sendall(b"ann\r\n")
        assert_hears(ann, b"Here: ann.")
        bob.sendall(b"bob\r\n")
        assert_hears(ann, b"bob comes into town.\r\n")


#: What the page's own programs begin with: the server takes any port, and says which.
FIRST = """
import txasynchat; txasynchat.install()
import mud_legacy

Old = mud_legacy.MudServer

class MudServer(Old):
    def __init__(self):
        Old.__init__(self, port=0, bell=1)
        print("listening on 127.0.0.1:%d" % self.socket.getsockname()[1], flush=True)

mud_legacy.MudServer = MudServer
"""


@pytest.mark.parametrize(
    ("of_it", "last"),
    [
        ("def main(reactor)", "from twisted.internet.task import react; react(main)"),
        ("async def serve_beside_asyncio", "asyncio.run(serve_beside_asyncio())"),
    ],
    ids=["in a Twisted application", "in an asyncio program"],
)
def test_the_unchanged_game_runs_beside_other_code(
    terminal: Terminal, folder: Path, of_it: str, last: str
) -> None:
    (shown,) = [each.text for each in blocks(PAGE) if of_it in each.text]
    (folder / "whole.py").write_text("\n".join([FIRST, shown, last, ""]))
    job = terminal.start("python whole.py")
    with socket.create_connection(("127.0.0.1", job.port()), 30) as ann:
        ann.sendall(b"ann\r\n")
        assert_hears(ann, BELL)


def test_a_program_of_ones_own_serves_the_unchanged_game(terminal: Terminal, folder: Path) -> None:
    (shown,) = [each.text for each in blocks(PAGE) if "LegacyFactory.for_server" in each.text]
    (folder / "whole.py").write_text(
        f"""{FIRST}
{shown}
from twisted.internet.defer import Deferred
from twisted.internet.task import react

async def main(reactor):
    port = await serve(reactor, "tcp:0:interface=127.0.0.1")
    print(f"serving on {{port.getHost().port}}", flush=True)
    await Deferred()

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""
    )
    job = terminal.start("python whole.py")
    port = int(job.wait_for(r"serving on (\d+)").group(1))
    assert terminal.ask(port, b"ann\r\nquit\r\n").endswith(b"Farewell.\r\n")


# -- Step 5: AsyncChat ---------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["telnet", "nc"])
def test_the_new_program_is_the_game_for_lines_of_telnet_and_of_nc(
    terminal: Terminal, folder: Path, openssl: None, end: bytes
) -> None:
    make_a_certificate(terminal)
    (shown,) = commands(
        block("migrating.md", "python -m txasynchat serve --handler mud_asyncchat:Mud")
    )
    job = terminal.start(changed(shown.line, local("tcp:4000"), local("ssl:4001")))
    (talk,) = commands(block("migrating.md", "printf 'ann\\r\\nsay hello\\r\\nquit\\r\\n' | nc"))
    said = terminal.ask(job.port("tcp"), end.join([b"ann", b"say hello", b"quit", b""]))
    assert said.decode().splitlines() == talk.output.splitlines()
    note = end.join([b"ann", b"write", b"a", b".", b"read", b"quit", b""])
    assert b"ann wrote:\r\na\r\n" in terminal.ask(job.port("tcp"), note)


# -- Step 6: tests --------------------------------------------------------------------------


def test_the_tests_of_the_game_pass(terminal: Terminal, folder: Path) -> None:
    install, test = commands(block("migrating.md", "pip install pytest"))
    assert install.line == "pip install pytest"  # that is there
    # What this run has loaded from its environment is not needed there.
    said = terminal.run(f"{test.line} -p no:cacheprovider")
    in_any_time = re.compile(r" in [\d.]+s")
    assert in_any_time.sub("", said) == in_any_time.sub("", test.output)


def test_the_test_of_the_trap_finds_it(terminal: Terminal, folder: Path) -> None:
    path = folder / "mud_asyncchat.py"
    path.write_text(changed(path.read_text(), ("if not self.is_open:", "if False:")))
    said = terminal.run("python -m pytest -q -k farewell test_mud.py -p no:cacheprovider", status=1)
    failed = re.findall(r"^FAILED (\S+)", said, re.MULTILINE)
    trap = "test_who_does_not_hear_the_farewell_is_no_trouble_to_others"
    assert failed == [f"test_mud.py::{trap}[after]"]


def test_the_kit_finds_that_notes_hang_there_for_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(PROGRAMS)
    txasynchat.install()
    try:
        names = runpy.run_path(str(PROGRAMS / "test_mud.py"))
    finally:
        txasynchat.uninstall()
    found = check_chat_handler(names["mud_legacy"].MudServer, names["SAMPLE"], raises=False)
    assert [each.rule for each in found] == ["queues"]


def test_the_table_says_how_much_changes() -> None:
    old, new = [
        (PROGRAMS / f"mud_{style}.py").read_text().splitlines() for style in ("legacy", "asyncchat")
    ]
    gone = [line for line in old if line not in set(new)]
    assert f"some {round(len(gone), -1)} lines of {round(len(old), -1)}" in PAGE.read_text()


# -- smtpd ------------------------------------------------------------------------------------


@pytest.mark.skipif(
    find_spec("smtpd") is None, reason="smtpd is not here: pip install standard-smtpd"
)
def test_a_mail_server_runs(terminal: Terminal) -> None:
    server = ROOT / "tests" / "legacy" / "programs" / "smtpd_server.py"
    shutil.copy(server, terminal.folder / "mail_server.py")
    install, start = commands(block("migrating.md", "pip install standard-smtpd"))
    assert install.line == "pip install standard-smtpd"  # that is there
    job = terminal.start(start.line)
    port = int(job.wait_for(r"(?m)^(\d+)$").group(1))
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.sendmail("ann@example.com", ["bob@example.com"], "Subject: hello\n\nhello\n")
    job.stop()
    assert '"delivered": [["ann@example.com", ["bob@example.com"]' in job.output
