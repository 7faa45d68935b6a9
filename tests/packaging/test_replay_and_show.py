"""``python -m txasynchat replay`` and ``show``, run as an operator runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HANDLERS = """
import asynchat
import txasynchat

class Upper(txasynchat.AsyncChat):
    def handle_connect(self):
        self.set_terminator(b"\\n")
    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)
    def found_terminator(self):
        self.push(self.answer(self._get_data()) + b"\\n")
    def answer(self, line):
        return line.upper()

class Title(Upper):
    def answer(self, line):
        return line.title()

class Old(asynchat.async_chat):
    def __init__(self, sock, addr):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b"\\n")
        self.data = b""
    def collect_incoming_data(self, data):
        self.data += data
    def found_terminator(self):
        self.push(self.data.upper() + b"\\n")
        self.data = b""
"""

OPENING = {
    "time": 1700000000.0,
    "connection": 1,
    "event": "open",
    "peer": "192.0.2.1:4711",
    "host": "198.51.100.1:25",
    "handler": "Upper",
    "tls": False,
}


def event(name: str, data: str | None = None, connection: int = 1, **more: Any) -> str:
    fields: dict[str, Any] = {"time": 1700000000.25, "connection": connection, "event": name}
    if data is not None:
        fields["data"] = data
    return json.dumps({**fields, **more}) + "\n"


def opening(connection: int = 1) -> str:
    return json.dumps({**OPENING, "connection": connection}) + "\n"


END = event(
    "close",
    reason="ConnectionDone",
    detail="Connection was closed cleanly.",
    close_reason="peer",
    close_detail="it finished sending",
)

SESSION = opening() + event("in", "hel") + event("in", "lo\n") + event("out", "HELLO\n") + END


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with handlers and a transcript."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "trace.jsonl").write_text(SESSION)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "txasynchat", *arguments],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, "TZ": "UTC", "PYTHONIOENCODING": "utf-8"},
    )


# -- replay -----------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["handlers:Upper", "handlers:Old"])
def test_a_handler_that_answers_as_recorded_is_status_0_and_one_line(
    folder: Path, handler: str
) -> None:
    done = run(folder, "replay", "trace.jsonl", "--handler", handler)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "trace.jsonl: 1 connection, 6 bytes in, 6 bytes out: all as recorded\n"


def test_a_handler_that_answers_otherwise_is_status_1_and_the_line(folder: Path) -> None:
    done = run(folder, "replay", "trace.jsonl", "--handler", "handlers:Title")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "trace.jsonl:4: connection 1: expected b'HELLO\\n', got b'Hello\\n'\n"


def test_masked_input_is_pointed_out(folder: Path) -> None:
    (folder / "trace.jsonl").write_text(
        opening() + event("in", "***\n", masked=True) + event("out", "***\n") + END
    )
    done = run(folder, "replay", "trace.jsonl", "--handler", "handlers:Upper")
    assert done.returncode == 0
    assert done.stderr.startswith("trace.jsonl:2: connection 1: the input was masked")


def test_one_connection_of_several_is_replayed_alone(folder: Path) -> None:
    path = folder / "trace.jsonl"
    path.write_text(SESSION + opening(2) + event("in", "a\n", 2) + event("out", "b\n", 2))
    done = run(folder, "replay", "trace.jsonl", "--handler", "handlers:Upper", "--connection", "1")
    assert done.returncode == 0
    done = run(folder, "replay", "trace.jsonl", "--handler", "handlers:Upper", "--connection", "2")
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing", "--handler", "handlers:Upper"], "missing: No such file or directory"),
        (["handlers.py", "--handler", "handlers:Upper"], "handlers.py: line 2 is no record"),
        (["trace.jsonl", "--handler", "handlers:Lower"], "--handler handlers:Lower: "),
        (["trace.jsonl", "--handler", "nonsense"], "--handler nonsense: expected MODULE:NAME"),
        (
            ["trace.jsonl", "--handler", "handlers:Upper", "--connection", "7"],
            "trace.jsonl: there is no connection 7 in it",
        ),
    ],
)
def test_what_can_not_be_replayed_is_status_2_and_one_line(
    folder: Path, arguments: list[str], words: str
) -> None:
    done = run(folder, "replay", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"python -m txasynchat replay: {words}")
    assert done.stderr.count("\n") == 1


def test_a_time_that_is_none_is_refused(folder: Path) -> None:
    arguments = ["replay", "trace.jsonl", "--handler", "handlers:Upper", "--timeout", "-1"]
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("argument --timeout: -1 is no time to wait")


# -- show -------------------------------------------------------------------------------


def test_a_conversation_is_shown_for_people(folder: Path) -> None:
    done = run(folder, "show", "trace.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "     +0.000000    1  open, 2023-11-14 22:13:20: Upper on 198.51.100.1:25, "
        "peer 192.0.2.1:4711",
        "     +0.250000    1  -> hel",
        "     +0.250000    1  -> lo\\n",
        "     +0.250000    1  <- HELLO\\n",
        "     +0.250000    1  close: by peer, it finished sending; Connection was closed cleanly.",
    ]


def test_text_is_shown_as_text_and_what_is_none_in_hexadecimal(folder: Path) -> None:
    text = "größe\t\\\r\nein Ω\n"
    (folder / "trace.jsonl").write_text(
        opening() + event("in", text.encode().decode("latin-1")) + event("out", "\x1b[2J\xff")
    )
    done = run(folder, "show", "trace.jsonl")
    assert done.stdout.splitlines()[1:] == [
        "     +0.250000    1  -> größe\\t\\\\\\r\\n",
        "     +0.250000    1  -> ein Ω\\n",
        "     +0.250000    1  <- 00000000  1b 5b 32 4a ff                                    .[2J.",
    ]


def test_all_is_shown_in_hexadecimal_where_that_is_asked_for(folder: Path) -> None:
    done = run(folder, "show", "trace.jsonl", "--hex")
    assert "<- 00000000  48 45 4c 4c 4f 0a" in done.stdout


def test_one_connection_is_shown_alone(folder: Path) -> None:
    (folder / "trace.jsonl").write_text(SESSION + opening(2) + event("in", "second", 2))
    done = run(folder, "show", "trace.jsonl", "--connection", "2")
    assert "second" in done.stdout and "hel" not in done.stdout
    done = run(folder, "show", "trace.jsonl", "--connection", "3")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_line_that_is_cut_is_pointed_out_and_the_rest_is_shown(folder: Path) -> None:
    (folder / "trace.jsonl").write_text(SESSION + event("in", "more")[:40])
    done = run(folder, "show", "trace.jsonl")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 5
    assert done.stderr == "python -m txasynchat show: trace.jsonl: line 6 is cut\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "missing: No such file or directory"),
        ("handlers.py", "handlers.py: there is no record in it"),
    ],
)
def test_what_can_not_be_shown_is_status_2_and_one_line(
    folder: Path, name: str, words: str
) -> None:
    done = run(folder, "show", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"python -m txasynchat show: {words}\n"


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    (folder / "trace.jsonl").write_text(opening() + event("in", "x" * 100 + "\n") * 20000)
    show = subprocess.Popen(
        [sys.executable, "-m", "txasynchat", "show", "trace.jsonl"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert show.stdout is not None and show.stderr is not None
    assert "open" in show.stdout.readline()
    show.stdout.close()
    assert show.stderr.read() == ""
    assert show.wait(60) == 0
    show.stderr.close()


def test_the_commands_are_in_the_help(folder: Path) -> None:
    assert {"replay", "show"} <= set(run(folder, "--help").stdout.split())
    assert "--handler MODULE:NAME" in run(folder, "replay", "--help").stdout
    assert "--hex" in run(folder, "show", "--help").stdout
