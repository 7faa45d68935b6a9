"""What importing costs: nothing that a program with a reactor has not loaded already."""

from __future__ import annotations

import sys

import pytest
from building import succeed
from support import bare_environment

#: What whoever writes a protocol imports, and what any of Twisted's reactors does.
TWISTEDS_OWN = (
    "import twisted.internet.posixbase, twisted.internet.protocol\n"
    "import twisted.logger, twisted.protocols.policies\n"
)

COUNT = """
import sys
before = set(sys.modules)
{statement}
print(*{{name for name in set(sys.modules) - before if not name.startswith("txasynchat")}})
"""


def loaded_by(statement: str, after: str = "") -> set[str]:
    """The modules not of ours that a statement loads in a process that has run `after`."""
    program = after + COUNT.format(statement=statement)
    return set(succeed(sys.executable, "-c", program, env=bare_environment()).split())


def packages_of(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    "statement",
    [
        "import txasynchat",
        "import txasynchat.core.framing",
        "from txasynchat import CloseReason, fifo, find_prefix_at_end, simple_producer",
        "from txasynchat import install",
    ],
)
def test_what_knows_no_twisted_loads_the_standard_library_alone(statement: str) -> None:
    loaded = loaded_by(statement)
    assert "collections" in loaded
    assert packages_of(loaded) - sys.stdlib_module_names == set()


@pytest.mark.parametrize(
    "statement",
    [
        "from txasynchat import AsyncChat",
        "from txasynchat import AsyncChatFactory",
        "from txasynchat import LegacyFactory",
        "import txasynchat.asyncore, txasynchat.asynchat",
    ],
)
def test_a_handler_loads_nothing_beyond_what_twisted_has_loaded(statement: str) -> None:
    assert loaded_by(statement, after=TWISTEDS_OWN) == set()


@pytest.mark.parametrize(
    "statement",
    [
        "from txasynchat import AsyncChat, AsyncChatFactory, LegacyFactory",
        "import txasynchat.asyncore, txasynchat.asynchat",
        "import txasynchat.service, txasynchat.tap",
    ],
)
def test_importing_installs_no_reactor(statement: str) -> None:
    loaded = loaded_by(statement)
    assert "twisted" in packages_of(loaded)
    assert "twisted.internet.reactor" not in loaded


@pytest.mark.parametrize(
    "statement",
    [
        "from txasynchat import AsyncChat, AsyncChatFactory, LegacyFactory",
        "import txasynchat.asyncore, txasynchat.asynchat",
    ],
)
def test_a_handler_loads_no_tls(statement: str) -> None:
    assert packages_of(loaded_by(statement)) & {"OpenSSL", "cryptography"} == set()
