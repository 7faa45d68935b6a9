"""A worker: the process that serves, on sockets that its parent has opened.

``python -m txasynchat.worker`` is run by ``txasynchat/workers.py`` and by nobody else.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from importlib import import_module
from typing import Any

from twisted.logger import ILogObserver, LogEvent, globalLogBeginner, jsonFileLogObserver
from zope.interface import implementer

__all__ = ("main",)


def main(order: dict[str, Any]) -> None:
    """Serve until the parent says stop, or is gone.

    :param order: what the parent wants: see ``Workers``.
    """
    # A terminal interrupts a whole group of processes. When it is time, the parent says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = order["path"]
    module = order["reactor"]
    if "twisted.internet.reactor" not in sys.modules:
        import_module(module).install()
    # The parent's log gets it as it is: events with their fields, not lines.
    output = open(os.dup(1), "w", encoding="utf-8")  # noqa: SIM115
    globalLogBeginner.beginLoggingTo([_observer(jsonFileLogObserver(output))])
    from twisted.internet import reactor  # noqa: TID251

    worker = _Work(order, reactor)
    reactor.callWhenRunning(worker.begin)
    reactor.run()


def _observer(write: ILogObserver) -> ILogObserver:
    # As JSON a failure has no value: its words go beside it.
    def observe(event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            event = {**event, "failure_words": failure.getErrorMessage()}
        write(event)

    observer: ILogObserver = implementer(ILogObserver)(observe)
    return observer


class _Work:
    """What a worker does from its parent's first order to its last."""

    def __init__(self, order: dict[str, Any], reactor: Any) -> None:
        from txasynchat.service import Signals
        from txasynchat.tap import WorkerOptions
        from txasynchat.workers import Control

        options = WorkerOptions(order["number"], order["sockets"])
        options.parseOptions(order["arguments"])
        self._reactor = reactor
        self._service = options.chat_service()
        self._signals = Signals(self._service.hurry, self._service.reload)
        end = socket.socket(fileno=order["control"])
        self._control = Control(self._receive, self._parent_is_gone).adopt(end, reactor)

    def begin(self) -> None:
        self._reactor.addSystemEventTrigger("before", "shutdown", self._end)
        self._service.privilegedStartService()
        self._service.startService()
        self._signals.startService()
        self._control.tell(event="ready")

    def _receive(self, message: dict[str, Any]) -> None:
        order = message["do"]
        if order == "numbers":
            self._control.tell(event="numbers", numbers=self._service.connections.numbers())
        elif order == "reload":
            self._service.reload()
        elif order == "hurry":
            self._service.hurry()
        elif order == "stop":
            self._signals.stop()

    def _parent_is_gone(self) -> None:
        self._signals.stop()

    def _end(self) -> Any:
        self._signals.stopService()
        ended = self._service.stopService()
        self._control.tell(event="deaf")
        return ended.addCallback(self._report)

    def _report(self, drained: dict[str, int]) -> Any:
        numbers = self._service.connections.numbers()
        self._control.tell(event="drained", drained=drained, numbers=numbers)
        # Its end is the process's: nothing of it must be lost.
        self._control.close_when_done()
        return self._control.closed()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
