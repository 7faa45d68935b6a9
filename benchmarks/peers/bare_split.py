"""No framework: ``bytes.split`` and two calls for each message."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.handlers import Counting


class Lines(Counting):
    """Messages that end at a delimiter; the rest of a chunk is joined to the next."""

    def __init__(self, delimiter: bytes, longest: int) -> None:
        self.delimiter = delimiter

    def feed(self, chunks: Sequence[bytes]) -> None:
        rest = b""
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(self.delimiter)
            for line in lines:
                self.collect_incoming_data(line)
                self.found_terminator()
