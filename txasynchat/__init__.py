"""txasynchat: terminator-framed protocols on Twisted, and a home for asynchat code.

The names below come from the modules they stand in when they are first used, so
that importing the core loads no Twisted.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from txasynchat.bridge import asyncio_reactor, bridged
    from txasynchat.client import connect
    from txasynchat.core.lifecycle import CloseReason
    from txasynchat.core.outbox import MoreProducer, fifo, simple_producer
    from txasynchat.core.terminators import Terminator, find_prefix_at_end
    from txasynchat.errors import (
        ChatClosed,
        IncompleteRead,
        MessageTooLong,
        PlaintextAfterStartTLS,
    )
    from txasynchat.factory import AsyncChatFactory
    from txasynchat.legacy.aliases import install, uninstall
    from txasynchat.legacy.serving import LegacyFactory
    from txasynchat.legacy.transport_socket import TransportSocket
    from txasynchat.producers import ProducerDrain, ProducerSender
    from txasynchat.protocol import AsyncChat, PauseReason
    from txasynchat.watcher import Watcher

__all__ = (
    "AsyncChat",
    "AsyncChatFactory",
    "ChatClosed",
    "CloseReason",
    "IncompleteRead",
    "LegacyFactory",
    "MessageTooLong",
    "MoreProducer",
    "PauseReason",
    "PlaintextAfterStartTLS",
    "ProducerDrain",
    "ProducerSender",
    "Terminator",
    "TransportSocket",
    "Watcher",
    "asyncio_reactor",
    "bridged",
    "connect",
    "fifo",
    "find_prefix_at_end",
    "install",
    "simple_producer",
    "uninstall",
)

_HOMES = {
    "AsyncChat": "protocol",
    "AsyncChatFactory": "factory",
    "ChatClosed": "errors",
    "CloseReason": "core.lifecycle",
    "IncompleteRead": "errors",
    "LegacyFactory": "legacy.serving",
    "MessageTooLong": "errors",
    "MoreProducer": "core.outbox",
    "PauseReason": "protocol",
    "PlaintextAfterStartTLS": "errors",
    "ProducerDrain": "producers",
    "ProducerSender": "producers",
    "Terminator": "core.terminators",
    "TransportSocket": "legacy.transport_socket",
    "Watcher": "watcher",
    "asyncio_reactor": "bridge",
    "bridged": "bridge",
    "connect": "client",
    "fifo": "core.outbox",
    "find_prefix_at_end": "core.terminators",
    "install": "legacy.aliases",
    "simple_producer": "core.outbox",
    "uninstall": "legacy.aliases",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
