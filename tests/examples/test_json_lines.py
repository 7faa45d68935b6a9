"""Driven through pipes and files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from examples.conftest import Example

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "examples" / "json_lines.py")]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def run(data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        COMMAND, input=data, capture_output=True, timeout=60, check=False, env=ENVIRONMENT
    )


def responses(data: bytes) -> list[Any]:
    """What it answers to `data`; it must end cleanly behind that."""
    done = run(data)
    assert (done.returncode, done.stderr) == (0, b"")
    return [json.loads(line) for line in done.stdout.splitlines()]


def lines(*requests: object) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in requests)


def test_each_line_is_answered_by_a_line_in_order() -> None:
    data = lines({"add": [1, 2]}, {"echo": {"a": [None]}}, {"add": []}, {"add": [0.5, 1]})
    assert responses(data) == [
        {"result": 3},
        {"result": {"a": [None]}},
        {"result": 0},
        {"result": 1.5},
    ]


def test_no_input_is_no_output() -> None:
    assert responses(b"") == []


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"\xff\xfe",
        b"1",
        b'{"add": 1}',
        b'{"add": ["1"]}',
        b'{"divide": [1, 0]}',
        b'{"add": [1e999]}',
        b'{"add": [0.5, 1' + b"0" * 400 + b"]}",
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line)[:30],
)
def test_a_bad_request_is_answered_with_an_error_and_the_next_one_is_answered(line: bytes) -> None:
    error, next_one = responses(line + b"\n" + lines({"echo": "next"}))
    assert list(error) == ["error"]
    assert next_one == {"result": "next"}


def test_a_line_may_have_any_size() -> None:
    text = "x" * 5_000_000
    assert responses(lines({"echo": text}, {"echo": 1})) == [{"result": text}, {"result": 1}]


def test_all_is_answered_before_the_end_though_the_input_is_over_long_before() -> None:
    numbers = range(100_000)
    data = lines(*({"echo": number} for number in numbers))
    assert responses(data) == [{"result": number} for number in numbers]


def test_a_last_line_without_newline_is_complained_about() -> None:
    done = run(lines({"echo": 1}) + b'{"echo": 2}')
    assert json.loads(done.stdout) == {"result": 1}
    assert done.returncode == 1
    assert b"the last line has no newline" in done.stderr


def test_a_line_is_answered_while_the_input_stays_open(start: Callable[..., Example]) -> None:
    example = start("json_lines")
    stdin = _pipe(example.process.stdin)
    for number in range(3):
        stdin.write(lines({"echo": number}))
        stdin.flush()
        assert json.loads(example.line()) == {"result": number}
    example.process.communicate(timeout=20)
    assert example.process.returncode == 0


def test_input_and_output_may_be_files(tmp_path: Path) -> None:
    requests, answers = tmp_path / "requests", tmp_path / "answers"
    requests.write_bytes(lines({"add": [1, 2]}) * 10_000)
    with requests.open("rb") as stdin, answers.open("wb") as stdout:
        done = subprocess.run(
            COMMAND, stdin=stdin, stdout=stdout, timeout=60, check=False, env=ENVIRONMENT
        )
    assert done.returncode == 0
    assert answers.read_bytes() == b'{"result": 3}\n' * 10_000


def test_it_ends_when_nobody_reads_its_output_any_more(start: Callable[..., Example]) -> None:
    example = start("json_lines")
    stdin = _pipe(example.process.stdin)
    stdin.write(lines({"echo": 1}))
    stdin.flush()
    assert json.loads(example.line()) == {"result": 1}
    _pipe(example.process.stdout).close()
    assert example.process.wait(timeout=20) == 0
    assert _pipe(example.process.stderr).read() == b""


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
