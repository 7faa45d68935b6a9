"""Handlers that the rest of the suite, the examples and the pages use: none breaks a rule.

Where one breaks a rule on purpose the reason stands with it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from serving import HANDLERS
from support import Chat

import txasynchat
from txasynchat import LegacyFactory
from txasynchat.echo import EchoHandler

ROOT = Path(__file__).parents[2]

_loaded: dict[str, ModuleType] = {}


def module(path: str) -> Any:
    """A module of the tree, by its path."""
    if path not in _loaded:
        txasynchat.install()  # programs import the old names
        try:
            name = "checked_" + re.sub(r"\W", "_", path)
            spec = spec_from_file_location(name, ROOT / path)
            assert spec is not None
            assert spec.loader is not None
            made = sys.modules[name] = module_from_spec(spec)
            spec.loader.exec_module(made)
            _loaded[path] = made
        finally:
            txasynchat.uninstall()
    return _loaded[path]


def program(path: str, name: str) -> Any:
    """What is defined in a module that is the value of a str in another."""
    return from_source(path, getattr(module(path), name))


def from_source(name: str, source: str) -> Any:
    """A module of that source."""
    made = ModuleType("checked_" + re.sub(r"\W", "_", name))
    txasynchat.install()
    try:
        exec(compile(source, name, "exec"), vars(made))
    finally:
        txasynchat.uninstall()
    return made


def page(path: str, name: str) -> Any:
    """A handler that a page shows."""
    for block in re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL):
        if re.search(rf"^class {name}\b", block, re.MULTILINE) and ">>> " not in block:
            return getattr(from_source(path, block), name)
    raise LookupError(name)


@dataclass
class Correct:
    """A handler, what its peers say, and what the kit has to know besides."""

    name: str
    factory: Callable[[], Any]  # makes what is given to the kit
    samples: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def all_correct() -> Iterator[Correct]:
    """All of them."""
    yield from _examples()
    yield from _pages()
    yield from _chats()
    yield from _legacy()
    yield from _programs()


LINES = (b"one\ntwo words\nquit\n",)
ECHO = (b"ECHO 5\nhello", b"ECHO 5\nhel")
MAIL = [
    b"EHLO x\r\n",
    b"STARTTLS\r\n",
    b"EHLO x\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n",
    b"hello\r\n.\r\n",
    b"QUIT\r\n",
]


def _examples() -> Iterator[Correct]:
    yield Correct("example-echo", lambda: EchoHandler, ECHO)
    yield Correct(
        "example-async-handler",
        lambda: module("examples/async_handler.py").Worker,
        (b"sleep 0.5\ncount 3\nnonsense\nquit\n", b"sleep 0.5\nsleep 1\ncount 2\n"),
        {"seconds": 2},
    )
    yield Correct(
        "example-chat-room",
        lambda: module("examples/chat_room.py").Room,
        (b"ann\r\nhi\r\n\r\nQUIT\r\n", b"???\nann\nhi\n"),
    )
    yield Correct(
        "example-http-server",
        lambda: module("examples/http_server.py").HTTPHandler,
        (
            b"GET /there HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
            b"nonsense\r\n\r\nand more of it",
            b"GET / HT",
        ),
    )
    yield Correct(
        "example-json-lines",
        lambda: module("examples/json_lines.py").JSONLines,
        (b'{"add": [1, 2]}\n{"echo": "x"}\nnonsense\n',),
        {"skip": {"endless-message": "whoever writes to its standard input has started it"}},
    )
    yield Correct("example-file-transfer", _store, (b"GET file\nGET nothing\nnonsense\n",))
    yield Correct("example-pipelined-client", _asking, (b"one\ntwo\n",))
    # Not examples/proxy.py: each of its connections makes another, over the network.
    yield Correct(
        "example-mud-legacy",
        lambda: lambda: module("examples/migration/mud_legacy.py").MudServer(port=0),
        (b"ann\r\nlook\r\nsay hi\r\nquit\r\n",),
    )
    yield Correct(
        "example-mud",
        lambda: module("examples/migration/mud_asyncchat.py").Mud,
        (b"ann\r\nlook\r\nsay hi\r\nquit\r\n", b"ann\nwrite\nhello\n.\nread\n"),
        {"skip": {"queues": "its notes hang on the board for ever"}},
    )
    yield Correct("example-starttls-server", _mail_drop, (MAIL, b"EHLO x\r\nNOOP\r\nQUIT\r\n"))


def _store() -> Any:
    store = module("examples/file_transfer.py").Store

    class Filled(store):  # type: ignore[misc, valid-type]
        """With a folder of one file."""

        def __init__(self) -> None:
            super().__init__(ROOT / "tests" / "nothing_here")

        def path_of(self, name: str) -> Path:
            path: Path = super().path_of(name)
            return ROOT / "LICENSE" if name == "file" else path

    return Filled


def _asking() -> Any:
    client = module("examples/pipelined_client.py").Client

    class Asking(client):  # type: ignore[misc, valid-type]
        """Asks twice, and keeps the answers."""

        def handle_connect(self) -> None:
            super().handle_connect()
            for question in (b"1", b"2"):
                self.ask(question, 60).addErrback(lambda _: None)

        def found_terminator(self) -> None:
            if self.asked:
                super().found_terminator()
            else:
                self._get_data()

    return Asking


def _mail_drop() -> Any:
    starttls_server = module("examples/starttls_server.py")
    context = starttls_server.context_from(None)
    return lambda: starttls_server.MailDrop(context)


def _pages() -> Iterator[Correct]:
    yield Correct("readme", lambda: page("README.md", "Upper"), LINES)
    yield Correct("getting-started", lambda: page("docs/getting-started.md", "Greeter"), LINES)
    yield Correct("operations", lambda: page("docs/operations.md", "Greeter"), LINES)


RECORDS = {"queues": "it records for a test", "endless-message": "it records for a test"}


def _chats() -> Iterator[Correct]:
    yield Correct("support", lambda: Chat, (b"one\ntwo\n",), {"skip": RECORDS})
    for name in ("Lines", "Answers", "Frames"):
        yield Correct(
            f"calls-per-message-{name}",
            lambda name=name: getattr(  # type: ignore[misc]
                module("tests/protocol/test_calls_per_message.py"), name
            ),
            (b"0005hello0003abc", b"one\r\ntwo\r\n"),
        )
    yield Correct(
        "sending-at-once", lambda: module("tests/protocol/test_sending_at_once.py").Echo, LINES
    )
    yield Correct("serving", lambda: from_source("serving", HANDLERS).Upper, LINES)
    yield Correct(
        "memory-server",
        lambda: module("tests/reactor/memory_server.py").Server,
        (b"one\ntwo\n", b"one\nFILL 2\n"),
    )
    yield Correct("listening", lambda: module("tests/reactor/test_listening.py").Upper, LINES)
    yield Correct(
        "replay",
        _replayed("ChatHandler"),
        (b"SAY 5\nhelloSAY 1\nxQUIT\n", b"SAY 5\nhe"),
        {"skip": RECORDS},
    )
    yield Correct("security", lambda: _security().Chat, LINES)


def _replayed(name: str) -> Callable[[], Any]:
    def make() -> Any:
        replays = module("tests/reactor/test_replay.py")
        if name == "ChatHandler":
            return lambda: replays.ChatHandler([])
        return lambda: LegacyFactory(lambda sock, addr: replays.LegacyHandler([], sock))

    return make


def _security() -> Any:
    source = (ROOT / "tests/packaging/test_security.py").read_text()
    found = re.search(r'"""\n((?:(?!""").)*class SecureLegacy.*?)"""', source, re.DOTALL)
    assert found is not None
    return from_source("security", found[1].replace("\\\\n", "\\n"))


def _legacy() -> Iterator[Correct]:
    factories = "tests/legacy/test_legacy_factory.py"
    yield Correct("legacy-counted", lambda: module(factories).Counted, ECHO)
    yield Correct("legacy-who", lambda: module(factories).Who, (b"hello",))
    for name in ("Server", "OldServer", "GreedyServer", "ServerWithoutSocket"):
        yield Correct(
            f"legacy-{name}",
            lambda name=name: getattr(module(factories), name),  # type: ignore[misc]
            ECHO,
        )
    yield Correct("legacy-serving", lambda: from_source("serving", HANDLERS).OldUpper, LINES)
    for name in (
        "Upper",
        "UpperOfSocket",
        "UpperOfSocketAndMap",
        "UpperWithDefaults",
        "Plain",
        "Server",
        "OldServer",
    ):
        yield Correct(
            f"twistd-legacy-{name}",
            lambda name=name: getattr(  # type: ignore[misc]
                program("tests/legacy/test_twistd_legacy.py", "PROGRAM"), name
            ),
            LINES if name != "Plain" else (b"hello",),
            {"skip": {"queues": "the example of a plain dispatcher has no limit"}}
            if name == "Plain"
            else {},
        )
    yield Correct("legacy-security", lambda: _security().Legacy, LINES)
    yield Correct(
        "legacy-replay", _replayed("LegacyHandler"), (b"SAY 5\nhelloQUIT\n",), {"skip": RECORDS}
    )
    yield Correct(
        "legacy-traced",
        lambda: module("tests/reactor/test_trace_over_sockets.py").Shouting,
        LINES,
    )
    yield Correct("legacy-mail", _mail, ([*MAIL[:2], b"QUIT\r\n"], b"EHLO x\r\nNOOP\r\nQUIT\r\n"))


def _mail() -> Any:
    from twisted.internet.ssl import PrivateCertificate

    starttls_server = module("examples/starttls_server.py")
    mail = module("tests/legacy/test_legacy_start_tls.py").Mail
    mail.options = PrivateCertificate.loadPEM(starttls_server.own_certificate()).options()
    return mail


def _programs() -> Iterator[Correct]:
    folder = "tests/legacy/programs/"
    yield Correct(
        "program-reference",
        lambda: module(folder + "reference_conversation.py").EchoHandler,
        (b"ECHO 5\nhello", b"ECHO 5\nhel"),
    )
    yield Correct(
        "program-parser",
        lambda: module(folder + "idiom_10_parser_state.py").NetstringLike,
        (b"5\r\nhello3\r\nabc", b"RAW\r\nanything"),
        {"skip": dict.fromkeys(("endless-message", "queues"), "it keeps what comes after RAW")},
    )
    yield Correct(
        "program-no-base-init",
        lambda: LegacyFactory(
            lambda sock, addr: module(folder + "idiom_11_no_base_init.py").Echo(sock, {})
        ),
        (b"hello",),
        {"skip": {"queues": "the program of its time has no limit"}},
    )
    yield Correct(
        "program-any-attribute",
        lambda: module(folder + "idiom_19_socket_methods_forwarded.py").Handler,
        LINES,
    )
