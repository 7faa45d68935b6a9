"""The states of a connection."""

from __future__ import annotations

import itertools

from txasynchat.core.lifecycle import TRANSITIONS, CloseReason, Event, Lifecycle, State


def after(*events: Event) -> Lifecycle:
    life = Lifecycle()
    for event in events:
        life.on(event)
    return life


def test_a_connection_opens_closes_and_is_gone() -> None:
    life = Lifecycle()
    events = (Event.CONNECTED, Event.FINISH, Event.CLOSE, Event.LOST)
    assert [(life.on(event), life.state) for event in events] == [
        (True, State.OPEN),
        (True, State.FLUSHING),
        (True, State.CLOSING),
        (True, State.CLOSED),
    ]


def test_no_order_of_events_opens_a_connection_whose_close_was_decided() -> None:
    for events in itertools.product(Event, repeat=4):
        life, decided = Lifecycle(), False
        for event in events:
            life.on(event)
            decided = decided or life.reason is not None
            assert not (decided and life.state in (State.NEW, State.OPEN)), events


def test_nothing_leads_out_of_closed() -> None:
    assert not TRANSITIONS[State.CLOSED]


def test_the_first_reason_stays() -> None:
    life = after(Event.CONNECTED)
    life.on(Event.FINISH, CloseReason.TIMEOUT, "idle")
    life.on(Event.CLOSE, CloseReason.ERROR, "late")
    life.on(Event.LOST, CloseReason.PEER, "gone")
    assert (life.reason, life.detail) == (CloseReason.TIMEOUT, "idle")


def test_a_reason_equals_its_name() -> None:
    name = "peer"
    assert name == CloseReason.PEER
    assert f"{CloseReason.LIMIT}" == "limit"
