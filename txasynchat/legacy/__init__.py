"""What carries the drop-in modules: channel maps, the reactor, sockets over transports."""

__all__ = ()
