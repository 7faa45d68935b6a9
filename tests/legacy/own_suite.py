"""Runs tests of the interpreter's own Lib/test, and writes down how each ended.

    own_suite.py REPORT SUITE [--only [TEST ...]]

It knows nothing of txasynchat, as the suites do not: which asyncore and asynchat they get depends
on who starts it, ``python own_suite.py`` or ``python -m txasynchat run own_suite.py``. The report
says which ones they got. With ``--only`` the other tests of the suite are listed, but do not run.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import threading
import traceback
import unittest
import warnings
from collections.abc import Iterator
from typing import Any

OLD_MODULES = ("asyncore", "asynchat")
GIVES_UP_AFTER = 60  # seconds; the slowest suite takes 10


class Outcomes(unittest.TestResult):
    """How each test ended: a word, and behind a colon the reason."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, str] = {}

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        print(test.id(), file=sys.stderr, flush=True)  # so that a hang has a name

    def _note(self, test: unittest.TestCase, outcome: str) -> None:
        if not self.outcomes.get(test.id(), "").startswith("failed"):
            self.outcomes[test.id()] = outcome

    def _failed(self, test: unittest.TestCase, error: Any) -> None:
        self._note(test, "failed: " + "".join(traceback.format_exception(*error)))

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._note(test, "ok")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._note(test, f"skipped: {reason}")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._failed(test, err)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._failed(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._failed(test, err)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._note(test, "expected failure")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._note(test, "failed: an unexpected success")


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """The tests in a suite, however deep."""
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from tests_of(each)
        else:
            yield each


class Passes:
    """Counts the passes of the reactor; there is none where nobody installed one."""

    def __init__(self) -> None:
        self.reactor = sys.modules.get("twisted.internet.reactor")
        self.count = 0
        self._wait = getattr(self.reactor, "doIteration", None)
        if self.reactor is not None:
            vars(self.reactor)["doIteration"] = self._count

    def _count(self, delay: float | None) -> None:
        assert self._wait is not None
        self.count += 1
        self._wait(delay)


def what_twisted_logs() -> list[str]:
    """The errors that Twisted logs from now on, if it is there: they reach no test."""
    logged: list[str] = []
    if "twisted" in sys.modules:
        from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

        def observe(event: LogEvent) -> None:
            if event.get("log_level", LogLevel.info) >= LogLevel.error:
                failure = event.get("log_failure")
                logged.append(formatEvent(event) + (failure.getTraceback() if failure else ""))

        globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    return logged


def origin(module: Any) -> str:
    """The file of a module."""
    return str(getattr(module, "__file__", None))


def used(suite: str) -> dict[str, str]:
    """The old modules that a suite's module has, itself or through smtpd, and their files."""
    place = ".".join(suite.split(".")[:2])
    module = sys.modules.get(place)
    return {
        f"{where}.{name}": origin(getattr(holder, name))
        for where, holder in ((place, module), ("smtpd", getattr(module, "smtpd", None)))
        for name in OLD_MODULES
        if hasattr(holder, name)
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("report")
    parser.add_argument("suite")
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the suites warn, whoever runs them
    passes = Passes()
    logged = what_twisted_logs()
    in_threads: list[str] = []
    threading.excepthook = lambda error: in_threads.append(
        "".join(traceback.format_exception(error.exc_type, error.exc_value, error.exc_traceback))
    )

    tests = unittest.defaultTestLoader.loadTestsFromName(options.suite)
    listed = [test.id() for test in tests_of(tests)]
    # what no test is (an error in setUpClass, say) is found out by running all
    if options.only is not None and set(options.only) <= set(listed):
        tests = unittest.TestSuite(test for test in tests_of(tests) if test.id() in options.only)
    result = Outcomes()
    faulthandler.dump_traceback_later(GIVES_UP_AFTER, exit=True)  # also if it does not exit
    tests.run(result)

    report = {
        "listed": listed,
        "run": result.testsRun,
        "outcomes": result.outcomes,
        "in_threads": in_threads,
        "logged": logged,
        "reactor": passes.reactor and type(passes.reactor).__module__,
        "passes": passes.count,
        "modules": {name: origin(sys.modules.get(name)) for name in OLD_MODULES},
        "used": used(options.suite),
        # threads that still run, say: the suites only warn of them
        "altered": getattr(sys.modules.get("test.support"), "environment_altered", False),
        "left": [
            *map(repr, sys.modules["asyncore"].socket_map.values()),
            *(each.name for each in threading.enumerate() if each != threading.main_thread()),
        ],
    }
    with open(options.report, "w") as file:
        json.dump(report, file)


if __name__ == "__main__":
    main()
