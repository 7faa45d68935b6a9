"""The conformance kit: finds out whether a handler keeps the rules that every handler has to.

Each rule is a function: it makes connections in memory, does to them what a network and
peers of all kinds do, and compares what comes of it with what came of the same
conversation when nothing was in its way.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from twisted.internet.error import ConnectionLost

from txasynchat.protocol import AsyncChat
from txasynchat.testing.findings import _RULES, Finding, NotConforming
from txasynchat.testing.pieces import cut
from txasynchat.testing.runs import Bench, Result, Run

__all__ = ("check_chat_handler",)

Sample = bytes | Sequence[bytes]

#: In two at so many places at most, and at random so often.
_MOST_CUTS = 200
_AT_RANDOM = 20

#: At so many places at most the peer goes; a message without end begins.
_MOST_ENDS = 48
_MOST_MESSAGES = 8

#: A flood: so many bytes at the most, and between two looks at what is kept; so much at once.
#: With so many bytes of answers, or timers, it is enough.
_FLOOD = 2**20
_ROUND = 2**13
_CHUNK = 2**12
_MOST_OUTPUT = 2**21
_MOST_TIMERS = 500

#: What may be written too much, however long it goes on, in bytes.
_SLACK = 2**14

#: How often one whose output has to wait is given its seconds again.
_MORE_TIME = 5

#: How long a transport stays full, in seconds, to see who goes on all the same.
_STANDSTILL = 600


def check_chat_handler(
    factory: Any,
    *samples: Sample,
    seconds: float = 0.0,
    normalise: Callable[[bytes], bytes] | None = None,
    observe: Callable[[Any], Any] | None = None,
    keeps: int = 2**18,
    skip: Mapping[str, str] | None = None,
    raises: bool = True,
) -> list[Finding]:
    """Find out whether a handler keeps the rules, whatever its network and its peers do.

    :param factory: what :func:`~txasynchat.testing.connect` takes, but for a handler that
        is made already: it is called for each of some hundred connections.
    :param samples: conversations, each what a peer says: as bytes, sent on without waiting;
        or a list of bytes, each of which is sent when the handler is done with those before,
        which STARTTLS needs.
    :param seconds: how long the handler may take for its answers, on its clock. Such
        a one has a parameter named ``clock``, or uses its ``callLater()``.
    :param normalise: passed all output of a connection; returns it without what is
        different each time, as numbers and dates are.
    :param observe: passed the handler at the end; returns what must not depend on how the
        input was cut either, for one that answers little.
    :param keeps: how many bytes a connection may keep for itself, beyond the limits that its
        class sets, however long it goes on.
    :param skip: rules not to be checked, each with the reason.
    :param raises: whether to raise what was found; else it is returned.
    :raise NotConforming: an ``AssertionError``, with what was found.
    :raise ValueError: if two connections with the same input have different results,
        or there is no such rule.

    >>> from txasynchat.echo import EchoHandler
    >>> check_chat_handler(EchoHandler, b"ECHO 5\\nhello")
    []
    >>> class Hasty(EchoHandler):
    ...     def collect_incoming_data(self, data):
    ...         self.push(b"%d bytes\\n" % len(data))
    >>> for finding in check_chat_handler(Hasty, b"ECHO 5\\nhello", raises=False):
    ...     print(finding.rule)
    chunking
    """
    skipped = dict(skip or {})
    for rule, reason in skipped.items():
        if rule not in _RULES:
            raise ValueError(f"there is no rule {rule!r}: {', '.join(_RULES)}")
        if not reason:
            raise ValueError(f"say why {rule!r} is skipped")
    if isinstance(factory, AsyncChat):
        raise TypeError("give the handler's class, or what makes one: a connection needs its own")
    if not samples:
        raise TypeError("give at least one sample of what a peer says")
    bench = Bench(factory, seconds, normalise, observe)
    found: dict[str, Finding] = {}
    with bench.listening():
        for each in samples:
            check = _Check(bench, [each] if isinstance(each, bytes) else [*each], keeps)
            for finding in check.findings(set(_RULES) - set(skipped)):
                found.setdefault(finding.rule, finding)
    findings = [found[rule] for rule in _RULES if rule in found]
    if findings and raises:
        raise NotConforming(_name_of(factory), findings)
    return findings


class _Check:
    """What is found with one sample."""

    def __init__(self, bench: Bench, sample: list[bytes], keeps: int) -> None:
        self.bench = bench
        self.keeps = keeps
        self.sample = sample
        self.all = b"".join(sample)
        self.normal: Result
        self.raised: list[str] = []
        self.was_open = False

    def findings(self, rules: set[str]) -> Iterator[Finding]:
        """What is found, by these rules. Where it raises there is nothing to compare with."""
        self._play_undisturbed()
        if self.raised and "errors" in rules:
            yield self._found("errors", self.raised[0], _said(self.sample))
            return
        checks: tuple[tuple[set[str], Callable[[], Iterator[Finding]]], ...] = (
            ({"chunking"}, self._chunking),
            ({"slow-reader"}, self._slow_reader),
            ({"half-close"}, self._half_close),
            ({"disconnect", "after-close"}, self._ends),
            ({"pauses", "queues", "errors"}, self._flood),
            ({"endless-message"}, self._endless_message),
        )
        for of_these, check in checks:
            if rules & of_these:
                yield from (each for each in check() if each.rule in rules)

    def _found(self, rule: str, what: str, reproduce: str) -> Finding:
        return Finding(rule, what, reproduce, _RULES[rule])

    def _play_undisturbed(self) -> None:
        bench = self.bench
        with bench.run() as run:
            run.play(self.sample)
            self.normal = run.result()
            self.was_open = not self.normal.end
            gc.collect()  # Deferreds whose failure nobody took log it when they go
            self.raised = run.raised()
        again = bench.played(self.sample)
        if again != self.normal:
            raise ValueError(
                "the handler answers the same input in another way the next time; take out "
                "what differs with normalise=, and give a factory whose connections share "
                f"nothing:\n{_differing(self.normal, again)}"
            )

    # -- How it comes --------------------------------------------------------------------

    def _chunking(self) -> Iterator[Finding]:
        for places in self._ways_to_cut():
            if self.bench.played(self.sample, places) != self.normal:
                places = self._fewest(places)
                got = self.bench.played(self.sample, places)
                pieces = [each for step in self._cut(places) for each in step]
                what = f"in pieces its result is another\n{_differing(self.normal, got)}"
                yield self._found("chunking", what, _said(pieces))
                return

    def _cut(self, places: Sequence[int]) -> Iterator[list[bytes]]:
        at = 0
        for step in self.sample:
            yield cut(step, [place - at for place in places])
            at += len(step)

    def _ways_to_cut(self) -> Iterator[list[int]]:
        places = range(1, len(self.all))
        for place in _some(places, _MOST_CUTS):
            yield [place]
        yield list(places)
        random = Random(0)
        for _ in range(_AT_RANDOM if len(places) > 2 else 0):
            yield sorted(random.sample(places, random.randint(2, min(len(places), 20))))

    def _fewest(self, places: list[int]) -> list[int]:
        # Of the cuts those without which there is no difference.
        for place in tuple(places):
            fewer = [each for each in places if each != place]
            if self.bench.played(self.sample, fewer) != self.normal:
                places = fewer
        return places

    # -- How it goes out -----------------------------------------------------------------

    def _slow_reader(self) -> Iterator[Finding]:
        for takes, reads in ((0, 1), (1, 1), (10, 3)):
            with self.bench.run(takes) as run:
                run.play(self.sample, reads=reads)
                for _ in range(_MORE_TIME):
                    if not self._is_to_come(run.result()):
                        break
                    run.wait()
                    run.drain(reads)
                got = run.result()
            if got.output != self.normal.output:
                what = "a peer that reads slowly gets something else\n"
                how = f"talk.clog({takes})\n{_said(self.sample)}\nwhile talk.take({reads}): pass"
                yield self._found("slow-reader", what + _differing(self.normal, got), how)
                return

    def _is_to_come(self, got: Result) -> bool:
        # Whether one that waits for its peer, and then for its own timers, may need more time.
        all_of_it = self.normal.output
        return got.output != all_of_it and all_of_it.startswith(got.output)

    def _half_close(self) -> Iterator[Finding]:
        with self.bench.run() as run:
            run.play(self.sample, finishes=True)
            got, raised = run.result(), run.raised()
            if run.talk.is_secure:
                return  # there is no half of a TLS connection
        how = f"{_said(self.sample)}  # together with\ntalk.finish()"
        if not got.output.startswith(self.normal.output):
            what = "a peer that finishes sending does not get all answers\n"
            yield self._found("half-close", what + _differing(self.normal, got), how)
        elif raised and not self.raised:
            yield self._found("half-close", raised[0], how)

    # -- How it ends ---------------------------------------------------------------------

    def _ends(self) -> Iterator[Finding]:
        found: set[str] = set()
        for place in [*_some(range(len(self.all)), _MOST_ENDS), len(self.all)]:
            for each in self._peer_goes(place):
                if each.rule not in found:
                    found.add(each.rule)
                    yield each
            if len(found) == 2:
                return
        self.bench.troubles = []
        gc.collect()
        raised = [each.text for each in self.bench.troubles]
        if raised and not found:
            yield self._found("disconnect", raised[0], f"{_said(self.sample)}\ntalk.disconnect()")

    def _peer_goes(self, place: int) -> Iterator[Finding]:
        said = [step[: max(place - at, 0)] for step, at in self._steps()]
        said = [step for step in said if step]
        how = f"{_said(said)}\ntalk.disconnect()"
        bench = self.bench
        with bench.run() as run:
            for step in said:
                run.receive(step)
                run.wait()
            bench.troubles = [each for each in bench.troubles if each.is_late]
            run.do(lambda: run.talk.disconnect(ConnectionLost()))
            raised = run.raised()
            told = run.is_told_of_end
            before = len(bench.troubles)
            rests = run.run_timers_out()
            late = [each.text for each in bench.troubles if each.is_late]
            late += [each.text for each in bench.troubles[before:] if not each.is_late]
            written = run.talk.wire.late
        if raised:
            yield self._found("disconnect", raised[0], how)
        elif not told:
            yield self._found("disconnect", _NOT_TOLD, how)
        if late:
            yield self._found("after-close", late[0], how)
        elif written:
            what = f"it writes to its transport after the end: {_short(written)}"
            yield self._found("after-close", what, how)
        elif not rests:
            how += "\ntalk.clock.advance(...)"
            yield self._found("after-close", "a timer of it runs on and on after the end", how)

    def _steps(self) -> Iterator[tuple[bytes, int]]:
        at = 0
        for step in self.sample:
            yield step, at
            at += len(step)

    # -- How much it takes ---------------------------------------------------------------

    def _flood(self) -> Iterator[Finding]:
        said = self._repeatable()
        if not said:
            return
        words = _said(said).replace("\n", "\n    ")
        how = f"for _ in range(50_000):\n    {words}"
        with self.bench.run() as run:
            kept, fed = self._growth(run, said)
            # It may well refuse what makes no sense when it is said again.
            deep = [each for each in run.raised() if "RecursionError" in each]
        if deep:
            yield self._found("errors", deep[0], how)
        if kept:
            what = f"what it keeps grows with its input: {kept} bytes for {fed}"
            yield self._found("queues", what, how)
        how = f"talk.clog({_CHUNK})\n{how}"
        with self.bench.run(_CHUNK) as run:
            waits, fed = self._growth(run, said)
            overrun = run.talk.wire.overrun
            before = run.taken
            if not run.talk.is_closed:
                run.pass_time(_STANDSTILL)
            driven = run.taken - before
        if overrun > _SLACK:
            what = f"it wrote {overrun} bytes to a transport that had said pause"
            yield self._found("pauses", what, how)
        elif driven > _SLACK:
            what = f"it makes {driven} bytes more in {_STANDSTILL} s in which nobody takes any"
            yield self._found("pauses", what, f"{how}\ntalk.clock.advance({_STANDSTILL})")
        elif waits and not kept:
            what = f"what waits for a peer that does not read grows: {waits} bytes for {fed}"
            yield self._found("queues", what, how)

    def _growth(self, run: Run, said: list[bytes]) -> tuple[int, int]:
        # How much too much is taken, of how many bytes; 0 of 0 once it grows no more.
        times = max(_ROUND // sum(map(len, said)), 1)
        begun, sent, calm = run.taken, 0, 0
        while calm < 2 and sent < _FLOOD:
            before = run.taken
            fed = self._repeat(run, said, times)
            sent += fed
            if not fed:
                break
            calm = calm + 1 if run.taken - before <= fed / 4 else 0
            if run.taken - begun > self.keeps:
                return run.taken - begun, sent
        return 0, 0

    def _repeat(self, run: Run, said: list[bytes], times: int) -> int:
        at_once = max(_CHUNK // len(said[0]), 1) if len(said) == 1 else 1
        fed = 0
        talk, enough = run.talk, run.sent + _MOST_OUTPUT
        while (
            (times > 0 and not talk.is_closed)
            and talk.wire.unread < 8 * _CHUNK
            and run.sent < enough
            and len(talk.clock.getDelayedCalls()) < _MOST_TIMERS
        ):
            for step in said:
                run.receive(step * min(at_once, times))
                fed += len(step) * min(at_once, times)
                if talk.is_paused:
                    run.wait()
            times -= at_once
        return fed

    def _repeatable(self) -> list[bytes]:
        # As much of the sample as leaves the connection open, up to the end of a message.
        boundaries = self._boundaries()
        counts = len(boundaries) > 1
        end = boundaries[-1] if counts or not self.was_open else len(self.all)
        said = [step[: max(end - at, 0)] for step, at in self._steps()]
        return [step for step in said if step]

    def _boundaries(self) -> list[int]:
        # After how many bytes a message has ended, and the connection was open.
        found = [0]
        with self.bench.run() as run:
            messages, at = run.messages, 0
            for step in self.sample:
                for byte in cut(step, range(len(step))):
                    run.receive(byte)
                    if run.talk.is_paused:
                        run.wait()
                    at += 1
                    if run.talk.close_reason is not None:
                        return found
                    if run.messages != messages:
                        messages = run.messages
                        found.append(at)
                run.wait()
        return found

    def _endless_message(self) -> Iterator[Finding]:
        for place in _some(self._boundaries(), _MOST_MESSAGES):
            said = [step[: max(place - at, 0)] for step, at in self._steps()]
            said = [step for step in said if step]
            with self.bench.run() as run:
                run.play(said)
                kept, fed = self._feed_for_ever(run)
            if kept:
                what = f"a message without end is kept: {kept} bytes of {fed}"
                how = f"{_said(said)}\nfor _ in range(100):\n    talk.receive(bytes(65536))"
                yield self._found("endless-message", what, how.lstrip("\n"))
                return

    def _feed_for_ever(self, run: Run) -> tuple[int, int]:
        # As for _growth(). Where messages end it is none without end.
        most = self.keeps + (getattr(run.talk._inner, "max_message_length", None) or 0)
        begun, messages, sent, calm, size = run.held(), run.messages, 0, 0, 256
        while calm < 2 and not run.talk.is_closed and not run.talk.wire.unread:
            before = run.held()
            run.receive(bytes(size))
            sent += size
            if run.messages != messages:
                break
            calm = calm + 1 if run.held() - before <= size / 4 else 0
            if run.held() - begun > most:
                return run.held() - begun, sent
            size = 65536
        return 0, 0


_NOT_TOLD = "it does not let go of its connection, which is gone"


def _some(places: Sequence[int], most: int) -> list[int]:
    # All of them, or as many as allowed, spread evenly.
    if len(places) <= most:
        return list(places)
    return [places[number * len(places) // most] for number in range(most)]


def _said(pieces: Sequence[bytes]) -> str:
    return "\n".join(f"talk.receive({_short(piece)})" for piece in pieces[:20])


def _short(data: bytes) -> str:
    return repr(data) if len(data) <= 300 else f"{data[:200]!r} + ..."


def _differing(expected: Result, got: Result) -> str:
    lines = []
    for name in ("output", "end", "observed"):
        before, after = getattr(expected, name), getattr(got, name)
        if before != after:
            if isinstance(before, bytes) and isinstance(after, bytes):
                before, after = _short(before), _short(after)
            lines.append(f"{name}: expected {before}\n{'': <{len(name)}}  got      {after}")
    return "\n".join(lines)


def _name_of(factory: Any) -> str:
    return str(getattr(factory, "__qualname__", None) or type(factory).__qualname__)
