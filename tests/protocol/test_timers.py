"""One timer for the timeouts of many connections."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import Wire
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from txasynchat import AsyncChat, LegacyFactory
from txasynchat.connections import Connections
from txasynchat.limits import Limits
from txasynchat.timers import Sweep, Swept


class Quiet(Swept):
    """Notes when it timed out."""

    def __init__(self, sweep: Sweep, clock: Clock) -> None:
        self._timeout_sweep = sweep
        self.clock = clock
        self.times: list[float] = []

    def timeoutConnection(self) -> None:
        self.times.append(self.clock.seconds())


class Fails(Quiet):
    def timeoutConnection(self) -> None:
        super().timeoutConnection()
        raise ValueError("no")


class Hall:
    """Connections that are looked after, and the clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.members: list[Quiet] = []
        self.sweep = Sweep(self.clock, self.members)

    def enter(self, timeout: float, kind: type[Quiet] = Quiet) -> Quiet:
        quiet = kind(self.sweep, self.clock)
        self.members.append(quiet)
        quiet.setTimeout(timeout)
        return quiet

    def wait(self, seconds: int) -> None:
        self.clock.pump([0.25] * (seconds * 4))


@pytest.mark.parametrize("enters_at", [0.0, 0.3, 1.7, 2.0])
@pytest.mark.parametrize("timeout", [32, 33.3, 64, 500])
def test_a_timeout_is_never_early_and_late_by_a_sixteenth_at_most(
    timeout: float, enters_at: float
) -> None:
    hall = Hall()
    other = hall.enter(64)
    hall.clock.advance(enters_at)
    quiet = hall.enter(timeout)
    hall.wait(600)
    (time,) = quiet.times
    assert enters_at + timeout <= time <= enters_at + timeout + 64 / 16 + 0.25
    assert other.times


def test_a_sign_of_life_begins_the_time_anew() -> None:
    hall = Hall()
    quiet = hall.enter(32)
    hall.wait(30)
    quiet.resetTimeout()
    hall.wait(31)
    assert not quiet.times
    hall.wait(4)
    assert len(quiet.times) == 1


def test_a_timer_that_is_late_itself_takes_nobodys_time_away() -> None:
    hall = Hall()
    quiet = hall.enter(32)
    hall.clock.advance(1000)  # the process was stopped, say
    quiet.resetTimeout()
    hall.wait(31)
    assert not quiet.times


def test_what_has_timed_out_does_so_once_until_a_timeout_is_set_again() -> None:
    hall = Hall()
    quiet = hall.enter(32)
    hall.wait(40)
    quiet.resetTimeout()
    hall.wait(100)
    assert len(quiet.times) == 1
    assert quiet.setTimeout(32) == 32
    hall.wait(40)
    assert len(quiet.times) == 2


def test_a_shorter_timeout_is_not_late_by_the_part_of_a_longer() -> None:
    hall = Hall()
    hall.enter(32000)
    quiet = hall.enter(32)
    hall.wait(36)
    assert len(quiet.times) == 1


def test_one_that_raises_is_logged_and_does_no_harm_to_others(
    logged_failures: Callable[[], list[str]],
) -> None:
    hall = Hall()
    failing, quiet = hall.enter(32, Fails), hall.enter(32)
    hall.wait(100)
    assert len(failing.times) == len(quiet.times) == 1
    (logged,) = logged_failures()
    assert "failed when it timed out" in logged


def test_one_that_is_ended_by_another_is_left_alone() -> None:
    hall = Hall()

    class Ends(Quiet):
        def timeoutConnection(self) -> None:
            super().timeoutConnection()
            victim.setTimeout(None)

    hall.enter(32, Ends)
    victim = hall.enter(32)
    hall.wait(100)
    assert not victim.times


def test_there_is_one_timer_and_none_for_nobody() -> None:
    hall = Hall()
    for _ in range(5):
        hall.enter(32)
    assert len(hall.clock.getDelayedCalls()) == 1
    for each in hall.members:
        each.setTimeout(None)
    hall.wait(2)
    assert not hall.clock.getDelayedCalls()


def test_without_a_sweep_it_is_a_timeout_mixin() -> None:
    clock = Clock()
    quiet = Quiet(Hall().sweep, clock)
    quiet._timeout_sweep = None
    quiet.callLater = clock.callLater  # type: ignore[method-assign, assignment]
    quiet.setTimeout(5)
    clock.advance(4)
    quiet.resetTimeout()
    clock.advance(4)
    assert not quiet.times
    clock.advance(1)
    assert quiet.times == [9]


class Silent(AsyncChat):
    def collect_incoming_data(self, data: bytes) -> None:
        pass


@pytest.mark.parametrize(
    "factory", [Factory.forProtocol(Silent), LegacyFactory(lambda sock, addr: None)]
)
def test_a_register_looks_after_all_its_connections_with_one_timer(factory: Factory) -> None:
    clock = Clock()
    register = Connections(
        factory, Limits(idle_timeout=64, first_message_timeout=None), clock=clock
    )
    made = [register.buildProtocol(None) for _ in range(3)]
    for each in made:
        each.callLater = clock.callLater
        Wire().connect(each)
    assert len(clock.getDelayedCalls()) == 1
    clock.pump([1] * 60)
    made[0].dataReceived(b"x")
    clock.pump([1] * 8)
    assert [each.close_reason for each in made] == [None, "timeout", "timeout"]
    clock.pump([1] * 60)
    assert made[0].close_detail == "idle for 64 s"
