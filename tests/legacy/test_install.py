"""``txasynchat.install()``: the old names, for as long as a program wants them."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import pytest

import txasynchat
from txasynchat import asynchat, asyncore


@pytest.fixture
def clean() -> Iterator[None]:
    """Whatever has the names, has them again after the test."""
    before = {name: sys.modules.pop(name, None) for name in ("asyncore", "asynchat")}
    yield
    txasynchat.uninstall()
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


@pytest.mark.usefixtures("clean")
class TestInstall:
    """While installed, and after."""

    def test_the_old_names_import_our_modules(self) -> None:
        txasynchat.install()
        assert import_module("asyncore") is asyncore
        assert import_module("asynchat") is asynchat

    def test_there_is_one_map_under_either_name(self) -> None:
        txasynchat.install()
        assert import_module("asyncore").socket_map is asyncore.socket_map

    def test_another_module_of_that_name_gives_way_and_comes_back(self) -> None:
        other = sys.modules["asyncore"] = ModuleType("asyncore")
        txasynchat.install()
        assert import_module("asyncore") is asyncore
        txasynchat.uninstall()
        assert import_module("asyncore") is other

    def test_what_had_no_module_has_none_again(self) -> None:
        txasynchat.install()
        txasynchat.uninstall()
        assert "asyncore" not in sys.modules

    def test_installing_twice_is_installing_once(self) -> None:
        txasynchat.install()
        txasynchat.install()
        txasynchat.uninstall()
        assert "asynchat" not in sys.modules

    def test_a_program_that_took_the_name_itself_keeps_it(self) -> None:
        txasynchat.install()
        theirs = sys.modules["asyncore"] = ModuleType("asyncore")
        txasynchat.uninstall()
        assert sys.modules["asyncore"] is theirs

    def test_classes_say_the_old_names_while_installed(self) -> None:
        txasynchat.install()
        assert repr(asyncore.dispatcher()).startswith("<asyncore.dispatcher at 0x")
        assert asynchat.async_chat.__module__ == "asynchat"
        assert pickle.loads(pickle.dumps(asyncore.ExitNow)) is asyncore.ExitNow
        txasynchat.uninstall()
        assert repr(asyncore.dispatcher()).startswith("<txasynchat.asyncore.dispatcher at 0x")

    def test_ssl_wrap_socket_goes_with_the_rest(self) -> None:
        import ssl

        had = hasattr(ssl, "wrap_socket")
        txasynchat.install(ssl_wrap_socket=True)
        assert hasattr(ssl, "wrap_socket")
        txasynchat.uninstall()
        assert hasattr(ssl, "wrap_socket") == had


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (asyncore, "EALREADY EINPROGRESS EWOULDBLOCK ECONNRESET EINVAL ENOTCONN ESHUTDOWN"),
        (asyncore, "EISCONN EBADF ECONNABORTED EPIPE EAGAIN errorcode select socket time os sys"),
        (asyncore, "warnings _DISCONNECTED _reraised_exceptions _strerror _exception"),
        (asyncore, "read write readwrite poll poll2 poll3 loop dispatcher dispatcher_with_send"),
        (asyncore, "compact_traceback close_all file_wrapper file_dispatcher ExitNow socket_map"),
        (asynchat, "async_chat simple_producer fifo find_prefix_at_end deque asyncore"),
    ],
)
def test_the_names_that_programs_take_from_the_modules_are_there(
    module: ModuleType, names: str
) -> None:
    assert [name for name in names.split() if not hasattr(module, name)] == []
