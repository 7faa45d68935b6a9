"""A recorded conversation is replayed: the same calls, the same answers, or what differs."""

from __future__ import annotations

import json
import random
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import trustme
from support import until
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from txasynchat import AsyncChat, AsyncChatFactory, LegacyFactory, asynchat, asyncore
from txasynchat.replay import Difference, replay
from txasynchat.trace import TracingFactory
from txasynchat.transcript import BadTranscript

# -- A handler for each face, which notes how it is called -------------------------------


class Noting:
    """Counted messages and lines: "SAY 5", five bytes, and the answer is the five reversed."""

    calls: list[tuple[str, bytes]]
    length: int | None = None
    answer: Any = staticmethod(lambda data: data[::-1])

    def collect_incoming_data(self, data: bytes) -> None:
        self.calls.append(("collect", data))
        self.pieces.append(data)

    def found_terminator(self) -> None:
        self.calls.append(("found", b""))
        data = b"".join(self.pieces)
        self.pieces = []
        if self.length is not None:
            self.length = None
            self.set_terminator(b"\n")
            self.push(self.answer(data))
        elif data == b"QUIT":
            self.push(b"bye\n")
            self.close_when_done()
        else:
            self.length = int(data.split()[1])
            self.set_terminator(self.length)

    def handle_close(self) -> None:
        self.calls.append(("close", b""))
        super().handle_close()  # type: ignore[misc]

    pieces: list[bytes]
    set_terminator: Any
    push: Any
    close_when_done: Any


class ChatHandler(Noting, AsyncChat):
    """On AsyncChat."""

    def __init__(self, calls: list[tuple[str, bytes]]) -> None:
        self.calls = calls
        self.pieces = []
        self.set_terminator(b"\n")


class LegacyHandler(Noting, asynchat.async_chat):
    """On asynchat."""

    def __init__(self, calls: list[tuple[str, bytes]], sock: Any) -> None:
        asynchat.async_chat.__init__(self, sock)
        self.calls = calls
        self.pieces = []
        self.set_terminator(b"\n")


Calls = list[tuple[str, bytes]]
Make = Callable[[Calls], Any]

FACES: dict[str, Make] = {
    "chat": lambda calls: AsyncChatFactory(ChatHandler, calls),
    "legacy": lambda calls: LegacyFactory(lambda sock, addr: LegacyHandler(calls, sock)),
}


@pytest.fixture(params=sorted(FACES))
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a factory of handlers that note their calls in a list."""
    return FACES[request.param]


async def record(factory: Any, path: Path, talk: Callable[[Any], object]) -> None:
    """Serve a client, traced: `talk` has its socket, in a thread."""
    from twisted.internet import reactor

    def client(number: int) -> None:
        with socket.create_connection(("127.0.0.1", number), timeout=10) as connected:
            talk(connected)

    factory.noisy = False
    tracing = TracingFactory(factory, path)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(tracing)
    await deferToThread(client, port.getHost().port)
    await until(lambda: not tracing.protocols)
    await port.stopListening()
    tracing.close()


def thousand_messages(client: Any) -> None:
    """A session in which no piece is what the handler takes for a message."""
    dice = random.Random(5)
    session = bytearray()
    answers = bytearray()
    for _ in range(1000):
        body = dice.randbytes(dice.randrange(1, 60))
        session += b"SAY %d\n" % len(body) + body
        answers += body[::-1]
    session += b"QUIT\n"
    answers += b"bye\n"
    got = bytearray()
    while session:
        size = dice.randrange(1, 100)
        client.sendall(session[:size])
        del session[:size]
        client.setblocking(False)
        with suppress(BlockingIOError):
            got += client.recv(100)
        client.settimeout(10)
    while data := client.recv(65536):
        got += data
    assert got == answers


async def test_a_thousand_messages_replayed_are_the_same_calls(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    live: Calls = []
    await record(make(live), path, thousand_messages)
    assert live.count(("found", b"")) == 2001
    again: Calls = []
    assert await replay(path, make(again)) == []
    await until(lambda: not asyncore.socket_map)
    assert joined(again) == joined(live)


def joined(calls: Calls) -> Calls:
    """The calls, but what was collected in several pieces as one: a legacy channel receives two
    chunks at once where it was busy when the first one came."""
    result: Calls = []
    for name, data in calls:
        if name == "collect" and result and result[-1][0] == "collect":
            data = result.pop()[1] + data
        result.append((name, data))
    return result


# -- What differs is found -----------------------------------------------------------------


def lines(*events: Any) -> list[str]:
    """A transcript of one connection: its events, or pairs of "in" or "out" and bytes."""
    records = [{"time": 1.0, "connection": 1, "event": "open", "peer": "192.0.2.1:4711"}]
    for each in events:
        event, data = each if isinstance(each, tuple) else (each, None)
        entry: dict[str, Any] = {"time": 1.0, "connection": 1, "event": event}
        if data is not None:
            entry["data"] = data.decode("latin-1")
        if event == "close":
            entry["reason"] = "ConnectionDone"
        records.append(entry)
    return [json.dumps(entry) for entry in records]


SESSION = lines(
    ("in", b"SAY 3\nabc"),
    ("out", b"cba"),
    ("in", b"SAY 3\nxyzQUIT\n"),
    ("out", b"zyxb"),
    ("out", b"ye\n"),
    "lose",
    "close",
)


async def replayed(make: Make, transcript: list[str], timeout: float = 10.0) -> list[Difference]:
    found = await replay(transcript, make([]), timeout=timeout)
    await until(lambda: not asyncore.socket_map)
    return found


async def test_answers_may_be_cut_in_other_places(make: Make) -> None:
    assert await replayed(make, SESSION) == []


async def test_a_changed_answer_is_reported_with_its_line(make: Make) -> None:
    changed = [each.replace("zyxb", "zyxc") for each in SESSION]
    (found,) = await replayed(make, changed)
    assert (found.line, found.connection) == (5, 1)
    assert found.expected == "b'cbazyxcye\\n'"
    assert found.got.startswith("b'cbazyxb")


async def test_an_answer_that_does_not_come_is_reported(make: Make) -> None:
    transcript = lines(("in", b"SAY 3\nab"), ("out", b"cba"), ("in", b"c"), "close")
    (found,) = await replayed(make, transcript, 0.2)
    assert found == Difference(3, 1, "b'cba'", "nothing within 0.2 s")


async def test_an_answer_too_many_is_reported(make: Make) -> None:
    transcript = lines(("in", b"SAY 3\nabc"), "close")
    (found,) = await replayed(make, transcript)
    assert found == Difference(3, 1, "no output", "b'cba'")


async def test_a_close_that_does_not_come_is_reported(make: Make) -> None:
    transcript = lines(("in", b"SAY 3\nabc"), ("out", b"cba"), "lose", "close")
    (found,) = await replayed(make, transcript, 0.2)
    assert found == Difference(4, 1, "that it closed the connection", "nothing within 0.2 s")


async def test_a_close_that_was_not_recorded_is_reported(make: Make) -> None:
    transcript = lines(("in", b"QUIT\n"), ("out", b"bye\n"), ("in", b"SAY 3\nabc"), "close")
    (found,) = await replayed(make, transcript)
    assert found.line == 4
    assert "closed the connection" in found.got


async def test_a_close_instead_of_the_peers_is_reported(make: Make) -> None:
    transcript = lines(("in", b"QUIT\n"), ("out", b"bye\n"), "close")
    (found,) = await replayed(make, transcript)
    assert found == Difference(4, 1, "that the peer ends it", "that it closed the connection")


async def test_a_close_that_comes_too_early_is_reported(make: Make) -> None:
    transcript = lines(("in", b"QUIT\n"), ("out", b"bye\nmore"), "lose", "close")
    (found,) = await replayed(make, transcript)
    assert found == Difference(
        3, 1, "b'bye\\nmore'", "nothing after b'bye\\n': it closed the connection"
    )


async def test_the_end_of_the_peer_is_replayed(make: Make) -> None:
    calls: Calls = []
    transcript = lines(("in", b"SAY 3\nab"), "eof", "lose", "close")
    assert await replay(transcript, make(calls)) == []
    assert calls == [("collect", b"SAY 3"), ("found", b""), ("collect", b"ab"), ("close", b"")]


async def test_both_may_end_at_once(make: Make) -> None:
    transcript = lines(("in", b"QUIT\n"), "eof", ("out", b"bye\n"), "lose", "close")
    assert await replayed(make, transcript) == []


async def test_an_end_of_ours_beside_the_peers_must_have_been_recorded(make: Make) -> None:
    transcript = lines(("in", b"QUIT\n"), ("out", b"bye\n"), "eof", "close")
    (found,) = await replayed(make, transcript)
    assert found == Difference(5, 1, "that the peer ends it", "that it closed the connection")


async def test_what_was_masked_in_an_answer_may_be_anything(make: Make) -> None:
    transcript = lines(("in", b"SAY 3\nabc"), ("out", b"c**"), "close")
    transcript[2] = transcript[2].replace("}", ', "masked": true}')
    assert await replayed(make, transcript) == []
    transcript[2] = transcript[2].replace("c**", "d**")
    (found,) = await replayed(make, transcript)
    assert found.line == 3


async def test_a_transcript_without_an_end_is_replayed_as_far_as_it_goes(make: Make) -> None:
    transcript = [*lines(("in", b"SAY 3\nabc")), '{"time": 1.0, "connec']
    assert await replayed(make, transcript) == []


# -- How it is fed ---------------------------------------------------------------------


class Slow(AsyncChat):
    """Takes its time for each answer, and longer for the first."""

    def handle_connect(self) -> None:
        self.set_terminator(b"\n")
        self.seconds = 0.05

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    async def found_terminator(self) -> None:
        from twisted.internet import reactor

        await deferLater(reactor, self.seconds)
        self.seconds = 0
        self.push(self._get_data() + b"!")


async def test_answers_are_waited_for() -> None:
    transcript = lines(
        ("in", b"a\nb\n"), ("in", b"c\n"), ("out", b"a!b!"), ("out", b"c!"), "eof", "lose", "close"
    )
    assert await replay(transcript, Factory.forProtocol(Slow)) == []


class Room(AsyncChat):
    """Tells everybody what anybody says."""

    def handle_connect(self) -> None:
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        room: Any = self.factory
        room.broadcast(self._get_data() + b"\n")


async def test_connections_that_have_to_do_with_each_other_are_replayed_together() -> None:
    file = StringIO()
    tracing = TracingFactory(AsyncChatFactory(Room), file)
    from twisted.internet.testing import StringTransport

    ann, bob = (tracing.buildProtocol(None) for _ in range(2))
    ann.makeConnection(StringTransport())
    bob.makeConnection(StringTransport())
    ann.dataReceived(b"hello\n")
    bob.dataReceived(b"ho\n")
    transcript = file.getvalue().splitlines()
    assert await replay(transcript, AsyncChatFactory(Room)) == []
    (found,) = await replay(transcript, AsyncChatFactory(Room), connection=2, timeout=0.1)
    assert found.expected == "b'hello\\nho\\n'"
    for each in (ann, bob):
        each.wrappedProtocol.setTimeout(None)


async def test_the_handler_sees_the_addresses_that_were_recorded() -> None:
    class Who(Protocol):
        def connectionMade(self) -> None:
            peer, host = self.transport.getPeer(), self.transport.getHost()  # type: ignore[union-attr]
            seen.append((peer, host))

    from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

    seen: list[Any] = []
    ends = [
        ("192.0.2.1:4711", IPv4Address("TCP", "192.0.2.1", 4711)),
        ("[::1]:25", IPv6Address("TCP", "::1", 25)),
        ("unix:/run/chat", UNIXAddress(b"/run/chat")),
        ("unix", UNIXAddress(None)),
        ("nobody", None),
    ]
    for words, _address in ends:
        opening = {"time": 1, "connection": 1, "event": "open", "peer": words, "host": words}
        assert await replay([json.dumps(opening)], Factory.forProtocol(Who)) == []
    assert seen == [(address, address) for _words, address in ends]


async def test_what_the_handler_says_first_is_waited_for() -> None:
    class Greeting(Slow):
        async def handle_connect(self) -> None:  # type: ignore[override]
            super().handle_connect()
            await self.found_terminator()

    transcript = lines(("out", b"!"), ("in", b"a\n"), ("out", b"a!"), "close")
    assert await replay(transcript, Factory.forProtocol(Greeting)) == []
    (found,) = await replay(transcript, Factory.forProtocol(Slow), timeout=0.1)
    assert found.line == 2


async def test_the_end_of_a_service_is_not_asked_of_the_handler(make: Make) -> None:
    transcript = lines(("in", b"SAY 3\nabc"), ("out", b"cba"), "lose", "close")
    transcript[-1] = transcript[-1].replace("}", ', "close_reason": "drain"}')
    assert await replayed(make, transcript) == []


class Server(asyncore.dispatcher):
    """A legacy server, which is fed by an endpoint."""

    def handle_accepted(self, sock: Any, addr: Any) -> None:
        LegacyHandler([], sock)


async def test_a_legacy_server_is_replayed_too() -> None:
    server = Server()
    try:
        assert await replay(SESSION, LegacyFactory.for_server(server)) == []
    finally:
        server.close()


async def test_a_handler_that_raises_is_an_end_of_the_connection(
    logged_failures: Callable[[], Any],
) -> None:
    class Raising(Protocol):
        def dataReceived(self, data: bytes) -> None:
            raise RuntimeError("a bug")

    transcript = lines(("in", b"a"), ("out", b"b"), "close")
    (found,) = await replay(transcript, Factory.forProtocol(Raising))
    assert found == Difference(3, 1, "b'b'", "nothing: it raised RuntimeError: a bug")
    assert len(logged_failures()) == 1


async def test_a_factory_that_refuses_is_a_difference() -> None:
    factory = AsyncChatFactory(Slow, max_connections=0)
    (found,) = await replay(lines("close"), factory)
    assert found == Difference(1, 1, "a connection", "none: the factory refused it")


class Upgrading(AsyncChat):
    """Starts TLS when it is told to."""

    context: Any = None

    def handle_connect(self) -> None:
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        line = self._get_data()
        self.push(line.lower() + b"\n")
        if line == b"STARTTLS":
            self.start_tls(self.context)


async def test_a_session_that_went_over_to_tls_is_replayed(
    tmp_path: Path, authority: trustme.CA
) -> None:
    def talk(client: Any) -> None:
        client.sendall(b"STARTTLS\n")
        assert client.recv(100) == b"starttls\n"
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        with trusting.wrap_socket(client, server_hostname="127.0.0.1") as wrapped:
            wrapped.sendall(b"HELLO\n")
            assert wrapped.recv(100) == b"hello\n"

    class Upgraded(Upgrading):
        pem = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes()
        context = PrivateCertificate.loadPEM(pem).options()

    path = tmp_path / "trace.jsonl"
    await record(Factory.forProtocol(Upgraded), path, talk)
    assert await replay(path, Factory.forProtocol(Upgraded)) == []


async def test_tls_that_does_not_start_is_reported() -> None:
    transcript = lines(("in", b"go on\n"), ("out", b"go on\n"), "tls", "handshake", "close")
    (found,) = await replay(transcript, Factory.forProtocol(Upgrading), timeout=0.2)
    assert found == Difference(4, 1, "that it starts TLS", "nothing within 0.2 s")


# -- What can't be replayed ------------------------------------------------------------


@pytest.mark.parametrize(
    ("transcript", "words"),
    [
        ([], "there is no record in it"),
        (["hello"], "line 1 is no record of a trace"),
        (['{"time": 1.0}'], "line 1 is no record of a trace"),
        (['{"time": 1.0, "connection": 1, "event": "in", "data": "\\u20ac"}'], "line 1 is no"),
    ],
)
async def test_what_is_no_transcript_is_refused(transcript: list[str], words: str) -> None:
    with pytest.raises(BadTranscript, match=words):
        await replay(transcript, Factory.forProtocol(Protocol))


async def test_a_connection_that_is_not_in_it_is_refused() -> None:
    with pytest.raises(BadTranscript, match="there is no connection 7 in it"):
        await replay(SESSION, Factory.forProtocol(Protocol), connection=7)


async def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    waiting: Deferred[Any] = replay(tmp_path / "missing", Factory.forProtocol(Protocol))
    with pytest.raises(FileNotFoundError):
        await waiting
