"""The kit is used from pytest, trial and unittest; the kit itself loads no reactor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support import bare_environment

HANDLERS = """
import sys
from twisted.internet.defer import Deferred
from txasynchat import AsyncChat
from txasynchat.testing import check_chat_handler, connect

class Upper(AsyncChat):
    def handle_connect(self):
        self.set_terminator(b"\\n")
    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)
    def found_terminator(self):
        self.push(self._get_data().upper() + b"\\n")

class Bad(Upper):
    def found_terminator(self):
        1 / 0

class Forgetful(Upper):
    def found_terminator(self):
        failing = Deferred()
        failing.errback(ValueError("nobody knows"))
"""

WITH_PYTEST = """
import pytest

def test_a_conversation(chat):
    talk = chat(Upper)
    talk.receive(b"one\\n")
    talk.assert_transcript([r"> one\\n", r"< ONE\\n"])

def test_the_rules():
    check_chat_handler(Upper, b"one\\n")

def test_what_is_found():
    for handler in (Bad, Forgetful):
        (finding,) = check_chat_handler(handler, b"one\\n", raises=False)
        assert finding.rule == "errors"

def test_another_conversation(chat):
    talk = chat(Upper)
    talk.receive(b"one\\n")
    talk.assert_transcript([r"> one\\n", r"< TWO\\n"])

def test_an_error(chat):
    chat(Bad).receive(b"one\\n")

def test_no_reactor():
    assert "twisted.internet.reactor" not in sys.modules
"""

WITH_UNITTEST = """
import unittest

class Tests(unittest.TestCase):
    def test_a_conversation(self):
        talk = connect(Upper)
        self.addCleanup(talk.end)
        talk.receive(b"one\\n")
        talk.assert_transcript([r"> one\\n", r"< ONE\\n"])

    def test_the_rules(self):
        check_chat_handler(Upper, b"one\\n")

    def test_what_is_found(self):
        for handler in (Bad, Forgetful):
            (finding,) = check_chat_handler(handler, b"one\\n", raises=False)
            self.assertEqual(finding.rule, "errors")

    def test_an_error(self):
        talk = connect(Bad)
        self.addCleanup(talk.end)
        talk.receive(b"one\\n")

    def test_zz_no_reactor(self):
        self.assertNotIn("twisted.internet.reactor", sys.modules)
"""

WITH_TRIAL = """
from twisted.trial import unittest

class Tests(unittest.SynchronousTestCase):
    def test_a_conversation(self):
        with connect(Upper) as talk:
            talk.receive(b"one\\n")
            talk.assert_transcript([r"> one\\n", r"< ONE\\n"])

    def test_the_rules(self):
        check_chat_handler(Upper, b"one\\n")

    def test_what_is_found(self):
        for handler in (Bad, Forgetful):
            (finding,) = check_chat_handler(handler, b"one\\n", raises=False)
            self.assertEqual(finding.rule, "errors")

    def test_an_error_that_is_expected(self):
        with connect(Bad) as talk:
            talk.receive(b"one\\n")
            self.assertEqual(len(talk.take_errors()), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_an_error(self):
        with connect(Bad) as talk:
            talk.receive(b"one\\n")
            talk.take_errors()
"""


def run(folder: Path, source: str, *command: str) -> tuple[int, str]:
    """What becomes of a file of tests."""
    (folder / "test_upper.py").write_text(HANDLERS + source)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**bare_environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_from_pytest(tmp_path: Path) -> None:
    options = ("-p", "no:cacheprovider", "-W", "error", "-v")
    code, output = run(
        tmp_path, WITH_PYTEST, "-m", "pytest", "-p", "txasynchat.pytest_plugin", *options
    )
    assert code == 1, output
    for name in ("a_conversation", "the_rules", "what_is_found", "no_reactor"):
        assert f"test_{name} PASSED" in output
    assert "test_another_conversation FAILED" in output
    assert "test_an_error ERROR" in output
    assert "- < TWO\\n" in output
    assert "ZeroDivisionError" in output


def test_from_unittest(tmp_path: Path) -> None:
    code, output = run(tmp_path, WITH_UNITTEST, "-m", "unittest", "-v", "test_upper")
    assert code == 1, output
    assert "Ran 5 tests" in output
    assert "FAILED (failures=1)" in output
    assert "FAIL: test_an_error" in output


def test_from_trial(tmp_path: Path) -> None:
    trial = "from twisted.scripts.trial import run; run()"
    code, output = run(tmp_path, WITH_TRIAL, "-c", trial, "test_upper")
    assert code == 1, output
    assert "Ran 5 tests" in output
    assert "FAILED (errors=1, successes=4)" in output


def test_the_plugin_loads_nothing_before_it_is_used(tmp_path: Path) -> None:
    program = (
        "import sys, txasynchat.pytest_plugin\n"
        "print([name for name in sys.modules if name.startswith(('twisted', 'zope'))])"
    )
    code, output = run(tmp_path, "", "-c", program)
    assert (code, output) == (0, "[]\n")
