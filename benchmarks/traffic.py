"""What goes over the sockets: known to the servers, to the client and to nobody else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache
from itertools import cycle, islice

#: What a producer gives at once.
PIECE = 65536

#: What is downloaded is this, again and again.
PATTERN = random.Random(7).randbytes(2**20)
_PIECES = [PATTERN[at : at + PIECE] for at in range(0, len(PATTERN), PIECE)]


def lines(count: int) -> bytes:
    """So many requests: lines of 60 bytes, and their ends."""
    return b"".join(b"%-60d\r\n" % number for number in range(count))


def pieces(size: int) -> Iterator[bytes]:
    """A download in pieces, made before."""
    return islice(cycle(_PIECES), size // PIECE)


class Pieces:
    """The same from a producer of asynchat's kind."""

    def __init__(self, size: int) -> None:
        self.pieces = pieces(size)

    def more(self) -> bytes:
        """The next piece, or nothing at the end."""
        return next(self.pieces, b"")


#: The download that is pushed as one object.
PUSHED = 64 * 2**20


@lru_cache(maxsize=2)
def whole(size: int) -> bytes:
    """A download as one object, made once."""
    return PATTERN * (size // len(PATTERN))
