"""The states of a connection and the only allowed transitions.

Rule: whether a close was decided, and how far it has got, is in the table of
this file and nowhere else. What a face keeps beside it are facts about its
transport and its peer, never a second opinion on the state.
"""

from __future__ import annotations

from enum import Enum

__all__ = ("CloseReason", "Event", "Lifecycle", "State")


class CloseReason(str, Enum):
    """Who ended a connection, or what did. Equal to its value, a str."""

    PEER = "peer"
    HANDLER = "handler"
    TIMEOUT = "timeout"
    LIMIT = "limit"
    ERROR = "error"
    DRAIN = "drain"

    def __str__(self) -> str:
        return self.value


class State(Enum):
    """Where a connection is in its life."""

    NEW = "not connected yet, or not known to whom"
    OPEN = "open"
    FLUSHING = "closing once its output is sent"
    CLOSING = "closing"
    CLOSED = "closed"

    # Members are their own only equals. Enum's hash is slow before Python 3.12.
    __hash__ = object.__hash__


class Event(Enum):
    """What moves a connection on."""

    CONNECTED = "the transport is there"
    FINISH = "close once the output is sent"
    FAIL = "close once the output is sent that an error has left"
    CLOSE = "close now"
    LOST = "the transport is gone"

    __hash__ = object.__hash__


#: What is not in this table changes nothing: a second close is no error.
TRANSITIONS: dict[State, dict[Event, State]] = {
    State.NEW: {
        Event.CONNECTED: State.OPEN,
        Event.FINISH: State.FLUSHING,
        Event.CLOSE: State.CLOSING,
        Event.LOST: State.CLOSED,
    },
    State.OPEN: {
        Event.FINISH: State.FLUSHING,
        Event.FAIL: State.FLUSHING,
        Event.CLOSE: State.CLOSING,
        Event.LOST: State.CLOSED,
    },
    State.FLUSHING: {
        Event.CONNECTED: State.FLUSHING,
        Event.FAIL: State.FLUSHING,
        Event.CLOSE: State.CLOSING,
        Event.LOST: State.CLOSED,
    },
    State.CLOSING: {Event.LOST: State.CLOSED},
    State.CLOSED: {},
}


class Lifecycle:
    """The state of one connection, and why it ends.

    :ivar state: where it is.
    :ivar reason: who ended it: None until that is decided.
    :ivar detail: the same for people; may gain detail until the end.

    >>> life = Lifecycle()
    >>> life.on(Event.CONNECTED)
    True
    >>> life.on(Event.CLOSE, CloseReason.TIMEOUT, "nothing came for 60 s")
    True
    >>> life.on(Event.CLOSE), life.reason.value
    (False, 'timeout')
    """

    __slots__ = ("detail", "reason", "state")

    def __init__(self) -> None:
        self.state = State.NEW
        self.reason: CloseReason | None = None
        self.detail = ""

    def on(self, event: Event, reason: CloseReason = CloseReason.HANDLER, detail: str = "") -> bool:
        """Move on.

        :param reason: who ended it, if this event does and nothing did before;
            that of ``FAIL`` takes the place of an earlier one.
        :param detail: the same for people.
        :return: whether `event` changed the state.
        """
        following = TRANSITIONS[self.state].get(event)
        if following is None:
            return False
        self.state = following
        # An error takes the place of a farewell that it has cut short.
        if event is not Event.CONNECTED and (self.reason is None or event is Event.FAIL):
            self.reason, self.detail = reason, detail
        return True
