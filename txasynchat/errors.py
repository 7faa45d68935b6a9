"""What txasynchat raises beyond TypeError and ValueError."""

__all__ = ("ChatClosed",)


class ChatClosed(ConnectionError):
    """Raised when output is given to a connection that is closing or closed.

    Nothing of that output is sent. Also what ``drained()`` fails with when output
    that was accepted is dropped by the end of its connection.
    """
