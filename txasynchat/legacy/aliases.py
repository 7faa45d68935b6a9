"""``import asyncore`` and ``import asynchat`` for programs that are not to be changed."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ("install", "uninstall", "wrap_socket")

_NAMES = ("asyncore", "asynchat")

#: What had the names before: by name, None for nothing.
_before: dict[str, ModuleType | None] = {}


def install(*, ssl_wrap_socket: bool = False) -> None:
    """Have ``import asyncore`` and ``import asynchat`` give the drop-in modules.

    From then on, in this process, and whatever else of these names is installed.
    What has imported other modules before keeps them: call this first. Calling it
    again does nothing.

    :param ssl_wrap_socket: bring ``ssl.wrap_socket`` back too, which Python 3.12
        removed. It checks no certificates unless told to, as it always did.

    >>> import txasynchat
    >>> txasynchat.install()
    >>> import asyncore
    >>> asyncore.dispatcher()    # doctest: +ELLIPSIS
    <asyncore.dispatcher at 0x...>
    >>> txasynchat.uninstall()
    """
    for name in _NAMES:
        ours = import_module(f"txasynchat.{name}")
        if name not in _before:
            _before[name] = sys.modules.get(name)
            sys.modules[name] = ours
            _rename(ours, name)
    if ssl_wrap_socket:
        _install_wrap_socket()


def uninstall() -> None:
    """Undo :func:`install`, for what is imported from now on."""
    for name, module in _before.items():
        ours = sys.modules[f"txasynchat.{name}"]
        _rename(ours, f"txasynchat.{name}")
        if sys.modules.get(name) is ours:
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    _before.clear()
    ssl = sys.modules.get("ssl")
    if ssl is not None and vars(ssl).get("wrap_socket") is wrap_socket:
        del ssl.wrap_socket


def _rename(module: ModuleType, name: str) -> None:
    # What programs print, log and pickle says where classes are from.
    old = getattr(module, "dispatcher" if name.endswith("core") else "async_chat").__module__
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == old:
            value.__module__ = name


def _install_wrap_socket() -> None:
    ssl: Any = import_module("ssl")
    if not hasattr(ssl, "wrap_socket"):
        ssl.wrap_socket = wrap_socket


def wrap_socket(
    sock: Any,
    keyfile: Any = None,
    certfile: Any = None,
    server_side: bool = False,
    cert_reqs: Any = None,
    ssl_version: Any = None,
    ca_certs: Any = None,
    do_handshake_on_connect: bool = True,
    suppress_ragged_eofs: bool = True,
    ciphers: str | None = None,
) -> Any:
    """Put a socket under TLS, as ``ssl.wrap_socket`` of Python 3.11 did.

    :param keyfile: the file with the private key, if `certfile` does not have it.
    :param certfile: the file with the certificate, in PEM format.
    :param cert_reqs: ``ssl.CERT_NONE``, the default, checks nothing.
    :param ssl_version: the protocol, ``ssl.PROTOCOL_TLS`` by default.
    :param ca_certs: the file with the certificates to trust.
    :raise ValueError: if a certificate is needed and there is none.
    """
    import ssl

    if (server_side or keyfile) and not certfile:
        raise ValueError(
            "certfile must be specified" + (" for server-side operations" * server_side)
        )
    if cert_reqs not in (None, ssl.CERT_NONE) and not ca_certs:
        raise ValueError("certificates are to be checked: ca_certs must name those to trust")
    if ssl_version in (None, getattr(ssl, "PROTOCOL_TLS", None)):
        ssl_version = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(ssl_version)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE if cert_reqs is None else cert_reqs
    if ca_certs:
        context.load_verify_locations(ca_certs)
    if certfile:
        context.load_cert_chain(certfile, keyfile)
    if ciphers:
        context.set_ciphers(ciphers)
    return context.wrap_socket(
        sock,
        server_side=server_side,
        do_handshake_on_connect=do_handshake_on_connect,
        suppress_ragged_eofs=suppress_ragged_eofs,
    )
