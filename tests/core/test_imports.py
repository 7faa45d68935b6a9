"""The core stands on nothing but the standard library."""

from __future__ import annotations

import subprocess
import sys

import pytest

SOCKETS_AND_CLOCKS = {"twisted", "zope", "socket", "ssl", "selectors", "asyncio"}


def modules_after(statement: str) -> set[str]:
    program = f"{statement}; import sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.split(".")[0] for name in result.stdout.split()}


@pytest.mark.parametrize("statement", ["import txasynchat", "import txasynchat.core"])
def test_the_core_loads_no_twisted_and_no_sockets(statement: str) -> None:
    assert not modules_after(statement) & SOCKETS_AND_CLOCKS


def test_no_module_imports_the_reactor_when_it_is_imported() -> None:
    program = (
        "import pkgutil, importlib, sys, txasynchat\n"
        "for module in pkgutil.walk_packages(txasynchat.__path__, 'txasynchat.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
