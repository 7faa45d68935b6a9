"""Files, up and down, of any size, with progress.

The server keeps files in a folder. "PUT NAME SIZE" and so many bytes store one, "GET NAME"
is answered by "SIZE" and the bytes, anything that goes wrong by "error: " and why. A file
appears under its name when all of it is there. Start it, then use it from another shell:

    python examples/file_transfer.py
    python examples/file_transfer.py --put LICENSE --connect tcp:127.0.0.1:8013
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectError
from twisted.internet.task import react

from txasynchat import AsyncChat, AsyncChatFactory, ChatClosed, connect

PIECE = 2**16
Progress = Callable[[int, int], object]


def nobody_looks(done: int, size: int) -> None:
    pass


async def receive(chat: AsyncChat, path: Path, size: int, progress: Progress) -> None:
    """Read so many bytes into a new file, which is there when it is complete."""
    if path.exists():
        raise FileExistsError(f"{path.name} is there already")
    with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part") as file:
        for start in range(0, size, PIECE):
            file.write(await chat.read_exactly(min(PIECE, size - start)))
            progress(file.tell(), size)
        file.flush()
        path.hardlink_to(file.name)  # which replaces nothing that came meanwhile


def send(chat: AsyncChat, path: Path, size: int, progress: Progress) -> None:
    """Send so many bytes of a file, as fast as the peer takes them."""

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as file:
            while file.tell() < size:
                piece = file.read(min(PIECE, size - file.tell()))
                if not piece:  # it became shorter: the peer must not wait for the rest
                    raise EOFError(f"{path} has only {file.tell()} of {size} bytes")
                yield piece
                progress(file.tell(), size)

    chat.push_with_producer(pieces())


class Store(AsyncChat):
    """The server's side of one connection."""

    idle_timeout = 60

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def conversation(self) -> None:
        async for line in self.messages(b"\n", limit=300):
            try:
                await self.obey(line.decode("ascii"))
            except ChatClosed:
                raise
            except (ValueError, OSError) as error:
                self.push(f"error: {error}\n".encode())
                if line.startswith(b"PUT"):
                    return  # what comes now is its body, and nobody reads that

    async def obey(self, line: str) -> None:
        if put := re.fullmatch(r"PUT (\S+) ([0-9]{1,12})", line):
            path, size = self.path_of(put[1]), int(put[2])
            await receive(self, path, size, nobody_looks)
            self.push(b"%d\n" % size)
        elif get := re.fullmatch(r"GET (\S+)", line):
            path = self.path_of(get[1])
            if not path.is_file():
                raise ValueError(f"there is no {path.name}")
            size = path.stat().st_size
            self.push(b"%d\n" % size)
            send(self, path, size, nobody_looks)
        else:
            raise ValueError("expected PUT NAME SIZE, or GET NAME")

    def path_of(self, name: str) -> Path:
        if not re.fullmatch(r"\w[\w.-]{0,99}", name):
            raise ValueError("a name has letters, digits, dots and dashes")
        return self.folder / name


class Client(AsyncChat):
    """The client's side: all that it gets is read by coroutines."""

    idle_timeout = 60


async def put(chat: AsyncChat, path: Path, progress: Progress) -> None:
    size = path.stat().st_size
    chat.push(f"PUT {path.name} {size}\n".encode())
    send(chat, path, size, progress)
    # The server's word that it has all of it; or, while it is being sent, that it will not.
    size_in(await chat.read_until(b"\n"))


async def get(chat: AsyncChat, path: Path, progress: Progress) -> None:
    chat.push(f"GET {path.name}\n".encode())
    await receive(chat, path, size_in(await chat.read_until(b"\n")), progress)


def size_in(answer: bytes) -> int:
    if not answer.isdigit():
        raise ValueError(answer.decode("latin-1"))
    return int(answer)


def show(done: int, size: int) -> None:
    print(f"{done} of {size} bytes", end="\n" if done == size else "\r", file=sys.stderr)


async def use(reactor: Any, server: str, transfer: Any, path: Path) -> None:
    try:
        async with connect(server, Client) as chat:
            await transfer(chat, path, show)
    except (ValueError, OSError, ConnectError) as error:
        raise SystemExit(f"file_transfer: {error}") from None


async def serve(reactor: Any, listen: str, folder: Path) -> None:
    endpoint: Any = serverFromString(reactor, listen)
    port = await endpoint.listen(AsyncChatFactory(Store, folder))
    at = port.getHost()
    print("listening on", f"{at.host}:{at.port}" if hasattr(at, "port") else at, flush=True)
    await Deferred()  # until SIGINT or SIGTERM stops the reactor


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--listen", metavar="ENDPOINT", default="tcp:8013:interface=127.0.0.1")
    parser.add_argument("--folder", metavar="FOLDER", type=Path, default=Path())
    parser.add_argument("--connect", metavar="ENDPOINT", default="tcp:127.0.0.1:8013")
    parser.add_argument("--put", metavar="FILE", type=Path)
    parser.add_argument("--get", metavar="FILE", type=Path)
    options = parser.parse_args()
    if options.put:
        react(use, [options.connect, put, options.put])
    elif options.get:
        react(use, [options.connect, get, options.get])
    else:
        react(serve, [options.listen, options.folder])
