"""A client that sends all its requests at once, and matches the answers in order.

Each line of the standard input is a request that is answered by one line. None waits for
the answer to the one before, and each has a time limit of its own. An answer that comes
too late is dropped when it comes: it is not taken for the answer to the next request.
Start a server, then send it requests from another shell:

    python examples/async_handler.py
    printf 'sleep 0.5\\nhash secret\\nsleep 0\\n' | python examples/pipelined_client.py
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import deque
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import react

from txasynchat import AsyncChat, ChatClosed, connect


class Client(AsyncChat):
    """Asks, and hands out the answers in the order of the questions."""

    idle_timeout = 60
    # Answers are taken however much is being asked, or the two ends could wait for each
    # other. Whoever asks has to say how much that may be.
    max_queued_output = None

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.asked: deque[Deferred[bytes]] = deque()

    def handle_connect(self) -> None:
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def ask(self, request: bytes, seconds: float) -> Deferred[bytes]:
        """Send a request; fires with its answer, or fails with TimeoutError or ChatClosed."""
        self.push(request + b"\n")
        answer: Deferred[bytes] = Deferred()
        self.asked.append(answer)
        return answer.addTimeout(seconds, self.clock)

    def found_terminator(self) -> None:
        data = self._get_data()
        if not self.asked:
            raise ValueError(f"an answer to nothing: {data!r}")
        # One that timed out has kept its place: this was its answer, and nobody wants it.
        answer = self.asked.popleft()
        if not answer.called:
            answer.callback(data)

    def handle_timeout(self) -> None:
        if self.asked:  # nothing came for all that time: it will not come any more
            self.abort()

    def handle_close(self) -> None:
        while self.asked:
            answer = self.asked.popleft()
            if not answer.called:
                answer.errback(ChatClosed(f"no answer: {self.close_reason}, {self.close_detail}"))


async def main(reactor: Any, server: str, seconds: float, at_once: int) -> None:
    requests = sys.stdin.buffer.read().splitlines()
    places = DeferredSemaphore(at_once)
    async with connect(server, lambda: Client(reactor)) as client:

        async def ask(request: bytes) -> bytes:
            try:
                return await client.ask(request, seconds)
            except defer.TimeoutError:
                return b"error: no answer within %g s" % seconds
            except ChatClosed as error:
                return f"error: {error}".encode()

        def run(request: bytes) -> Deferred[bytes]:
            return Deferred.fromCoroutine(ask(request))

        for answer in await gatherResults([places.run(run, each) for each in requests]):
            print(answer.decode("latin-1"))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--connect", metavar="ENDPOINT", default="tcp:127.0.0.1:8010")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=10)
    parser.add_argument("--at-once", metavar="NUMBER", type=int, default=100)
    options = parser.parse_args()
    react(main, [options.connect, options.timeout, options.at_once])
