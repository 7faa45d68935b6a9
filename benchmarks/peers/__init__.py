"""Who is measured: one module for each, written as its own users would write it.

A module has what its peer can take part in, and nothing else:

``Lines(delimiter, longest)``, ``Frames(longest)``
    handlers for the in-memory workloads: messages that end at a delimiter, or that follow a 4-byte
    length; ``longest`` is the length of the longest message. They count as
    :class:`benchmarks.handlers.Counting` does.
``serve(service, ready, variant)``
    serves until the process is killed. :mod:`benchmarks.serve` says what the services are;
    ``ready(port)`` is to be called once it listens.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType


class UnavailableError(Exception):
    """This peer can't take part here; the text says why."""


@dataclass(frozen=True)
class Peer:
    """One of those that are measured."""

    name: str
    #: In this package.
    module: str
    #: Which of several in that module; its ``serve()`` knows.
    variant: str = ""

    def load(self) -> ModuleType:
        """Its module.

        :raise UnavailableError: if something that it needs is not installed.
        """
        try:
            if self.variant == "uvloop":
                importlib.import_module("uvloop")
            return importlib.import_module(f"benchmarks.peers.{self.module}")
        except ImportError as error:
            raise UnavailableError(f"{error.name or error} is not installed") from error


#: In the order of the reports; the first two are ours.
PEERS = {
    peer.name: peer
    for peer in (
        Peer("AsyncChat", "asyncchat"),
        Peer("drop-in", "dropin"),
        Peer("drop-in over TransportSocket", "dropin", "endpoint"),
        Peer("AsyncChat coroutines", "coroutines"),
        Peer("removed", "removed"),
        Peer("removed (select)", "removed", "select"),
        Peer("removed (poll)", "removed", "poll"),
        Peer("LineReceiver", "linereceiver"),
        Peer("Int32StringReceiver", "int32stringreceiver"),
        Peer("Protocol by hand", "byhand"),
        Peer("asyncio Protocol", "asyncio_protocol"),
        Peer("asyncio Protocol (uvloop)", "asyncio_protocol", "uvloop"),
        Peer("asyncio streams", "asyncio_streams"),
        Peer("asyncio streams (uvloop)", "asyncio_streams", "uvloop"),
        Peer("tornado IOStream", "tornado_iostream"),
        Peer("bare find", "bare_find"),
        Peer("bare split", "bare_split"),
        Peer("bare epoll", "bare_epoll"),
    )
}
