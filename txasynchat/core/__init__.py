"""The rules of asynchat, without Twisted, sockets or a clock.

* :mod:`~txasynchat.core.framing`: bytes in, handler calls out;
* :mod:`~txasynchat.core.terminators`: what ends a message, and how it is found;
* :mod:`~txasynchat.core.outbox`: the queue of what is to be sent;
* :mod:`~txasynchat.core.lifecycle`: the states of a connection.

Everything here runs and is tested without a reactor.
"""

from txasynchat.core.framing import Framer
from txasynchat.core.lifecycle import CloseReason, Event, Lifecycle, State
from txasynchat.core.outbox import MoreProducer, Outbox, as_bytes, fifo, simple_producer
from txasynchat.core.terminators import Terminator, find_prefix_at_end

__all__ = (
    "CloseReason",
    "Event",
    "Framer",
    "Lifecycle",
    "MoreProducer",
    "Outbox",
    "State",
    "Terminator",
    "as_bytes",
    "fifo",
    "find_prefix_at_end",
    "simple_producer",
)
