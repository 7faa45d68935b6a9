"""Programs of asyncio's: their tasks await what AsyncChat gives them.

Each is a process of its own, as it installs the asyncio reactor on its own loop.
"""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent, indent

import pytest
from support import bare_environment

HEAD = """
import asyncio
from txasynchat import (
    AsyncChat, AsyncChatFactory, IncompleteRead, asyncio_reactor, bridged, connect
)
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString

class Upper(AsyncChat):
    async def conversation(self):
        self.push(b"ready\\n")
        async for line in self.messages(b"\\n"):
            if line == b"quit":
                return
            if line == b"later":
                held.append(self)
                continue
            self.push(line.upper() + b"\\n")

held = []

async def listen(handler=Upper):
    from twisted.internet import reactor
    endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
    port = await bridged(endpoint.listen(AsyncChatFactory(handler)))
    return f"tcp:127.0.0.1:{port.getHost().port}"

async def main():
    async with asyncio_reactor() as reactor:
"""


def run(body: str, around: str = "asyncio.run(main())") -> str:
    program = HEAD + indent(dedent(body), " " * 8) + "\n" + dedent(around)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=bare_environment(),
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_tasks_read_and_write() -> None:
    body = """
    address = await listen()
    async def one(number):
        async with connect(address) as chat:
            assert await chat.read_until(b"\\n") == b"ready"
            for turn in range(20):
                chat.push(b"n%d-%d\\n" % (number, turn))
                assert await chat.read_until(b"\\n") == b"N%d-%d" % (number, turn)
            await chat.drained()
            return number
    print(sum(await asyncio.gather(*(one(number) for number in range(10)))))
    """
    assert run(body) == "45\n"


def test_messages_are_gone_through_in_a_task() -> None:
    body = """
    address = await listen()
    async with connect(address) as chat:
        chat.push(b"a\\nb\\nquit\\n")
        print([line async for line in chat.messages(b"\\n")])
        print(await chat.closed())
    """
    assert run(body) == "[b'ready', b'A', b'B']\npeer\n"


def test_a_task_that_timed_out_leaves_the_stream_usable() -> None:
    body = """
    address = await listen()
    async with connect(address) as chat:
        await chat.read_until(b"\\n")
        try:
            await asyncio.wait_for(chat.read_exactly(100), 0.05)
        except asyncio.TimeoutError:
            print("timed out")
        chat.push(b"still\\n")
        print(await asyncio.wait_for(chat.read_until(b"\\n"), 10))
    """
    assert run(body) == "timed out\nb'STILL'\n"


def test_what_a_task_was_given_and_did_not_take_is_there_for_the_next() -> None:
    # The task is cancelled in the same turn of the loop in which its read has fired.
    body = """
    address = await listen()
    async with connect(address) as chat:
        await chat.read_until(b"\\n")
        task = asyncio.ensure_future(chat.read_until(b"\\n"))
        await asyncio.sleep(0)
        data_received = chat.dataReceived
        def and_cancel(data):
            data_received(data)
            task.cancel()
        chat.dataReceived = and_cancel
        chat.push(b"a\\nb\\n")
        try:
            await task
        except asyncio.CancelledError:
            print("cancelled")
        del chat.dataReceived
        print(await chat.read_until(b"\\n"), await chat.read_until(b"\\n"))
    """
    assert run(body) == "cancelled\nb'A' b'B'\n"


def test_a_read_with_no_time_at_all_takes_nothing() -> None:
    body = """
    address = await listen()
    async with connect(address) as chat:
        try:
            await asyncio.wait_for(chat.read_until(b"\\n"), 0)
        except asyncio.TimeoutError:
            print("no time")
        print(await chat.read_until(b"\\n"))
    """
    assert run(body) == "no time\nb'ready'\n"


def test_a_second_task_that_awaits_the_same_read_is_told_so() -> None:
    body = """
    address = await listen()
    async with connect(address) as chat:
        read = chat.read_until(b"\\n")
        async def take():
            return await read
        answers = await asyncio.gather(take(), take(), return_exceptions=True)
        print(answers[0], "let each have one of its own" in str(answers[1]))
    """
    assert run(body) == "b'ready' True\n"


def test_a_task_cancelled_as_its_connection_is_made_leaves_none() -> None:
    body = """
    class Late(AsyncChat):
        def handle_connect(self):
            made.append(self)
            task.cancel()
    made = []
    address = await listen()
    async def connects():
        async with connect(address, Late):
            print("not reached")
    task = asyncio.ensure_future(connects())
    try:
        await task
    except asyncio.CancelledError:
        print(await made[0].closed())
    """
    assert run(body) == "handler\n"


def test_between_two_reads_of_a_task_the_callbacks_take_nothing() -> None:
    body = """
    class Lines(AsyncChat):
        def handle_connect(self):
            self.set_terminator(b"\\n")
            self.lines = []
        def collect_incoming_data(self, data):
            self._collect_incoming_data(data)
        def found_terminator(self):
            self.lines.append(self._get_data())
    address = await listen()
    async with connect(address, Lines) as chat:
        read = asyncio.ensure_future(chat.read_until(b"\\n"))
        assert await read == b"ready" and chat.lines == []
        async def two():
            chat.push(b"a\\nb\\nc\\nd\\n")
            first = await asyncio.wait_for(chat.read_until(b"\\n"), 10)
            return first, await asyncio.shield(chat.read_until(b"\\n"))
        print(await asyncio.ensure_future(two()))
        while len(chat.lines) < 2:
            await asyncio.sleep(0)
        print(chat.lines)
    """
    assert run(body) == "(b'A', b'B')\n[b'C', b'D']\n"


def test_a_coroutine_of_twisteds_may_be_begun_in_a_task() -> None:
    body = """
    address = await listen()
    async def twistedly():
        async with connect(address) as chat:
            chat.push(b"x\\nquit\\n")
            return [line async for line in chat.messages(b"\\n")]
    print(await bridged(Deferred.fromCoroutine(twistedly())))
    """
    assert run(body) == "[b'ready', b'X']\n"


def test_the_peers_end_is_an_exception_in_the_task() -> None:
    body = """
    address = await listen()
    async with connect(address) as chat:
        await chat.read_until(b"\\n")
        chat.push(b"quit\\n")
        try:
            await chat.read_exactly(1)
        except IncompleteRead as error:
            print(error)
    """
    assert run(body) == "the input ended before 1 bytes were there, after 0 bytes of it\n"


def test_nobody_listening_is_an_exception_in_the_task() -> None:
    body = """
    import socket
    from twisted.internet.error import ConnectError
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    try:
        async with connect(f"tcp:127.0.0.1:{taken.getsockname()[1]}"):
            pass
    except ConnectError as error:
        print("refused" in str(error))
    taken.close()
    """
    assert run(body) == "True\n"


def test_connecting_where_the_reactor_does_not_run_says_what_to_do() -> None:
    around = """
    async def forgot():
        async with connect("tcp:127.0.0.1:1"):
            pass
    try:
        asyncio.run(forgot())
    except RuntimeError as error:
        print(error)
    """
    assert "enter 'async with asyncio_reactor():' first" in run("pass", around)


def test_a_cancelled_task_gives_up_connecting() -> None:
    body = """
    import socket
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    address = f"tcp:127.0.0.1:{full.getsockname()[1]}"
    async def connects():
        async with connect(address) as chat:
            await chat.read()
    tasks = [asyncio.ensure_future(connects()) for _ in range(4)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    print({type(each).__name__ for each in await asyncio.gather(*tasks, return_exceptions=True)})
    full.close()
    """
    assert run(body) == "{'CancelledError'}\n"


def test_the_reactors_threads_work_and_end_with_the_block() -> None:
    body = """
    from twisted.internet.threads import deferToThread
    print(await bridged(deferToThread(lambda: "from a thread")))
    """
    assert run(body, "asyncio.run(main())\nimport threading\nprint(threading.active_count())") == (
        "from a thread\n1\n"
    )


def test_a_block_within_the_block_is_the_same_reactor() -> None:
    body = """
    async with asyncio_reactor() as same:
        print(same is reactor, same.running)
    print(reactor.running)
    """
    assert run(body) == "True True\nTrue\n"


@pytest.mark.parametrize(
    ("around", "words"),
    [
        (
            "from twisted.internet import selectreactor; selectreactor.install()\n"
            "asyncio.run(main())",
            "SelectReactor is installed: enter asyncio_reactor() before",
        ),
        ("asyncio.run(main())\nasyncio.run(main())", "a process runs it once"),
    ],
)
def test_a_reactor_that_cannot_run_there_is_named(around: str, words: str) -> None:
    around = around.replace("\nasyncio", "\n    asyncio").replace("asyncio.run", "asyncio.run", 1)
    guarded = "try:\n    " + around + "\nexcept RuntimeError as error:\n    print(error)"
    assert words in run("pass", guarded)
