"""What txasynchat raises beyond TypeError and ValueError."""

from __future__ import annotations

__all__ = ("ChatClosed", "IncompleteRead", "MessageTooLong", "PlaintextAfterStartTLS")


class ChatClosed(ConnectionError):
    """Raised when output is given to a connection that is closing or closed.

    Nothing of that output is sent. Also what ``drained()`` fails with when output
    that was accepted is dropped by the end of its connection, and ``start_tls()`` when the
    connection ends before it is secure.
    """


class IncompleteRead(ChatClosed, EOFError):
    """Raised when the input has ended before a coroutine had what it reads.

    Whoever ended it: the peer, which may only have finished sending, or this side.

    :ivar partial: what did come of it, bytes.
    """

    def __init__(self, message: str, partial: bytes) -> None:
        super().__init__(message)
        self.partial = partial

    def __reduce__(self) -> tuple[type[IncompleteRead], tuple[str, bytes]]:
        return type(self), (str(self), self.partial)


class MessageTooLong(Exception):
    """Raised when what a coroutine reads outgrows its limit.

    Nothing is lost: what came is the input of the next read.

    :ivar limit: the limit in bytes.
    """

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit

    def __reduce__(self) -> tuple[type[MessageTooLong], tuple[str, int]]:
        return type(self), (str(self), self.limit)


class PlaintextAfterStartTLS(ChatClosed):
    """What ``start_tls()`` fails with when input waits behind the command that started TLS.

    Whoever sent it, nobody vouches for it: it may have been put there by somebody on the
    way, to be taken for what the peer says once the connection is secure. None of it
    is delivered, and the connection is cut.
    """
