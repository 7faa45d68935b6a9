"""A server in a process of its own: ``python -m benchmarks.serve PEER SERVICE``.

It prints its port, or why it can't serve, and ends when its standard input does. The services, all
with requests that are lines:

``echo``
    answers each line with the line;
``once``
    answers one line with the line, then closes;
``producer``
    a line has a number of bytes, which are sent from a producer, in pieces of 64 KiB;
``push``
    the same in one write.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Callable

from benchmarks import traffic
from benchmarks.peers import PEERS, UnavailableError

#: Called with the port, once it listens.
Ready = Callable[[int], object]

#: Seconds until a server must listen.
_LIMIT = 60


def main(arguments: list[str]) -> None:
    """Serve until standard input ends."""
    name, service = arguments
    raise_limit()
    signal.alarm(_LIMIT)
    if service == "push":
        traffic.whole(traffic.PUSHED)  # not while it is measured
    peer = PEERS[name]
    try:
        peer.load().serve(service, _ready, peer.variant)
    except UnavailableError as error:
        print(f"n/a: {error}", flush=True)


def descriptors() -> int:
    """How many descriptors a process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def raise_limit() -> None:
    """Take as many descriptors as that."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors(), descriptors()))


def _ready(port: int) -> None:
    signal.alarm(0)
    print(port, flush=True)
    threading.Thread(target=_end_with_stdin, daemon=True).start()


def _end_with_stdin() -> None:
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
