"""Reads what a :class:`~txasynchat.trace.TracingFactory` wrote."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from json import loads
from typing import Any

__all__ = ("BadTranscript", "Lines", "Record", "read_transcript")

#: A transcript: the path of a file, or its lines.
Lines = str | os.PathLike[str] | Iterable[str] | Iterable[bytes]


class BadTranscript(ValueError):
    """Raised for what is no transcript; says why in one line."""


@dataclass(frozen=True)
class Record:
    """One line of a transcript.

    :ivar line: its number, from 1.
    :ivar time: seconds since the epoch.
    :ivar connection: the number of the connection.
    :ivar event: "open", "in", "out", "eof", "finish", "tls", "handshake", "lose",
        "abort" or "close"; see docs/transcripts.md.
    :ivar data: the bytes of "in" and "out".
    :ivar details: the other fields, by name.
    """

    line: int
    time: float
    connection: int
    event: str
    data: bytes = b""
    details: Mapping[str, Any] = field(default_factory=dict)


def read_transcript(
    transcript: Lines, flawed: Callable[[int, str, bool], object]
) -> Iterator[Record]:
    """The records of a transcript, one after the other.

    :param flawed: called for each line that is no record, with the line's number,
        what is wrong with it in words, and whether it is only cut: by a crash, or because it
        is still being written. If it returns, the line is left out.
    :raise OSError: if the file can't be read.

    >>> line = '{"time": 1.5, "connection": 1, "event": "in", "data": "caf\\u00e9"}'
    >>> for record in read_transcript([line, line[:30]], print):
    ...     print(record.connection, record.event, record.data)
    1 in b'caf\\xe9'
    2 is cut True
    """
    if isinstance(transcript, (str, os.PathLike)):
        with open(transcript, "rb") as file:
            yield from read_transcript(file, flawed)
        return
    for number, line in enumerate(transcript, 1):
        text = str(line, "utf-8", "replace") if isinstance(line, bytes) else str(line)
        if not text.strip():
            continue
        try:
            yield _record(number, loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            cut = _is_cut(text)
            flawed(number, "is cut" if cut else "is no record of a trace", cut)


def _record(number: int, fields: dict[str, Any]) -> Record:
    details = dict(fields)
    when, connection, event = (details.pop(name) for name in ("time", "connection", "event"))
    data = details.pop("data", "").encode("latin-1")
    if not isinstance(connection, int) or not isinstance(event, str):
        raise TypeError
    return Record(number, float(when), connection, event, data, details)


def _is_cut(text: str) -> bool:
    beginning = '{"time": '
    text = text.rstrip("\r\n")
    return text.startswith(beginning[: len(text)]) and not text.endswith("}")
