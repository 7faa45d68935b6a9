"""How any Twisted protocol is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory

from benchmarks.peers import UnavailableError
from benchmarks.serve import Ready


def serve(protocols: Mapping[str, Any], service: str, ready: Ready) -> None:
    """Serve one of some protocols on a port of the system's choice."""
    if service not in protocols:
        raise UnavailableError(f"it has nothing of its own for {service}: see the one by hand")
    run(Factory.forProtocol(protocols[service]), ready)


def run(factory: Factory, ready: Ready) -> None:
    """Run the reactor with a factory's protocols on a port of the system's choice."""
    from twisted.internet import reactor  # noqa: TID251

    endpoint = TCP4ServerEndpoint(reactor, 0, backlog=4096, interface="127.0.0.1")
    factory.noisy = False
    endpoint.listen(factory).addCallback(lambda port: ready(port.getHost().port))
    running: Any = reactor
    running.run()
