"""What is public is listed, documented and shown by an example that runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import txasynchat

MODULES = [
    "txasynchat",
    *(module.name for module in pkgutil.walk_packages(txasynchat.__path__, "txasynchat.")),
]


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def defined_in(module: ModuleType) -> set[str]:
    """The public names that a module defines itself."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_module_lists_its_public_names(name: str) -> None:
    module = load(name)
    assert isinstance(module.__all__, tuple)
    assert list(module.__all__) == sorted(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None
    if not hasattr(module, "__path__"):
        unlisted = defined_in(module) - set(module.__all__)
        internal = {
            "TRANSITIONS",
            "as_deferred",
            "checked",
            "is_streaming",
            "reloaded",
            "stop_producer",
        }
        assert unlisted <= internal, "name it in __all__, or begin it with _"


def test_the_package_gives_its_names_when_they_are_first_used() -> None:
    assert set(txasynchat.__all__) <= set(dir(txasynchat))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        txasynchat.nonsense  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_has_a_docstring(name: str) -> None:
    module = load(name)
    assert module.__doc__
    for public in module.__all__:
        value = getattr(module, public)
        if inspect.isclass(value) and value.__module__.startswith("txasynchat"):
            assert inspect.getdoc(value), public
            for method, function in vars(value).items():
                if callable(function) and not method.startswith("_"):
                    assert inspect.getdoc(function), f"{public}.{method}"


NEEDS_NO_EXAMPLE = {
    "ChannelSet",  # the drop-in's own parts: tests/legacy/test_loop.py
    "Driver",
    "EpollSet",
    "ExitNow",
    "Hosted",
    "PollSet",
    "ReadySet",
    "Round",
    "Server",
    "Session",
    "SoftSocket",
    "Watch",
    "file_dispatcher",  # needs a pipe: tests/legacy/programs
    "file_wrapper",
    "Aside",  # parts of reads: tests/protocol/test_reads.py
    "IncompleteRead",
    "MessageTooLong",
    "Messages",
    "Read",
    "Reader",
    "Connecting",  # shown by connect()
    "Bench",  # parts of the conformance kit: tests/testing
    "NeverRests",
    "Result",
    "Run",
    "Trouble",
    "Sender",  # needs a transport over a socket: tests/protocol/test_sending_at_once.py
    "BytesLike",  # a type alias
    "BadTranscript",
    "ChatClosed",  # shown by AsyncChat's tests
    "CloseReason",
    "Event",
    "Handler",  # interfaces
    "Link",
    "ListenFailed",
    "Matcher",
    "MoreProducer",
    "Output",
    "Owner",
    "PauseReason",
    "PlaintextAfterStartTLS",  # tests/protocol/test_start_tls.py
    "Refusal",  # shown by AsyncChatFactory
    "Record",  # shown by read_transcript()
    "State",
    "Terminator",
    "Watcher",
    "Connections",  # shown by ChatService
    "Control",  # parts of the service, which need a reactor: tests/service
    "Default",
    "HandlerError",
    "ListeningService",
    "Signals",
    "WorkerOptions",
    "Workers",
}


@pytest.mark.parametrize("name", MODULES)
def test_every_public_class_shows_an_example(name: str) -> None:
    module = load(name)
    for public in module.__all__:
        value = getattr(module, public)
        if inspect.isclass(value) and value.__module__ == name and public not in NEEDS_NO_EXAMPLE:
            assert ">>> " in (value.__doc__ or ""), public


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name: str) -> None:
    result = doctest.testmod(load(name))
    assert result.failed == 0
