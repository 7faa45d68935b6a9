"""``python -m txasynchat show``: prints a trace for people."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from txasynchat.transcript import Record, read_transcript

__all__ = ("show_command", "shown")

_NAMES = {"\r": "\\r", "\n": "\\n", "\t": "\\t", "\\": "\\\\"}
_WORDS = {
    "eof": "-> the peer has finished sending",
    "finish": "<- finished sending",
    "lose": "<- closing",
    "abort": "<- cutting the connection",
    "tls": "<- TLS starts",
    "handshake": "-- TLS is up",
}


def shown(data: bytes, as_hex: bool = False) -> list[str]:
    r"""Bytes in lines for people: as text if that is printable UTF-8, else in hexadecimal.

    :param as_hex: in hexadecimal in any case.

    >>> shown(b"one\r\nt\xc3\xa4o")
    ['one\\r\\n', 'täo']
    >>> shown(b"\x00two")
    ['00000000  00 74 77 6f                                       .two']
    """
    text = None if as_hex else _text(data)
    if text is None:
        return [_hex(data, at) for at in range(0, len(data), 16)]
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    return ["".join(_NAMES.get(char, char) for char in line) for line in lines]


def _text(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char in _NAMES for char in text) else None


def _hex(data: bytes, at: int) -> str:
    row = data[at : at + 16]
    left, right = row[:8].hex(" "), row[8:].hex(" ")
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
    return f"{at:08x}  {left:<23}  {right:<23}  {text}"


def _lines(record: Record, opened: dict[int, float], as_hex: bool) -> Iterator[str]:
    since = record.time - opened.setdefault(record.connection, record.time)
    head = f"{since:+14.6f} {record.connection:4}  "
    details = record.details
    if record.event == "open":
        when = datetime.fromtimestamp(record.time).isoformat(" ", "seconds")
        tls = ", over TLS" if details.get("tls") else ""
        yield (
            f"{head}open, {when}: {_plain(details, 'handler')} on {_plain(details, 'host')}, "
            f"peer {_plain(details, 'peer')}{tls}"
        )
    elif record.event in ("in", "out"):
        arrow = "->" if record.event == "in" else "<-"
        for line in shown(record.data, as_hex):
            yield f"{head}{arrow} {line}"
    elif record.event == "close":
        yield f"{head}close: {_why(details)}"
    else:
        yield f"{head}{_WORDS.get(record.event) or '-- ' + ascii(record.event)}"


def _why(details: Any) -> str:
    decided = _plain(details, "close_reason")
    more = _plain(details, "close_detail")
    words = f"by {decided}, " if decided else ""
    return f"{words}{more + '; ' if more else ''}{_plain(details, 'detail')}"


def _plain(details: Any, name: str) -> str:
    # On one line, and nothing that a terminal obeys.
    text = str(details.get(name, ""))
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def show_command(parser: ArgumentParser) -> None:
    """Give a parser the arguments of ``python -m txasynchat show``.

    ``call``, among what it parses, does the work; it is to be called with all of that.

    >>> parser = ArgumentParser()
    >>> show_command(parser)
    >>> parser.parse_args(["trace.jsonl", "--hex"]).hex
    True
    """
    parser.description = (
        "Print a trace for people: seconds since the opening, the number of the connection, "
        "and -> what came from the peer, <- what was sent to it."
    )
    parser.add_argument("file", metavar="FILE", help="what --trace has written")
    parser.add_argument("--connection", type=int, metavar="N", help="show this one only, not all")
    parser.add_argument("--hex", action="store_true", help="all data in hexadecimal")
    parser.set_defaults(call=lambda options: _run(options, parser))


def _run(options: Namespace, parser: ArgumentParser) -> None:
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    try:
        _print(options, parser)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough; the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as failed:
        parser.exit(2, f"{parser.prog}: {options.file}: {failed.strerror}\n")


def _print(options: Namespace, parser: ArgumentParser) -> None:
    flaws: list[str] = []
    opened: dict[int, float] = {}
    number = 0
    for record in read_transcript(
        options.file, lambda line, what, cut: flaws.append(f"line {line} {what}")
    ):
        number += 1
        if options.connection in (None, record.connection):
            for line in _lines(record, opened, options.hex):
                print(line)
    if not number:
        parser.exit(2, f"{parser.prog}: {options.file}: there is no record in it\n")
    if options.connection is not None and options.connection not in opened:
        parser.exit(2, f"{parser.prog}: {options.file}: no connection {options.connection} in it\n")
    sys.stdout.flush()
    for flaw in flaws:
        print(f"{parser.prog}: {options.file}: {flaw}", file=sys.stderr)
