"""What the fuzzing harnesses share: how bytes are read as choices, how a run is begun."""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import NoReturn

__all__ = ("Choices", "Finding", "check", "fuzz")

HERE = Path(__file__).parent

#: A single input takes milliseconds: this many seconds are a hang. Memory is in MiB.
_DEFAULTS = ("-timeout=5", "-rss_limit_mb=1024", "-max_len=1024")


class Finding(Exception):
    """An input has shown something that must not be."""


def check(holds: object, promise: str, *facts: object) -> None:
    """Complain unless a promise is kept.

    :param facts: what was seen, to be shown with it.
    :raise Finding: if it is not.
    """
    if not holds:
        raise Finding(f"broken: {promise}; " + ", ".join(map(repr, facts)))


class Choices:
    """Bytes, read one after another as decisions; behind the last one all are 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pos = 0

    def byte(self) -> int:
        """The next one."""
        if self._pos >= len(self._data):
            return 0
        self._pos += 1
        return self._data[self._pos - 1]

    def below(self, bound: int) -> int:
        """A number from 0 to `bound` - 1."""
        return self.byte() % bound

    def rest(self) -> bytes:
        """All that was not read."""
        rest, self._pos = self._data[self._pos :], len(self._data)
        return rest


def fuzz(one_input: Callable[[bytes], None], packages: tuple[str, ...]) -> NoReturn:
    """Let atheris look for inputs that raise; what the command line says goes to libFuzzer.

    Exits with 0 when the time is up, with something else on a finding.

    :param packages: the modules whose branches count, with all that is inside them.
    """
    import atheris

    # After the import, so that a harness can be imported without atheris.
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and _is_in(each.__module__, packages):
            atheris.instrument_func(each)
    # To minimise or merge, libFuzzer gives its own first argument to a shell again.
    program = shlex.join([sys.executable, sys.argv[0]])
    atheris.Setup([program, *_options(Path(sys.argv[0]).stem)], one_input)
    atheris.Fuzz()
    raise AssertionError("libFuzzer ends the process")


def _is_in(module: str | None, packages: tuple[str, ...]) -> bool:
    return any(module == each or str(module).startswith(f"{each}.") for each in packages)


def _options(name: str) -> list[str]:
    # Those of the command line, and what it does not say. Without a file or a folder
    # there: a run on the stored corpus, which does not change it.
    given = sys.argv[1:]
    named = {each.partition("=")[0] for each in given}
    dictionary, found = HERE / f"{name}.dict", HERE / "found"
    defaults = [*_DEFAULTS, f"-artifact_prefix={found}{os.sep}{name}-"]
    if dictionary.exists():
        defaults.append(f"-dict={dictionary}")
    (found / name).mkdir(parents=True, exist_ok=True)
    options = [each for each in defaults if each.partition("=")[0] not in named]
    if any(not each.startswith("-") for each in given):
        return [*options, *given]
    return [*options, *given, str(found / name), str(HERE / "corpus" / name)]
