"""Who is told how connections begin and end: the register of a service, for one.

A connection, an :class:`~txasynchat.protocol.AsyncChat` or what stands in for a legacy
channel, has at most one watcher. It is set before the connection is made and has no part
in the conversation.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.python.failure import Failure

__all__ = ("Watcher",)


class Watcher(Protocol):
    """What a connection tells about itself.

    A watcher must not raise: its errors would be errors of the transport.
    """

    def opened(self, connection: Any, /) -> bool:
        """The peer is known, which behind a proxy takes a header; the handler was not told yet.

        :return: whether the connection may begin. If not, it is cut, and no callback of
            its handler runs. To say why in its ``close_detail`` the watcher may cut it itself.
        """

    def ended(self, connection: Any, /) -> None:
        """The connection is gone, and its handler was told.

        Called last, and exactly once for each connection that got a transport, whether or
        not it was opened. ``close_reason`` and ``traffic()`` are final.
        """

    def failed(self, connection: Any, failure: Failure, /) -> None:
        """A callback or a producer raised. That it is logged is not the watcher's business."""

    def limited(self, connection: Any, limit: str, detail: str, /) -> None:
        """The connection has hit a limit, and the handler will be asked what to do.

        :param limit: the name of the option: ``max_message_length``, ``idle_timeout``, or
            ``close_timeout``, where nobody is asked.
        :param detail: what happened, for people.
        """
