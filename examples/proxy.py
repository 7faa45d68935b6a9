"""A proxy: what one side sends is passed on to the other, no faster than that reads.

Each client gets a connection of its own to another server. Whoever of the two stops reading
is waited for, so neither can fill the proxy's memory. A client that finishes sending is
still brought its answer. Start an echo server and this, then talk to it from another shell:

    python examples/echo.py &
    python examples/proxy.py
    printf 'ECHO 5\\nhello' | nc -N 127.0.0.1 8012
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import react

from txasynchat import AsyncChat, AsyncChatFactory, ChatClosed, connect


class Upstream(AsyncChat):
    """The connection to the server behind the proxy, over TCP or UNIX."""

    idle_timeout = 600

    def finish_sending(self) -> None:
        transport: Any = self.transport
        transport.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        """That was our own doing: what it sends is awaited still."""


class Proxy(AsyncChat):
    """One client, and the connection that was made for it."""

    idle_timeout = 600

    def __init__(self, target: str) -> None:
        self.target = target

    async def conversation(self) -> None:
        async with connect(self.target, Upstream) as upstream:
            asking = Deferred.fromCoroutine(self.ask(upstream))
            await pass_on(upstream, self)
            asking.addErrback(lambda failure: failure.trap(CancelledError))
            asking.cancel()

    async def ask(self, upstream: Upstream) -> None:
        await pass_on(self, upstream)
        if self.is_open:  # it finished sending, but may wait for its answer
            upstream.finish_sending()
        else:
            upstream.abort()


async def pass_on(source: AsyncChat, sink: AsyncChat) -> None:
    """Pass on what comes, up to the end of either side."""
    try:
        while data := await source.read():
            sink.push(data)
            await sink.drained()
    except ChatClosed:
        pass  # the sink is gone


async def main(reactor: Any, listen: str, target: str) -> None:
    endpoint: Any = serverFromString(reactor, listen)
    port = await endpoint.listen(AsyncChatFactory(Proxy, target))
    at = port.getHost()
    print("listening on", f"{at.host}:{at.port}" if hasattr(at, "port") else at, flush=True)
    await Deferred()  # until SIGINT or SIGTERM stops the reactor


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--listen", metavar="ENDPOINT", default="tcp:8012:interface=127.0.0.1")
    parser.add_argument("--to", metavar="ENDPOINT", default="tcp:127.0.0.1:8007")
    options = parser.parse_args()
    react(main, [options.listen, options.to])
