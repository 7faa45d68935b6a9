"""``txasynchat.asynchat``: the drop-in, on its own ``loop()`` and on a Twisted endpoint."""

from __future__ import annotations

from benchmarks.peers import legacy_handlers, twisted_server
from benchmarks.serve import Ready
from txasynchat import asynchat, asyncore
from txasynchat.legacy.serving import LegacyFactory

_handlers = legacy_handlers.in_memory(asynchat)
Lines = _handlers.Lines
Frames = _handlers.Frames


def serve(service: str, ready: Ready, variant: str) -> None:
    """On its own loop, with no reactor loaded; or below a Twisted endpoint."""
    handler = legacy_handlers.services(asynchat)[service]
    if variant == "endpoint":
        twisted_server.run(LegacyFactory(handler), ready)
    else:
        ready(legacy_handlers.server(asyncore, handler))
        asyncore.loop()
