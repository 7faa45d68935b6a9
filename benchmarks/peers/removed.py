"""The removed ``asynchat``: the interpreter's up to Python 3.11, pyasynchat's beyond."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from benchmarks.peers import legacy_handlers
from benchmarks.serve import Ready


def _module(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = importlib.import_module(name)
    if module.__name__ != name:
        raise ImportError(f"{name} is {module.__name__} here: install() was called", name=name)
    return module


asyncore = _module("asyncore")
asynchat = _module("asynchat")

_handlers = legacy_handlers.in_memory(asynchat)
Lines = _handlers.Lines
Frames = _handlers.Frames


def serve(service: str, ready: Ready, variant: str) -> None:
    """On its loop: on ``select.select()`` as by default, or on ``select.poll()``."""
    ready(legacy_handlers.server(asyncore, legacy_handlers.services(asynchat)[service]))
    asyncore.loop(use_poll=variant == "poll")
