"""For tests of handlers: drive one in memory, and check that it keeps the rules."""

from txasynchat.testing.conformance import check_chat_handler
from txasynchat.testing.conversations import (
    ChatClock,
    Conversation,
    NeverRests,
    connect,
)
from txasynchat.testing.findings import Finding, NotConforming
from txasynchat.testing.pairs import Pair, connect_pair
from txasynchat.testing.pieces import cut, splits
from txasynchat.testing.transcripts import transcript_of
from txasynchat.testing.wires import Wire

__all__ = (
    "ChatClock",
    "Conversation",
    "Finding",
    "NeverRests",
    "NotConforming",
    "Pair",
    "Wire",
    "check_chat_handler",
    "connect",
    "connect_pair",
    "cut",
    "splits",
    "transcript_of",
)
