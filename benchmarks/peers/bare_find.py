"""No framework: ``bytes.find``, a slice and two calls for each message."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.handlers import Counting


class Lines(Counting):
    """Messages that end at a delimiter.

    The rest of a chunk is joined to the next; of a message that may be longer than a chunk, only
    as much of it as may begin the delimiter.
    """

    def __init__(self, delimiter: bytes, longest: int) -> None:
        self.delimiter = delimiter
        self.streams = longest > 65536

    def feed(self, chunks: Sequence[bytes]) -> None:
        delimiter = self.delimiter
        length = len(delimiter)
        rest = b""
        for chunk in chunks:
            data = rest + chunk if rest else chunk
            start = 0
            while (end := data.find(delimiter, start)) >= 0:
                if end > start:
                    self.collect_incoming_data(data[start:end])
                self.found_terminator()
                start = end + length
            if self.streams and len(data) - start >= length:
                self.collect_incoming_data(data[start : 1 - length])
                start = len(data) + 1 - length
            rest = data[start:]


class Frames(Counting):
    """Messages that follow their length; a body is passed on as it comes."""

    def __init__(self, longest: int) -> None:
        pass

    def feed(self, chunks: Sequence[bytes]) -> None:
        missing = 0
        rest = b""
        for chunk in chunks:
            data = rest + chunk if rest else chunk
            size = len(data)
            start = 0
            while start < size:
                if not missing:
                    if size - start < 4:
                        break
                    missing = int.from_bytes(data[start : start + 4], "big")
                    start += 4
                piece = data[start : start + missing]
                if piece:
                    self.collect_incoming_data(piece)
                    start += len(piece)
                    missing -= len(piece)
                    if not missing:
                        self.found_terminator()
            rest = data[start:]
