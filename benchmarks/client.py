"""The client, in a process of its own: ``python -m benchmarks.client PORT``.

Plain sockets and epoll, no framework, and as little work as possible: it must not be what limits
the server. It reads commands from standard input, one JSON object for each line, and answers each
with one: how much was done, in which time.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
import time
from typing import Any

from benchmarks import traffic
from benchmarks.serve import raise_limit

#: Seconds after which a command has failed, and the client ends.
_LIMIT = 120


class Connection:
    """A connection that awaits the answer to what it has sent."""

    def __init__(self, port: int, size: int = 0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answer = bytearray(size)
        self.view = memoryview(self.answer)
        self.received = 0
        self.left = 0

    def receive(self) -> bool:
        """Take what is there. True if the answer is complete."""
        count = self.sock.recv_into(self.view[self.received :])
        if not count:
            raise ConnectionError("the server has closed the connection")
        self.received += count
        return self.received == len(self.answer)


class Client:
    """What can be asked of the client: one method for each command."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: list[Connection] = []
        self.active: list[Connection] = []

    def stay(self, count: int, answered: bool = False) -> int:
        """Open more connections that do nothing, and wait until the server has them all.

        With `answered` each has one answer then.
        """
        line = traffic.lines(1)
        opened = [Connection(self.port, len(line)) for _ in range(count)]
        self._exchange(opened[-1:], line, 1)
        if answered:
            self._exchange(opened[:-1], line, 1)
        self.idle += opened
        return count

    def exchange(self, connections: int, depth: int, times: int) -> int:
        """Send so many requests at once on each connection, await the answers; repeat."""
        blob = traffic.lines(depth)
        while len(self.active) < connections:
            self.active.append(Connection(self.port, len(blob)))
        self._exchange(self.active, blob, times)
        return connections * depth * times

    def _exchange(self, connections: list[Connection], blob: bytes, times: int) -> None:
        poll = select.epoll()
        by_descriptor = {}
        for each in connections:
            by_descriptor[each.sock.fileno()] = each
            poll.register(each.sock, select.EPOLLIN)
            each.left = times
            each.received = 0
            each.sock.sendall(blob)
        busy = len(connections)
        while busy:
            for descriptor, _ in poll.poll():
                each = by_descriptor[descriptor]
                if not each.receive():
                    continue
                if each.answer != blob:
                    raise ValueError("the answer is not what was sent")
                each.received = 0
                each.left -= 1
                if each.left:
                    each.sock.sendall(blob)
                else:
                    busy -= 1
        poll.close()

    def download(self, size: int, pause: float, times: int) -> int:
        """Ask for so many bytes, and compare them; stop for a while in the middle; repeat."""
        if not self.active:
            self.active.append(Connection(self.port, len(traffic.PATTERN)))
        return sum(self._download(self.active[0], size, pause) for _ in range(times))

    def _download(self, connection: Connection, size: int, pause: float) -> int:
        connection.sock.sendall(b"%d\r\n" % size)
        half = size // 2 // len(traffic.PATTERN)
        for number in range(size // len(traffic.PATTERN)):
            if pause and number == half:
                time.sleep(pause)
            connection.received = 0
            while not connection.receive():
                pass
            if connection.answer != traffic.PATTERN:
                raise ValueError("what came is not what was to be sent")
        return size // traffic.PIECE

    def connect(self, count: int, together: int) -> int:
        """Connect, send one request, read to the end; so often, some at the same time."""
        line = traffic.lines(1)
        poll = select.epoll()
        open_ones: dict[int, Connection] = {}
        begun = ended = 0
        while ended < count:
            while begun < count and len(open_ones) < together:
                new = Connection(self.port, len(line) + 1)
                new.sock.sendall(line)
                open_ones[new.sock.fileno()] = new
                poll.register(new.sock, select.EPOLLIN)
                begun += 1
            for descriptor, _ in poll.poll():
                each = open_ones[descriptor]
                received = each.sock.recv_into(each.view[each.received :])
                each.received += received
                if received:
                    continue
                if each.answer[: each.received] != line:
                    raise ValueError("the answer is not what was sent")
                poll.unregister(descriptor)
                each.sock.close()
                del open_ones[descriptor]
                ended += 1
        poll.close()
        return ended


def main(arguments: list[str]) -> None:
    """Do what is commanded until standard input ends."""
    raise_limit()
    client = Client(int(arguments[0]))
    for line in sys.stdin:
        signal.alarm(_LIMIT)
        command: dict[str, Any] = json.loads(line)
        pause = command.get("pause", 0.0) * command.get("times", 1)
        wall, cpu = time.perf_counter(), time.process_time()
        work = getattr(client, command.pop("do"))(**command)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall - pause
        signal.alarm(0)
        print(json.dumps({"work": work, "wall": wall, "client_cpu": cpu}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
