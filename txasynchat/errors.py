"""What txasynchat raises beyond TypeError and ValueError."""

__all__ = ("ChatClosed", "PlaintextAfterStartTLS")


class ChatClosed(ConnectionError):
    """Raised when output is given to a connection that is closing or closed.

    Nothing of that output is sent. Also what ``drained()`` fails with when output
    that was accepted is dropped by the end of its connection, and ``start_tls()`` when the
    connection ends before it is secure.
    """


class PlaintextAfterStartTLS(ChatClosed):
    """What ``start_tls()`` fails with when input waits behind the command that started TLS.

    Whoever sent it, nobody vouches for it: it may have been put there by somebody on the
    way, to be taken for what the peer says once the connection is secure. None of it
    is delivered, and the connection is cut.
    """
