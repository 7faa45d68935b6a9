"""A conversation as lines of text, to be written down in a test."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

__all__ = ("entry_of", "transcript_of")


def transcript_of(events: Iterable[tuple[str, bytes | str]]) -> list[str]:
    r"""A conversation as lines; what one side says in one go is joined, and cut into lines.

    Each begins with who it is: ``>`` the peer, ``<`` the handler, and ``*`` for what is no
    data. Data goes up to and with the end of a line, written as in Python.

    :param events: who, and what.

    >>> transcript_of([(">", b"he"), (">", b"llo\r\nm"), ("<", b"HELLO\r\n")])
    ['> hello\\r\\n', '> m', '< HELLO\\r\\n']
    """
    lines = []
    for kind, group in groupby(events, lambda event: event[0]):
        if kind == "*":
            lines += [f"* {what}" for _, what in group if isinstance(what, str)]
        else:
            data = b"".join(what for _, what in group if isinstance(what, bytes))
            lines += [f"{kind} {_escaped(line)}" for line in data.splitlines(True)]
    return lines


def _escaped(line: bytes) -> str:
    text = line.decode("latin-1").encode("unicode_escape").decode()
    return text[:-1] + "\\x20" if text.endswith(" ") else text


def entry_of(line: str) -> tuple[str, bytes | str]:
    r"""What one line of a transcript says, for :func:`transcript_of`.

    :raise ValueError: for what is no such line.

    >>> entry_of("> hi\\r\\n")
    ('>', b'hi\r\n')
    """
    kind, space, text = line.partition(" ")
    if kind not in ("<", ">", "*") or not space:
        raise ValueError(f"a line of a transcript begins with '> ', '< ' or '* ': {line!r}")
    if kind == "*":
        return kind, text
    return kind, text.encode("latin-1").decode("unicode_escape").encode("latin-1")
