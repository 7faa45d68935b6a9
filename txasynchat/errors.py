"""What txasynchat raises beyond TypeError and ValueError."""

__all__ = ("ChatClosed",)


class ChatClosed(ConnectionError):
    """Raised when output is given to a connection that is closing or closed.

    Nothing of that output is sent. The message says who closed the connection
    and why.
    """
