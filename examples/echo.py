"""Serve a handler on an endpoint, without twistd.

The handler is the ECHO example of txasynchat: a command line, then a body of as
many bytes as it says, which is sent back. Start it, then talk to it from another
shell:

    python examples/echo.py
    printf 'ECHO 5\\nhello' | nc 127.0.0.1 8007
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react

from txasynchat.echo import EchoHandler


async def main(reactor: Any, listen: str) -> None:
    endpoint: Any = serverFromString(reactor, listen)
    port = await endpoint.listen(Factory.forProtocol(EchoHandler))
    at = port.getHost()
    print("listening on", f"{at.host}:{at.port}" if hasattr(at, "port") else at, flush=True)
    await Deferred()  # until SIGINT or SIGTERM stops the reactor


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--listen", metavar="ENDPOINT", default="tcp:8007:interface=127.0.0.1")
    react(main, [parser.parse_args().listen])
