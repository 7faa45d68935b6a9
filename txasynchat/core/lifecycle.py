"""The states of a connection and the only allowed transitions.

Rule: whether a close was decided, and how far it has got, is in the table of
this file and nowhere else. What a face keeps beside it are facts about its
transport and its peer, never a second opinion on the state.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

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

    if not TYPE_CHECKING:
        # Members are their own only equals. Enum's hash is slow before Python 3.12.
        __hash__ = object.__hash__


class Event(Enum):
    """What moves a connection on."""

    CONNECTED = "the transport is there"
    FINISH = "close once the output is sent"
    FAIL = "close once the output is sent that an error has left"
    CLOSE = "close now"
    LOST = "the transport is gone"

    if not TYPE_CHECKING:
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
    """The state of a connection, and why it ends.

    It never changes, so all that are open share one, and those that their handlers close
    share others: :meth:`on` answers what comes next.

    :ivar state: where it is.
    :ivar reason: who ended it: None until that is decided.
    :ivar detail: the same for people.

    >>> life = Lifecycle().on(Event.CONNECTED)
    >>> life.state.value
    'open'
    >>> life = life.on(Event.CLOSE, CloseReason.TIMEOUT, "nothing came for 60 s")
    >>> life.on(Event.CLOSE), life.reason.value
    (None, 'timeout')
    """

    __slots__ = ("detail", "reason", "state")

    def __init__(
        self, state: State = State.NEW, reason: CloseReason | None = None, detail: str = ""
    ) -> None:
        self.state: State = state
        self.reason: CloseReason | None = reason
        self.detail: str = detail

    def on(
        self, event: Event, reason: CloseReason = CloseReason.HANDLER, detail: str = ""
    ) -> Lifecycle | None:
        """What comes after `event`; None if it changes nothing.

        :param reason: who ended it, if this event does and nothing did before;
            that of ``FAIL`` takes the place of an earlier one.
        :param detail: the same for people.
        """
        following = TRANSITIONS[self.state].get(event)
        if following is None:
            return None
        if following is _OPEN.state:
            return _OPEN
        # An error takes the place of a farewell that it has cut short.
        if self.reason is not None and event is not _FAIL:
            reason, detail = self.reason, self.detail
        if reason is _HANDLER and not detail:
            return _ENDED_BY_HANDLER[following]
        return Lifecycle(following, reason, detail)

    def described(self, detail: str) -> Lifecycle:
        """The same, with more to tell people."""
        return Lifecycle(self.state, self.reason, detail)


_OPEN = Lifecycle(State.OPEN)
# By a name of its own: an enumeration's attributes are slow to get on Python 3.10 and 3.11.
_FAIL = Event.FAIL
_HANDLER = CloseReason.HANDLER
_ENDED_BY_HANDLER = {state: Lifecycle(state, _HANDLER) for state in State}
