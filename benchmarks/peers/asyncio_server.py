"""How anything on asyncio is served, on its own loop or on uvloop's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.serve import Ready

BACKLOG = 4096


def run(
    listen: Callable[[], Awaitable[asyncio.Server]],
    ready: Ready,
    variant: str,
) -> None:
    """Run what listens on a port of the system's choice."""

    async def main() -> None:
        server = await listen()
        ready(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    if variant == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
