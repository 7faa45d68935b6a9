"""The states of a connection."""

from __future__ import annotations

import itertools

from txasynchat.core.lifecycle import TRANSITIONS, CloseReason, Event, Lifecycle, State


def after(*events: Event) -> Lifecycle:
    life = Lifecycle()
    for event in events:
        life = life.on(event) or life
    return life


def test_a_connection_opens_closes_and_is_gone() -> None:
    events = (Event.CONNECTED, Event.FINISH, Event.CLOSE, Event.LOST)
    assert [after(*events[: number + 1]).state for number in range(4)] == [
        State.OPEN,
        State.FLUSHING,
        State.CLOSING,
        State.CLOSED,
    ]


def test_an_event_that_changes_nothing_leads_nowhere() -> None:
    assert after(Event.CONNECTED).on(Event.CONNECTED) is None
    assert after(Event.CONNECTED, Event.CLOSE).on(Event.CLOSE) is None


def test_no_order_of_events_opens_a_connection_whose_close_was_decided() -> None:
    for events in itertools.product(Event, repeat=4):
        life, decided = Lifecycle(), False
        for event in events:
            life = life.on(event) or life
            decided = decided or life.reason is not None
            assert not (decided and life.state in (State.NEW, State.OPEN)), events


def test_nothing_leads_out_of_closed() -> None:
    assert not TRANSITIONS[State.CLOSED]


def test_the_first_reason_stays() -> None:
    life: Lifecycle | None = after(Event.CONNECTED)
    for event, reason, detail in (
        (Event.FINISH, CloseReason.TIMEOUT, "idle"),
        (Event.CLOSE, CloseReason.ERROR, "late"),
        (Event.LOST, CloseReason.PEER, "gone"),
    ):
        assert life is not None
        life = life.on(event, reason, detail)
    assert life is not None
    assert (life.reason, life.detail) == (CloseReason.TIMEOUT, "idle")


def test_all_open_connections_share_one_state() -> None:
    assert after(Event.CONNECTED) is after(Event.CONNECTED)


def test_a_reason_equals_its_name() -> None:
    name = "peer"
    assert name == CloseReason.PEER
    assert f"{CloseReason.LIMIT}" == "limit"
