"""Random conversations go with ours as with the removed modules, but for the numbered differences.

What a conversation is, and how the differences are allowed for, is in ``oracle.py``. A failure
shows the seed and the number of a conversation, and the shortest script that fails:
``PYTHONPATH=tests python tests/legacy/oracle.py show SEED NUMBER`` plays it again.
``TXASYNCHAT_SEED`` takes the place of the fresh seed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from legacy.oracle import (
    DIFFERENCES,
    Conversation,
    Event,
    Pair,
    RemovedModulesMissingError,
    Setup,
    as_it_is,
    conversation,
    first_difference,
    play,
    removed_modules,
    report,
)

PROGRAM = Path(__file__).with_name("oracle.py")
FIXED_SEED = "txasynchat"


@pytest.fixture(scope="module")
def removed() -> Pair:
    """The removed modules."""
    try:
        return removed_modules()
    except RemovedModulesMissingError as error:
        pytest.skip(str(error))


def fresh_seed() -> str:
    """Another one each time, unless the environment has one."""
    return os.environ.get("TXASYNCHAT_SEED") or str(random.SystemRandom().getrandbits(32))


def compare(seed: str, count: int, reactor: str, timeout: int = 120) -> None:
    # In a process of its own, for the reactor of this one may run or not.
    print(f"TXASYNCHAT_SEED={seed}")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), seed, str(count), reactor],
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"seed {seed}, {reactor}:\n{done.stdout}{done.stderr}"


@pytest.mark.usefixtures("removed")
def test_random_conversations_go_as_with_the_removed_modules() -> None:
    compare(FIXED_SEED, 2000, "none")


@pytest.mark.usefixtures("removed")
@pytest.mark.parametrize(("count", "reactor"), [(500, "none"), (200, "idle"), (200, "running")])
def test_conversations_of_a_fresh_seed_go_as_with_the_removed_modules(
    count: int, reactor: str
) -> None:
    compare(fresh_seed(), count, reactor)


@pytest.mark.slow
@pytest.mark.usefixtures("removed")
def test_twenty_thousand_conversations_go_as_with_the_removed_modules() -> None:
    compare(fresh_seed(), 20_000, "none", timeout=1200)


# -- The comparison itself ---------------------------------------------------------------


def test_the_removed_modules_go_as_they_go(removed: Pair) -> None:
    again = removed_modules()
    for number in range(300):
        script = conversation("again", number)
        assert report(script, as_it_is(removed), as_it_is(again)) is None


def test_allowing_for_the_differences_changes_nothing_that_is_not_counted(removed: Pair) -> None:
    as_they_were = 0
    for number in range(800):
        script = conversation("amended", number)
        differences = Counter[int]()
        events = play(script, removed, differences)
        if not differences:
            as_they_were += 1
            assert first_difference(play(script, removed), events) is None, str(script)
    assert as_they_were > 300


def test_each_difference_that_is_allowed_for_is_one(removed: Pair) -> None:
    left = set(DIFFERENCES)
    for number in range(3000):
        script = conversation("each", number)
        differences = Counter[int]()
        events = play(script, removed, differences)
        if len(differences) == 1 and first_difference(play(script, removed), events) is not None:
            left -= differences.keys()
        if not left:
            return
    pytest.fail(f"never alone what made conversations differ: {sorted(left)}")


def test_conversations_have_everything_in_them(removed: Pair) -> None:
    seen = Counter[str]()
    differences = Counter[int]()
    for number in range(1000):
        counted = Counter[int]()
        events = play(conversation(FIXED_SEED, number), removed, counted)
        differences.update(counted.keys())
        seen.update({_kind(event) for event in events})
    assert min(seen[kind] for kind in COMMON) >= 100, seen
    assert min(seen[kind] for kind in RARE) >= 2, seen
    assert min(differences[number] for number in DIFFERENCES) >= 3, differences


COMMON = ("data", "found", "handle_close", "peer cannot send", "message")
RARE = (
    "handle_connect",
    "handle_expt",
    "handle_error OSError",
    "handle_error TypeError",
    "handle_error LookupError",
    "handle_error NotImplementedError",
    "raised ExitNow",
    "raised KeyboardInterrupt",
    "raised ValueError",
    "printed error: ValueError",
    "printed warning: unhandled connect event",
    "log_info",
    "message",
    "looked",
    "recv",
    "send",
    "readable",
    "writable",
    "get_terminator",
)


def _kind(event: Event) -> str:
    name = str(event[0])
    return f"{name} {event[1]}" if name in ("handle_error", "raised", "printed") else name


#: Mistakes that the comparison must find: in which module, what, and what instead.
MISTAKES = {
    "no beginning of a terminator is held back": (
        "asynchat",
        "index = find_prefix_at_end(self.ac_in_buffer, terminator)",
        "index = 0",
    ),
    "the longest beginning of a terminator is overlooked": (
        "asynchat",
        "l = len(needle) - 1",
        "l = max(len(needle) - 2, 0)",
    ),
    "a beginning of a terminator is lost": (
        "asynchat",
        "self.ac_in_buffer = self.ac_in_buffer[-index:]",
        "self.ac_in_buffer = b''",
    ),
    "a count does not go down": ("asynchat", "self.terminator = self.terminator - lb", "pass"),
    "a count starts again": ("asynchat", "                    self.terminator = 0\n", ""),
    "the last byte of a count is awaited": ("asynchat", "if lb < n:", "if lb <= n:"),
    "empty pieces are handed over": ("asynchat", "if index > 0:", "if True:"),
    "the terminator's last byte stays": (
        "asynchat",
        "[index+terminator_len:]",
        "[index+terminator_len-1:]",
    ),
    "the terminator is asked for once for each chunk": (
        "asynchat",
        "terminator = self.get_terminator()",
        "terminator = self.get_terminator() if lb >= len(data) else terminator",
    ),
    "an exception drops the rest": (
        "asynchat",
        "# is changed here.\n                    self.found_terminator()",
        "\n                    rest, self.ac_in_buffer = self.ac_in_buffer, b''"
        "\n                    self.found_terminator()"
        "\n                    self.ac_in_buffer = rest",
    ),
    "what could not be sent is dropped": (
        "asynchat",
        "if num_sent < len(data) or obs < len(first):",
        "if obs < len(first):",
    ),
    "close_when_done does not wait": (
        "asynchat",
        "self.producer_fifo.append(None)",
        "self.handle_close()",
    ),
    "the end does not close": (
        "asynchat",
        "                    self.handle_close()\n                    return",
        "                    return",
    ),
    "output is not discarded": ("asynchat", "self.producer_fifo.clear()", "pass"),
    "a push is one item however long": ("asynchat", "if len(data) > sabs:", "if False:"),
    "text of producers is not encoded": (
        "asynchat",
        "data = bytes(data, self.encoding)",
        "pass",
    ),
    "always writable": (
        "asynchat",
        "return self.producer_fifo or (not self.connected)",
        "return True",
    ),
    "sends before it is connected": (
        "asynchat",
        "while self.producer_fifo and self.connected:",
        "while self.producer_fifo:",
    ),
    "sends all at once": (
        "asynchat",
        "            # we tried to send some actual data\n            return",
        "            if not num_sent:\n                return",
    ),
    "errors are warnings": ("asyncore", "            'error'\n", "            'warning'\n"),
    "an error does not close": (
        "asyncore",
        "            'error'\n            )\n        self.handle_close()",
        "            'error'\n            )",
    ),
    "stays in its map": (
        "asyncore",
        "        self.connecting = False\n        self.del_channel()\n",
        "        self.connecting = False\n",
    ),
    "is connected before handle_connect": (
        "asyncore",
        "        self.handle_connect()\n        self.connected = True",
        "        self.connected = True\n        self.handle_connect()",
    ),
    "readable() is not asked": ("asyncore", "            if is_r:\n", "            if True:\n"),
    "writable() is not asked": (
        "asyncore",
        "if is_w and not obj.accepting:",
        "if not obj.accepting:",
    ),
    "reads after it has written": (
        "asyncore",
        "        for fd in r:\n",
        "        for fd in w:\n            write(map[fd])\n        for fd in r:\n",
    ),
    "a hang-up is overlooked": (
        "asyncore",
        "if flags & (select.POLLHUP | select.POLLERR | select.POLLNVAL):",
        "if False:",
    ),
    "a lost connection is an error": (
        "asyncore",
        "# winsock sometimes raises ENOTCONN\n            if why.errno in _DISCONNECTED:",
        "if False:",
    ),
    "a full socket is an error": ("asyncore", "if why.errno == EWOULDBLOCK:", "if False:"),
    "ExitNow stays inside": (
        "asyncore",
        "_reraised_exceptions = (ExitNow, KeyboardInterrupt, SystemExit)",
        "_reraised_exceptions = (KeyboardInterrupt, SystemExit)",
    ),
    "a loop has one round": ("asyncore", "count = count - 1", "count = 0"),
    "an error is an urgent byte": (
        "asyncore",
        "            self.handle_close()\n        else:\n            self.handle_expt()",
        "            self.handle_expt()",
    ),
    "nothing is kept from being printed": (
        "asyncore",
        "if type not in self.ignore_log_types:",
        "if True:",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_comparison_finds_a_mistake(removed: Pair, mistake: str) -> None:
    module, text, instead = MISTAKES[mistake]
    mistaken = removed_modules({module: [(text, instead)]})
    for number in range(2000):
        script = conversation(FIXED_SEED, number)
        if first_difference(play(script, removed), play(script, mistaken)) is not None:
            return
    pytest.fail("2,000 conversations went as if it were not there")


def test_a_failure_is_shown_by_a_short_script(removed: Pair) -> None:
    module, text, instead = MISTAKES["a count does not go down"]
    mistaken = removed_modules({module: [(text, instead)]})
    shows = partial(report, expected=as_it_is(removed), seen=as_it_is(mistaken))
    found = next(filter(None, (shows(conversation("short", number)) for number in range(500))))
    script = [line for line in found.splitlines() if line.startswith(("callback", "step"))]
    assert len(script) <= 4, found
    assert "- expected state" in found
    assert "- seen     state" in found


def test_the_same_number_is_the_same_conversation() -> None:
    assert str(conversation("same", 7)) == str(conversation("same", 7))
    assert conversation("same", 7) != conversation("same", 8)
    assert str(Conversation(Setup(), (), (("chunk", b"x"),))) == (
        "handler: as it comes\nstep 0: chunk(b'x')"
    )
