"""``python -m txasynchat check``: what is found in a program, and what is not."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import Command, block, commands

import txasynchat
from txasynchat import asynchat, asyncore
from txasynchat.check import KINDS, Surroundings, check, findings_in
from txasynchat.uses import GONE, RULES, STAR, Finding

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "legacy" / "programs"


def found(source: str) -> list[tuple[int, str, str]]:
    """Line, rule and words of what is found in a source."""
    return [(x.line, x.rule, x.what) for x in findings_in("it.py", source.encode())]


def rules(source: str) -> set[str]:
    return {rule for _, rule, _ in found(source)}


def wanting(source: str) -> list[tuple[int, str]]:
    """Line and rule of what is more than a use that works."""
    every = findings_in("it.py", source.encode())
    return [(x.line, x.rule) for x in every if x.kind not in ("works", "note")]


def command(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "txasynchat", "check", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, source: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return path

    return write


# -- The idioms of programs, as docs/migrating.md lists them ---------------------------

CHAT = "import asynchat, asyncore\nclass Chat(asynchat.async_chat):\n"

IDIOMS = {
    1: ("import asyncore\ntry:\n    asyncore.loop()\nexcept KeyboardInterrupt:\n    pass", "works"),
    2: ("import asyncore\nwhile True:\n    asyncore.loop(timeout=0.1, count=1)", "works"),
    3: (
        "import asyncore\nfrom asyncore import socket_map\n"
        "while asyncore.socket_map:\n    asyncore.poll(0.1)\n    len(socket_map)",
        "works",
    ),
    4: (
        "import asyncore, threading\nthreading.Thread(target=asyncore.loop).start()",
        "works",
    ),
    5: (
        "import asyncore\nmine = {}\nasyncore.dispatcher(map=mine)\nasyncore.loop(map=mine)",
        "works",
    ),
    6: (
        "import asynchat, asyncore\n"
        "class Pipe(asynchat.async_chat, asyncore.file_dispatcher): pass",
        "works",
    ),
    7: (
        "import asyncore, os\nclass Trigger(asyncore.file_dispatcher):\n"
        "    def pull(self): os.write(self.fd, b'x')",
        "works",
    ),
    8: (f"{CHAT}    ac_in_buffer_size = ac_out_buffer_size = 512", "works"),
    9: (
        f"{CHAT}    def __init__(self):\n        self.producer_fifo = asynchat.fifo()\n"
        "        self.producer_fifo.append(None)",
        "works",
    ),
    10: (f"{CHAT}    def look(self): return self.ac_in_buffer, self.get_terminator()", "works"),
    11: (
        f"{CHAT}    def __init__(self, sock): self.socket, self._map = sock, asyncore.socket_map",
        "works",
    ),
    12: (
        f"import ssl\n{CHAT}    def handle_connect(self):\n"
        "        self.ssl = ssl.wrap_socket(self.socket)",
        "install",
    ),
    13: (f"{CHAT}    def recv(self, size): return asynchat.async_chat.recv(self, size)", "works"),
    14: (f"import time\n{CHAT}    def readable(self): return time.time() % 2 > 1", "works"),
    15: ("import asyncore\nasyncore.close_all(ignore_all=True)\nraise asyncore.ExitNow", "works"),
    16: (
        f"import socket\n{CHAT}    def go(self):\n"
        "        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)\n"
        "        self.connect(('localhost', 25))\n    def handle_connect(self): self.push(b'hi')",
        "works",
    ),
    17: (
        "import smtpd\nclass Server(smtpd.SMTPServer):\n"
        "    def process_message(self, *args, **more): pass",
        "install",
    ),
    18: (
        "import asyncore, threading\nclass New(asyncore.dispatcher): pass\n"
        "threading.Thread(target=New).start()\nasyncore.loop()",
        "works",
    ),
    19: (f"{CHAT}    def who(self): return self.getpeername()", "works"),
    20: (f"{CHAT}    transport = server = data = state = None", "works"),
    21: (
        f"import threading\n{CHAT}    pass\nchat = Chat()\n"
        "threading.Thread(target=asyncore.loop).start()\nchat.push(b'line')",
        "works",
    ),
    22: (
        "import asyncore, threading\n"
        "thread = threading.Thread(target=asyncore.loop, kwargs={'timeout': 1, 'use_poll': True})\n"
        "server = asyncore.dispatcher()\nthread.start()\nserver.close()\nthread.join()",
        "works",
    ),
}


@pytest.mark.parametrize("number", IDIOMS)
def test_each_idiom_works_as_it_is_or_through_install(number: int) -> None:
    source, kind = IDIOMS[number]
    kinds = {finding.kind for finding in findings_in("it.py", source.encode())}
    assert kinds - {"works"} == {kind} - {"works"}
    assert kinds


def test_every_idiom_of_the_page_is_judged() -> None:
    page = (ROOT / "docs" / "migrating.md").read_text()
    table = page.split("| Instead of |")[1].split("\n\n")[0]
    assert len(table.splitlines()) - 2 == len(IDIOMS)


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.py")), ids=lambda path: path.stem)
def test_a_program_that_is_known_to_run_wants_no_change(path: Path) -> None:
    # tests/legacy runs each of them, unmodified.
    findings = findings_in(path.name, path.read_bytes())
    assert findings
    assert {"change", "error"}.isdisjoint(finding.kind for finding in findings)


# -- Uses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import asyncore", [(1, "import", "import asyncore")]),
        (
            "import asyncore, os, asynchat as ac\nac.fifo()",
            [
                (1, "import", "import asynchat as ac"),
                (1, "import", "import asyncore"),
                (2, "use", "asynchat.fifo"),
            ],
        ),
        (
            "from asyncore import (\n    dispatcher,\n    loop as run,\n)\nrun(count=1)",
            [
                (2, "import", "from asyncore import dispatcher"),
                (3, "import", "from asyncore import loop as run"),
                (5, "use", "asyncore.loop"),
            ],
        ),
        (
            "def serve():\n    try:\n        import asyncore\n    except ImportError:\n"
            "        asyncore = None\n    asyncore.loop()",
            [
                (3, "import", "import asyncore"),
                (5, "use", "asyncore"),
                (6, "use", "asyncore.loop"),
            ],
        ),
        (
            "import asyncore\nclass A(asyncore.dispatcher):\n    pass\nclass B(A):\n    pass",
            [
                (1, "import", "import asyncore"),
                (2, "subclass", "class A derives from asyncore.dispatcher"),
            ],
        ),
        (
            "import asyncore\nclass S:\n    asyncore = asyncore\n    def run(self):\n"
            "        self.asyncore.loop()",
            [
                (1, "import", "import asyncore"),
                (3, "use", "asyncore"),
                (5, "use", "asyncore.loop"),
            ],
        ),
        (
            "import asyncore\ndef f() -> 'asyncore.dispatcher': ...",
            [(1, "import", "import asyncore"), (2, "use", "asyncore")],
        ),
        (
            "import asynchat\nBase = asynchat.async_chat\nclass A(Base): pass",
            [
                (1, "import", "import asynchat"),
                (2, "use", "asynchat.async_chat"),
                (3, "subclass", "class A derives from asynchat.async_chat"),
            ],
        ),
        (
            "from asyncore import *\nloop()",
            [(1, "import", "from asyncore import *"), (2, "use", "asyncore.loop")],
        ),
        (
            "import txasynchat\ntxasynchat.install()\nimport asyncore",
            [(2, "installed", "txasynchat.install"), (3, "import", "import asyncore")],
        ),
        (
            "from txasynchat import asyncore\nfrom txasynchat.asynchat import async_chat as base\n"
            "asyncore.loop()\nclass A(base): pass",
            [
                (1, "migrated", "from txasynchat import asyncore"),
                (2, "migrated", "from txasynchat.asynchat import async_chat as base"),
                (3, "use", "asyncore.loop"),
                (4, "subclass", "class A derives from asynchat.async_chat"),
            ],
        ),
    ],
)
def test_a_use_is_found_under_the_name_that_it_goes_by(
    source: str, expected: list[tuple[int, str, str]]
) -> None:
    assert found(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "# import asyncore",
        '"""import asyncore"""',
        "def f():\n    '''asyncore.loop() is called here.'''",
        "import logging\nlogging.getLogger('smtpd').info('smtpd started')",
        "def f(asyncore):\n    asyncore.loop()",
        "asyncore = object()\nasyncore.loop()",
        "self.smtpd = None\nself.smtpd.close()",
        "f(asyncore=1)",
        "from pysnmp.carrier.asyncore.dgram import udp\nudp.Transport()",
        "import my_asyncore, asyncorelib",
        "import asyncio\nasyncio.run(f())",
        "import ssl\nssl.wrap_socket(s)",  # of a program that has nothing to do with asyncore
    ],
)
def test_what_is_no_use_is_not_in_the_report(source: str) -> None:
    assert found(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "from . import asyncore\nasyncore.loop()",
        "from supervisor.medusa import asyncore_25 as asyncore\nasyncore.loop()",
        "import supervisor.medusa.asynchat_25 as asynchat\nasynchat.async_chat()",
        "from vendored.asyncore import loop\nloop()",
        "from six.moves import asyncore",
    ],
)
def test_a_copy_in_another_package_is_noted_and_not_looked_into(source: str) -> None:
    assert [(line, rule) for line, rule, _ in found(source)] == [(1, "copy")]


@pytest.mark.parametrize(
    "source",
    [
        "import importlib\nimportlib.import_module('asyncore')",
        "import sys\n__import__('asynchat')",
        "import sys\nsys.modules['asyncore'] = None",
        "import sys\n'asyncore' in sys.modules",
        "import sys\nsys.modules.pop('asyncore', None)",
        "import mock\nmock.patch('asyncore.loop')",
        "import mock\nmock.patch.dict('sys.modules', {'asyncore': None})",
        "def test_it(monkeypatch):\n    monkeypatch.setattr('asyncore.loop', print)",
        "import pytest\npytest.importorskip('smtpd')",
    ],
)
def test_a_string_that_finds_a_module_works_through_install_only(source: str) -> None:
    assert wanting(source) == [(2, "by-name")]


@pytest.mark.parametrize(
    "source",
    [
        "names = ['asyncore']",
        "code = '''\nimport asyncore\n'''",
        "run('asynchat.async_chat')",
        "import asyncore\nsetattr(asyncore, 'smtpd', 1)",
    ],
)
def test_any_other_string_that_names_a_module_is_noted(source: str) -> None:
    assert "mention" in rules(source)
    assert wanting(source) == []


def test_smtpd_needs_its_own_package_and_install() -> None:
    source = "import smtpd, asyncore\nsmtpd.DebuggingServer(('', 25), None)\nasyncore.loop()"
    assert wanting(source) == [(1, "smtpd"), (2, "smtpd")]
    first, *_ = [x for x in findings_in("it.py", source.encode()) if x.rule == "smtpd"]
    assert "pip install standard-smtpd" in str(first)
    assert str(first).endswith("(docs/migrating.md#programs-that-need-smtpd)")


def test_a_library_that_stands_on_the_modules_works_through_install() -> None:
    assert wanting("from PodSixNet.Connection import connection") == [(1, "library")]


def test_a_library_is_not_told_to_install_for_itself(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("medusa/__init__.py", "")
    file("medusa/server.py", "from medusa import part\nimport asyncore")
    assert not check([str(tmp_path)]).of_rules("library")


# -- What wants a change is what the drop-in refuses --------------------------------


def served(kind: Any) -> None:
    """Have a channel of that kind get a line, in one round of the loop."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"hello\n")
        channel = kind(ours)
        try:
            asyncore.loop(timeout=5, count=1)
        finally:
            channel.close()


BASE = """
import asyncore, asynchat
class Base(asynchat.async_chat):
    {attributes}
    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator({terminator})
        {begin}
    def collect_incoming_data(self, data):
        {collect}
    def found_terminator(self):
        {end}
    def handle_error(self):
        raise
"""


def handler(
    attributes: str = "debug = 0",
    terminator: str = 'b"\\n"',
    begin: str = "pass",
    collect: str = "pass",
    end: str = "pass",
) -> str:
    """A program with a handler that gets one line."""
    head = BASE.format(
        attributes=attributes, terminator=terminator, begin=begin, collect=collect, end=end
    )
    return f"{head}\nserved(Base)\n"


WRONG_AND_RIGHT: list[tuple[str, type[Exception], str, str]] = [
    ("text-sent", TypeError, handler(end='self.push("x")'), handler(end='self.push(b"x")')),
    (
        "text-sent",
        TypeError,
        handler(end='self.push("%d\\r\\n" % 1)'),
        handler(end='self.push(("%d\\r\\n" % 1).encode())'),
    ),
    (
        "text-sent",
        TypeError,
        handler(end='asynchat.async_chat.push(self, f"{1}" + "x")'),
        handler(end='asynchat.async_chat.push(self, b"x" + b"x")'),
    ),
    (
        "text-sent",
        TypeError,
        handler(attributes="use_encoding = 1", end="super().push(str(1))"),
        handler(attributes="use_encoding = 1", end="super().push(str(1).encode())"),
    ),
    ("text-sent", TypeError, handler(end='self.send("x")'), handler(end='self.send(b"x")')),
    (
        "text-terminator",
        TypeError,
        handler(terminator='"\\n"'),
        handler(terminator='"\\n"', attributes="use_encoding = 1"),
    ),
    (
        "text-terminator",
        TypeError,
        "END = '\\n'" + handler(terminator="END"),
        "END = b'\\n'" + handler(terminator="END"),
    ),
    (
        "text-terminator",
        TypeError,
        handler(begin='self.terminator = "\\n"'),
        handler(begin='self.terminator = b"\\n"'),
    ),
    (
        "text-collected",
        TypeError,
        handler(attributes='line = ""', collect="self.line += data"),
        handler(attributes='line = b""', collect="self.line += data"),
    ),
    (
        "text-collected",
        TypeError,
        handler(begin='self.line = ""', collect="self.line = self.line + data"),
        handler(begin='self.line = b""', collect="self.line = self.line + data"),
    ),
    (
        "text-collected",
        TypeError,
        handler(
            begin='self.line = ""',
            collect="self.line = self.line + data",
            end='line, self.line = self.line, ""',
        ),
        handler(
            begin='self.line = b""',
            collect="self.line = self.line + data",
            end='line, self.line = self.line, b""',
        ),
    ),
    (
        "text-collected",
        TypeError,
        handler(begin="self.all = []", collect="self.all.append(data)", end='"".join(self.all)'),
        handler(begin="self.all = []", collect="self.all.append(data)", end='b"".join(self.all)'),
    ),
    (
        "negative-terminator",
        ValueError,
        handler(end="self.set_terminator(-1)"),
        handler(end="self.set_terminator(None)"),
    ),
    ("gone", AttributeError, "import asyncore\nasyncore.fcntl", "import fcntl, asyncore"),
    ("gone", ImportError, "from asynchat import socket", "import asynchat, socket"),
    (
        "gone",
        AttributeError,
        "import asyncore\nasyncore.dispatcher.__getattr__(1, 'x')",
        "import asyncore",
    ),
    (
        "star",
        NameError,
        "from asyncore import *\nsocket.socket().close()",
        "from asyncore import *\nimport socket\nsocket.socket().close()",
    ),
    (
        "rebound",
        AssertionError,
        "import asyncore, types\nold, waits = asyncore.select, []\n"
        "asyncore.select = types.SimpleNamespace(select=lambda *how: waits.append(how))\n"
        "try:\n    served(asyncore.dispatcher)\nfinally:\n    asyncore.select = old\n"
        "assert waits, 'nothing has called it'\n",
        "import asyncore\nold, waits = asyncore.poll, []\n"
        "asyncore.poll = lambda timeout, map: waits.append(timeout)\n"
        "try:\n    served(asyncore.dispatcher)\nfinally:\n    asyncore.poll = old\n"
        "assert waits == [5]\n",
    ),
]


@pytest.fixture
def installed() -> Iterator[None]:
    txasynchat.install()
    yield
    txasynchat.uninstall()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("rule", "error", "wrong", "right"),
    WRONG_AND_RIGHT,
    ids=[f"{number}-{case[0]}" for number, case in enumerate(WRONG_AND_RIGHT)],
)
def test_what_wants_a_change_fails_here_and_works_when_it_is_changed(
    rule: str, error: type[Exception], wrong: str, right: str
) -> None:
    assert {found for _, found in wanting(wrong)} == {rule}
    assert wanting(right) == []
    with pytest.raises(error):
        exec(compile(wrong, "wrong.py", "exec"), {"__name__": "wrong", "served": served})
    exec(compile(right, "right.py", "exec"), {"__name__": "right", "served": served})


def test_a_loop_that_the_reactor_is_to_call_is_refused_by_it(
    file: Callable[[str, str], Path],
) -> None:
    source = """
import asyncore, socket, sys
from twisted.internet import reactor
from twisted.python import log
log.startLogging(sys.stdout)
channel = asyncore.dispatcher(socket.socketpair()[0])
channel.writable = lambda: False
reactor.callWhenRunning(asyncore.loop{more})
reactor.callWhenRunning(reactor.callLater, 0, reactor.stop)
reactor.run()
"""
    assert wanting(source.format(more="")) == [(8, "loop-in-reactor")]
    assert wanting(source.format(more=", count=1")) == []
    path = file("it.py", source.format(more=""))
    done = subprocess.run(
        [sys.executable, "-m", "txasynchat", "run", path],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "RuntimeError: asyncore.loop() would stop the reactor" in done.stdout


def test_the_names_that_are_gone_are_gone() -> None:
    for name in GONE:
        module, *more = name.split(".")
        thing: object = {"asyncore": asyncore, "asynchat": asynchat}[module]
        for attribute in more[:-1]:
            thing = getattr(thing, attribute)
        assert not hasattr(thing, more[-1]), name
    for module, names in STAR.items():
        ours = {"asyncore": asyncore, "asynchat": asynchat}[module]
        kept = {name for name in names if hasattr(ours, name)}
        assert names - kept <= {name.split(".")[1] for name in GONE}


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python 3.12 removed the modules")
@pytest.mark.filterwarnings("ignore:The async.* module is deprecated:DeprecationWarning")
def test_every_name_of_the_removed_modules_is_here_or_said_to_be_gone() -> None:
    for ours in (asyncore, asynchat):
        old = importlib.import_module(ours.__name__.split(".")[-1])
        names = {name for name in vars(old) if not name.startswith("__")}
        missing = {f"{old.__name__}.{name}" for name in names if not hasattr(ours, name)}
        assert {name for name in missing if "._" not in name} <= set(GONE)
        assert {name for name in names if name[0] != "_"} <= STAR[old.__name__]


@pytest.mark.parametrize(
    "source",
    [
        # Somebody else may make bytes of it.
        f"{CHAT}    def push(self, text): self.out = text\n    def go(self): self.push('x')",
        f"{CHAT}    def go(self): self.push('x')\n"
        "class Other(Chat):\n    def push(self, text): self.out = text",
        f"from more import Mixin\n{CHAT[:-3]}, Mixin):\n    def go(self): self.push('x')",
        f"{CHAT}    def go(self): self.push('x'.encode())",
        f"{CHAT}    def go(self, text): self.push(text)",
        f"import sys\n{CHAT}    def go(self):\n        if sys.version_info[0] < 3: self.push('x')",
        f"from six import PY2\n{CHAT}    def go(self): self.push('x' if PY2 else b'x')",
        f"{CHAT}    def set_terminator(self, t): self.t = t\n"
        "    def go(self): self.set_terminator('x')",
        f"{CHAT}    def handle_read(self): pass\n    def go(self): self.set_terminator('x')",
        f"{CHAT}    def go(self, sock): self.set_socket(sock)\n"
        "    def create_socket(self): pass\n    def x(self): self.send('x')",
        f"{CHAT}    def go(self): self.push('x')\nChat().push = print",
        f"{CHAT}    @staticmethod\n    def go(other): other.push('x')",
        f"{CHAT}    def go(self):\n        class Inner:\n            def go(self): self.push('x')",
        f"{CHAT}    def go(self):\n        def run(self): self.push('x')",
        "import asynchat\n@more\nclass Chat(asynchat.async_chat):\n"
        "    def go(self): self.push('x')",
        # It may be bytes, after all.
        f"{CHAT}    data = ''\n    def reset(self): self.data = b''\n"
        "    def collect_incoming_data(self, data): self.data += data",
        f"{CHAT}    data = ''\n    def collect_incoming_data(self, data):\n"
        "        data = data.decode()\n        self.data += data",
        f"{CHAT}    def collect_incoming_data(self, data): self.all.append(data.decode())\n"
        "    def found_terminator(self): ''.join(self.all)",
        f"{CHAT}    def collect_incoming_data(self, data): self.all.append(data)\n"
        "    def found_terminator(self): b''.join(self.all)",
        # What is missing is expected to be.
        "import asyncore\ntry:\n    asyncore.fcntl\nexcept AttributeError:\n    pass",
        "import asyncore\nif hasattr(asyncore, 'fcntl'):\n    asyncore.fcntl",
        "import asyncore, sys\nif sys.version_info < (3, 5):\n    asyncore.dispatcher.__getattr__",
        "import asyncore, ssl\nif hasattr(ssl, 'wrap_socket'):\n    ssl.wrap_socket(s)",
        # They come from somewhere else.
        "from asyncore import *\nimport socket\nsocket.socket()",
        "from asyncore import *\ndef f(socket): return socket.x",
        # That one is another program's.
        "import asyncore\nasyncore.loop = asyncore.socket_map = None",
        "import asyncore\nfrom twisted.internet import reactor\n"
        "reactor.callInThread(asyncore.loop)",
        "import asyncore\nfrom twisted.internet import reactor\n"
        "reactor.callLater(0, asyncore.loop, 0, False, None, 1)",
    ],
)
def test_where_it_can_not_be_sure_it_says_nothing(source: str) -> None:
    assert wanting(source) == []


def test_ssl_wrap_socket_works_through_an_option() -> None:
    source = "import asyncore\nfrom ssl import wrap_socket\nwrap_socket(asyncore.x)"
    assert wanting(source) == [(3, "ssl-wrap-socket")]


# -- Python 2 and other sources that this Python does not parse ---------------------


@pytest.mark.parametrize(
    ("source", "line", "what"),
    [
        ("import asyncore\nprint 'x'", 2, "print"),
        ("import asyncore\nprint", 0, ""),
        ("import asyncore\nimport sys\nprint >>sys.stderr, 'x'", 3, "print >>file"),
        ("try:\n    pass\nexcept OSError, why:\n    pass", 3, "except ..., name"),
        ("raise ValueError, 'x'", 1, "raise ..., value"),
        ("x = `1`", 1, "backticks"),
        ("x = 1 <> 2", 1, "<>"),
        ("x = ur'x'", 1, "ur''"),
        ("os.chmod('x', 0755)", 1, "octal numbers without 0o"),
        ("x = 10L", 1, "long numbers"),
        ("exec 'x' in {}", 1, "exec"),
        ("def f(a, (b, c)): pass", 1, "a tuple as a parameter"),
        ("if 1:\n\tx = 1\n        y = 1", 3, "tabs and blanks mixed"),
    ],
)
def test_python_2_is_called_python_2(source: str, line: int, what: str) -> None:
    expected = [(line, "python-2", f"Python 2 syntax: {what}")] if what else []
    assert [each for each in found(source) if each[1] == "python-2"] == expected


@pytest.mark.parametrize("source", ["from x import async", "x.async = 1", "asyncio.async(f())"])
def test_a_name_that_is_a_keyword_by_now_is_to_be_changed(source: str) -> None:
    assert found(source) == [(1, "python-2", "async as a name, a keyword since Python 3.7")]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="before, it was a syntax error")
def test_a_python_that_takes_it_for_two_exceptions_calls_it_python_2_too() -> None:
    assert wanting("try:\n    pass\nexcept OSError, why:\n    pass") == [(3, "python-2")]
    assert wanting("try:\n    pass\nexcept OSError, ValueError:\n    pass") == []


def test_the_uses_in_a_python_2_file_are_found_all_the_same() -> None:
    source = (
        "import asyncore, asynchat as ac\nfrom asyncore import loop\n"
        "class A(ac.async_chat):\n    asyncore = asyncore\n"
        "print 'asyncore.loop() now', asyncore.socket_map\n"
        "loop()\nmock.patch('asyncore.poll')\nimport smtpd; smtpd.SMTPServer\n"
        "# asyncore.x\nx.asyncore.y(asyncore=1)\nfrom . import asynchat\n"
    )
    assert found(source) == [
        (1, "import", "import asynchat as ac"),
        (1, "import", "import asyncore"),
        (2, "import", "from asyncore import loop"),
        (3, "subclass", "class A derives from asynchat.async_chat"),
        (4, "use", "asyncore"),
        (5, "python-2", "Python 2 syntax: print"),
        (5, "use", "asyncore.socket_map"),
        (6, "use", "asyncore.loop"),
        (7, "by-name", '"asyncore.poll"'),
        (8, "smtpd", "import smtpd"),
        (8, "smtpd", "smtpd.SMTPServer"),
        (11, "copy", "from . import asynchat"),
    ]


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.py")), ids=lambda path: path.stem)
def test_reading_by_tokens_finds_what_reading_by_syntax_finds(path: Path) -> None:
    def uses(data: bytes) -> list[tuple[int, str, str]]:
        findings = findings_in("it.py", data)
        return [(x.line, x.rule, x.what) for x in findings if x.rule in ("import", "use", "smtpd")]

    data = path.read_bytes()
    assert uses(data + b"\nprint 'x'\n") == uses(data)


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"import asyncore\nx = (\n", 2, "not Python"),
        (b"# coding: nonsense\nimport asyncore\n", 1, "can't be decoded"),
        (b"import asyncore\nx = '\xff'\n", 1, "can't be decoded"),
        (b"import asyncore\n\x00", None, "null bytes"),
        (b"import asyncore\nx = " + b"(" * 5000 + b")" * 5000, None, ""),
        (b"import asyncore\nx = asyncore" + b".x" * 3000, None, "too deep"),
    ],
)
def test_a_file_that_can_not_be_parsed_is_an_error_and_is_searched(
    data: bytes, line: int | None, words: str
) -> None:
    findings = findings_in("it.py", data)
    (error,) = [finding for finding in findings if finding.kind == "error"]
    assert words in error.what
    assert line is None or error.line == line
    assert [x.what for x in findings if x.rule == "import"] == ["import asyncore"]


PIECES = st.sampled_from(
    [
        *("import ", "from ", "asyncore", "asynchat", ".", ",", " as a", "\n", "\n    ", "(", ")"),
        *("'", '"""', "class A", ":", "=", "self", "print ", "except ", "`", "0777", "\\", "#"),
        *("def f", "lambda ", "*", "\x00", "\x0c", "\ud800", "ä", "f'{", "}", ";", "global a"),
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_any_source_gives_a_report(source: str) -> None:
    for data in (source.encode("utf-8", "surrogatepass"), source.encode("latin-1", "replace")):
        for finding in findings_in("it.py", data):
            assert finding.line >= 1
            assert "\n" not in finding.what.strip()


def test_a_file_in_another_encoding_is_read_in_it() -> None:
    data = "# coding: latin-1\nimport asyncore # ä\nasyncore.loop('ä')".encode("latin-1")
    assert [finding.kind for finding in findings_in("it.py", data)] == ["works", "works"]


# -- Files and folders ----------------------------------------------------------------


def test_a_folder_is_searched_for_what_is_python(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    for name in ("a.py", "deep/er/b.pyw", "c.tac"):
        file(name, "import asyncore")
    file("script", "#!/usr/bin/env python\nimport asyncore")
    file("no", "#!/bin/sh\nimport asyncore")
    file("text.txt", "import asyncore")
    report = check([str(tmp_path)])
    names = [os.path.relpath(finding.path, tmp_path) for finding in report.findings]
    assert names == ["a.py", "c.tac", os.path.join("deep", "er", "b.pyw"), "script"]


def test_what_is_not_the_programs_own_is_skipped_and_named(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    for name in (".git/a.py", "__pycache__/a.py", "env/pyvenv.cfg", "env/a.py", "own.py"):
        file(name, "import asyncore")
    (tmp_path / "loop").symlink_to(tmp_path)
    report = check([str(tmp_path)])
    assert [Path(path).name for path in report.files] == ["own.py"]
    assert {Path(path).name for path in report.skipped} == {".git", "__pycache__", "env", "loop"}
    printed = command(tmp_path).stdout
    assert re.search(r"^1 file read, 4 skipped: .*\.git", printed, re.MULTILINE)


def test_what_is_skipped_is_read_if_it_is_named(file: Callable[[str, str], Path]) -> None:
    path = file(".hidden/site-packages/odd.name", "import asyncore")
    assert check([str(path)]).findings
    assert not check([str(path.parents[1])]).findings


def test_a_file_that_is_named_twice_is_read_once(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    path = file("a.py", "import asyncore")
    assert len(check([str(path), str(tmp_path)]).findings) == 1


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.py")
    os.mkfifo(tmp_path / "b")
    report = check([str(tmp_path)])
    assert (report.files, list(report.skipped.values())) == ({}, ["not a file"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error(file: Callable[[str, str], Path]) -> None:
    path = file("a.py", "import asyncore")
    path.chmod(0)
    assert check([str(path)]).status == 1


def test_a_copy_beside_a_script_is_what_its_import_finds(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("asyncore.py", "")
    path = file("script.py", "import asyncore\nasyncore.loop()")
    assert [x.rule for x in check([str(path)]).findings] == ["copy"]
    file("pack/__init__.py", "")
    path = file("pack/part.py", "from asyncore import loop\nloop()")
    assert [x.rule for x in check([str(path)]).findings] == ["copy"]


def test_a_copy_beside_a_module_of_a_package_was_meant_on_python_2(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("pack/__init__.py", "")
    file("pack/asyncore.py", "import asyncore\nasyncore.loop()")
    path = file("pack/part.py", "import asyncore\nasyncore.loop()")
    assert [x.rule for x in check([str(path)]).findings] == ["copy", "import", "use"]
    path = file("pack/new.py", "from __future__ import absolute_import\nimport asyncore")
    assert [x.rule for x in check([str(path)]).findings] == ["import"]
    own = check([str(tmp_path / "pack" / "asyncore.py")]).findings
    assert [x.rule for x in own] == ["import", "use"]


def test_what_stands_in_for_the_modules_in_site_packages_is_no_copy(
    file: Callable[[str, str], Path],
) -> None:
    file("site-packages/asyncore/__init__.py", "")
    path = file("site-packages/bot.py", "import asyncore")
    assert Surroundings.of(str(path)).copies == frozenset()


# -- The command --------------------------------------------------------------------


def test_a_finding_is_one_line_that_says_where_what_and_what_to_do(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("bot.py", f"{CHAT}    def go(self): self.push('x')\nasyncore.loop()")
    done = command("bot.py", cwd=tmp_path)
    assert done.stdout == (
        "bot.py:1: works: import asynchat\n"
        "bot.py:1: works: import asyncore\n"
        "bot.py:2: works: class Chat derives from asynchat.async_chat\n"
        "bot.py:3: change: push() of text; "
        'TypeError on Python 3: send bytes, b"..." or .encode() '
        "(docs/checking.md#text-and-bytes)\n"
        "bot.py:4: works: asyncore.loop\n"
        "1 file read\n"
        "works 4, install 0, change 1, error 0, note 0\n"
        "Next: see to 1 finding of change or error, then check again.\n"
    )
    assert (done.returncode, done.stderr) == (1, "")


def test_quiet_leaves_out_what_works(file: Callable[[str, str], Path], tmp_path: Path) -> None:
    file("bot.py", "import asyncore\nx = 'asyncore'\nasyncore.loop()")
    assert command("--quiet", "bot.py", cwd=tmp_path).stdout == (
        "1 file read\n"
        "works 2, install 0, change 0, error 0, note 1\n"
        "Next: run it: python -m txasynchat run bot.py\n"
    )


@pytest.mark.parametrize(
    ("source", "step"),
    [
        ("", "nothing, none of asyncore, asynchat and smtpd is used."),
        ("from txasynchat import asyncore", "nothing, the imports are txasynchat's."),
        (
            "import smtpd",
            "pip install standard-smtpd, then run it: python -m txasynchat run PROGRAM",
        ),
        (
            "import asyncore, ssl\nssl.wrap_socket\nasyncore.loop()",
            "run it: python -m txasynchat run --ssl-wrap-socket bot.py",
        ),
    ],
)
def test_the_summary_says_what_to_do_next(
    source: str, step: str, file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("bot.py", source)
    done = command("bot.py", cwd=tmp_path)
    assert done.stdout.endswith(f"Next: {step}\n")
    assert done.returncode == 0


def test_two_ways_of_importing_in_one_program_are_pointed_out(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("a.py", "import asyncore")
    file("b.py", "from txasynchat import asyncore")
    assert "a loop serves its own only" in command(".", cwd=tmp_path).stdout
    file("c.py", "import txasynchat\ntxasynchat.install()")
    assert "a loop serves its own only" not in command(".", cwd=tmp_path).stdout


def test_json_has_everything(file: Callable[[str, str], Path], tmp_path: Path) -> None:
    file("bot.py", "import smtpd\nprint 'x'")
    file(".git/x.py", "")
    done = command("--json", ".", cwd=tmp_path)
    printed = json.loads(done.stdout)
    smtpd, python_2 = printed.pop("findings")
    assert smtpd["advice"].startswith("pip install standard-smtpd")
    assert {key: smtpd[key] for key in ("path", "line", "kind", "rule", "what", "page")} == {
        "path": "./bot.py",
        "line": 1,
        "kind": "install",
        "rule": "smtpd",
        "what": "import smtpd",
        "page": "docs/migrating.md#programs-that-need-smtpd",
    }
    assert (python_2["line"], python_2["kind"]) == (2, "change")
    assert printed == {
        "counts": {"works": 0, "install": 1, "change": 1, "error": 0, "note": 0},
        "files": 1,
        "skipped": [{"path": "./.git", "why": "not the program's own"}],
        "fixed": [],
        "left": [],
        "status": 1,
    }
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py"], "there is no nowhere.py"),
        ([], "the following arguments are required: PATH"),
        (["--diff", "--json", "."], "can't be had together"),
    ],
)
def test_a_bad_command_line_has_status_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_names_that_a_terminal_would_obey_are_printed_plainly(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("a\x1b[31m\n.py", "import asyncore")
    assert command(".", cwd=tmp_path).stdout.startswith("./a\\x1b[31m\\n.py:1: works:")


def test_whoever_reads_may_have_seen_enough(
    file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file("a.py", "import asyncore\n" * 4000)
    checking = subprocess.Popen(
        [sys.executable, "-m", "txasynchat", "check", "a.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert checking.stdout is not None and checking.stderr is not None
    checking.stdout.readline()
    checking.stdout.close()
    assert checking.stderr.read() == b""
    assert checking.wait(60) == 0
    checking.stderr.close()


def test_nothing_of_the_program_is_run(file: Callable[[str, str], Path], tmp_path: Path) -> None:
    file("bot.py", "import asyncore, beside\nopen('proof', 'w')\nraise SystemExit(7)")
    file("beside.py", "open('proof', 'w')")
    assert command("bot.py", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "proof").exists()


def test_run_loads_nothing_of_check(file: Callable[[str, str], Path], tmp_path: Path) -> None:
    file("bot.py", "import sys\nprint(*sys.modules)")
    done = subprocess.run(
        [sys.executable, "-m", "txasynchat", "run", "bot.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not {"txasynchat.check", "txasynchat.uses", "libcst"} & set(done.stdout.split())


# -- The documentation ----------------------------------------------------------------


@pytest.fixture
def typed(tmp_path: Path) -> Callable[[Command], str]:
    """Types a command that the page shows; its exit status does not matter."""

    def run(shown: Command) -> str:
        words = shlex.split(shown.line)
        assert words[:4] == ["python", "-m", "txasynchat", "check"]
        return command(*words[4:], cwd=tmp_path).stdout

    return run


def test_the_report_that_the_page_shows_is_what_is_printed(
    file: Callable[[str, str], Path], typed: Callable[[Command], str]
) -> None:
    file(
        "chat_server/bot.py",
        "import asynchat\n\n\nclass Bot(asynchat.async_chat):\n"
        "    def __init__(self, sock):\n        asynchat.async_chat.__init__(self, sock)\n"
        "        self.set_terminator('\\r\\n')\n",
    )
    file("chat_server/mail.py", "import os\nimport smtpd\n")
    file("chat_server/.git/hook.py", "")
    (shown,) = commands(block("checking.md", "python -m txasynchat check chat_server/"))
    assert typed(shown) == shown.output


def test_the_page_shows_what_fix_does(
    file: Callable[[str, str], Path], typed: Callable[[Command], str]
) -> None:
    file(
        "bot.py",
        "import asyncore, socket  # as ever\n\n\nclass Bot(asyncore.dispatcher):\n    pass\n",
    )
    install, diff, fix = commands(block("checking.md", "pip install 'txasynchat[migrate]'"))
    assert install.output == ""
    assert typed(diff) == diff.output
    assert typed(fix) == fix.output


def test_the_command_for_continuous_integration_is_quiet(
    file: Callable[[str, str], Path], typed: Callable[[Command], str]
) -> None:
    file("src/bot.py", "import asyncore\n")
    file("tests/test_bot.py", "import mock\nmock.patch('asyncore.loop')\n")
    (check_all,) = commands(block("checking.md", "python -m txasynchat check --quiet"))
    assert typed(check_all).startswith("tests/test_bot.py:2: install:")


def test_every_rule_is_of_a_kind_and_its_page_has_the_section() -> None:
    for name, rule in RULES.items():
        assert rule.kind in KINDS
        if rule.page:
            page, _, section = rule.page.partition("#")
            titles = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
            assert not section or section in slugs, (name, rule.page)


def test_every_rule_is_listed_under_its_kind() -> None:
    page = (ROOT / "docs" / "checking.md").read_text()
    (listed,) = re.findall(r"^The rules: (.*?)\n\n", page, re.MULTILINE | re.DOTALL)
    kinds = {}
    for names, kind in re.findall(r"([^()]*)\(`(\w+)`\)", listed):
        kinds.update(dict.fromkeys(re.findall(r"`([\w-]+)`", names), kind))
    assert kinds == {name: rule.kind for name, rule in RULES.items()}


def test_a_finding_that_has_advice_ends_with_its_page() -> None:
    finding = Finding("a.py", 3, "gone", "asyncore.fcntl", "import fcntl")
    assert str(finding) == "a.py:3: change: asyncore.fcntl; import fcntl (docs/checking.md#names)"
