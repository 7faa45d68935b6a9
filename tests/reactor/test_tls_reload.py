"""ReloadableContext: TLS servers made in code, seen by clients of the standard library."""

from __future__ import annotations

import gc
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet import endpoints
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    trustRootFromCertificates,
)
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from txasynchat.tls import ReloadableContext, reload_all


class Files:
    """A server's certificate in a file, and clients that trust its issuer."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.pem = folder / "server.pem"
        self.authority = authority
        self.renew()

    def renew(self) -> None:
        made = self.authority.issue_cert("localhost")
        made.private_key_and_cert_chain_pem.write_to_path(str(self.pem))

    def load(self) -> CertificateOptions:
        options: CertificateOptions = PrivateCertificate.loadPEM(self.pem.read_bytes()).options()
        return options

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    return Files(tmp_path, authority)


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Upgrades(Protocol):
    """Plain until the client has sent something; then TLS, with an echo."""

    def __init__(self, context: ReloadableContext) -> None:
        self.context = context
        self.is_secure = False

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)
        if not self.is_secure:
            self.is_secure = True
            transport.startTLS(self.context)


@asynccontextmanager
async def serving(endpoint: Any, factory: Any) -> AsyncIterator[tuple[str, int]]:
    factory.noisy = False
    port = await endpoint.listen(factory)
    try:
        yield ("127.0.0.1", port.getHost().port)
    finally:
        await port.stopListening()


def connect(address: tuple[str, int], context: ssl.SSLContext, plain: bytes = b"") -> ssl.SSLSocket:
    client = socket.create_connection(address, timeout=10)
    if plain:
        client.sendall(plain)
        assert client.recv(len(plain)) == plain
    return context.wrap_socket(client, server_hostname="localhost")


def echoed(client: ssl.SSLSocket) -> bytes | None:
    """The server's certificate, after an echo."""
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    return client.getpeercert(binary_form=True)


def seen(address: tuple[str, int], context: ssl.SSLContext, plain: bytes = b"") -> bytes | None:
    with connect(address, context, plain) as client:
        return echoed(client)


@pytest.mark.parametrize("kind", ["SSL4ServerEndpoint", "wrapServerTLS", "startTLS"])
async def test_new_connections_get_what_was_loaded_last_and_old_ones_go_on(
    kind: str, files: Files
) -> None:
    from twisted.internet import reactor

    context = ReloadableContext(files.load, "server.pem")
    endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    factory: Any = Factory.forProtocol(Echo)
    plain = b""
    if kind == "SSL4ServerEndpoint":
        endpoint = SSL4ServerEndpoint(reactor, 0, context, interface="127.0.0.1")
    elif kind == "wrapServerTLS":
        wrap = getattr(endpoints, kind, None)
        if wrap is None:
            pytest.skip(f"this Twisted has no {kind}")
        endpoint = wrap(context, endpoint)
    else:
        factory = Factory.forProtocol(lambda: Upgrades(context))
        plain = b"STARTTLS\r\n"
    async with serving(endpoint, factory) as address:
        old = await deferToThread(connect, address, files.client(), plain)
        first = await deferToThread(echoed, old)
        files.renew()
        assert await deferToThread(seen, address, files.client(), plain) == first
        assert context.reload()
        assert await deferToThread(seen, address, files.client(), plain) != first
        assert await deferToThread(echoed, old) == first
        old.close()


async def test_client_certificates_can_be_asked_for_from_now_on(
    files: Files, authority: trustme.CA
) -> None:
    from twisted.internet import reactor

    roots: list[Certificate] = []

    def load() -> CertificateOptions:
        server = PrivateCertificate.loadPEM(files.pem.read_bytes())
        trusted = trustRootFromCertificates(roots) if roots else None
        return CertificateOptions(server.privateKey.original, server.original, trustRoot=trusted)

    context = ReloadableContext(load, "server.pem")
    endpoint = SSL4ServerEndpoint(reactor, 0, context, interface="127.0.0.1")
    async with serving(endpoint, Factory.forProtocol(Echo)) as address:
        await deferToThread(seen, address, files.client())
        roots.append(Certificate.loadPEM(authority.cert_pem.bytes()))
        assert context.reload()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await deferToThread(seen, address, files.client())
        known = files.client()
        authority.issue_cert("client@example.org").configure_cert(known)
        await deferToThread(seen, address, known)


async def test_what_makes_connections_itself_is_taken_too(files: Files) -> None:
    from OpenSSL.SSL import Connection
    from twisted.internet import reactor

    @implementer(IOpenSSLServerConnectionCreator)
    class Creator:
        def serverConnectionForTLS(self, protocol: Any) -> Any:
            return Connection(files.load().getContext(), None)

    context = ReloadableContext(Creator, "by hand")
    endpoint = SSL4ServerEndpoint(reactor, 0, context, interface="127.0.0.1")
    async with serving(endpoint, Factory.forProtocol(Echo)) as address:
        await deferToThread(seen, address, files.client())


async def test_the_protocol_is_still_negotiated(files: Files) -> None:
    from twisted.internet import reactor

    def load() -> CertificateOptions:
        server = PrivateCertificate.loadPEM(files.pem.read_bytes())
        key, certificate = server.privateKey.original, server.original
        return CertificateOptions(key, certificate, acceptableProtocols=[b"chat"])

    def negotiated(address: tuple[str, int]) -> str | None:
        context = files.client()
        context.set_alpn_protocols(["chat"])
        with connect(address, context) as client:
            return client.selected_alpn_protocol()

    context = ReloadableContext(load, "server.pem")
    endpoint = SSL4ServerEndpoint(reactor, 0, context, interface="127.0.0.1")
    async with serving(endpoint, Factory.forProtocol(Echo)) as address:
        assert await deferToThread(negotiated, address) == "chat"


def test_a_reload_that_fails_is_one_line_that_names_it(files: Files, logged_failures: Any) -> None:
    context = ReloadableContext(files.load, "the mail server's")
    files.pem.write_text("nothing of the kind")
    assert not context.reload()
    (logged,) = logged_failures()
    assert "can't reload the certificates of the mail server's, the old ones stay" in logged
    assert len(logged.splitlines()) == 1


def test_what_openssl_refuses_is_refused_before_a_client_comes(
    files: Files, authority: trustme.CA
) -> None:
    def load() -> CertificateOptions:
        other = authority.issue_cert("localhost")
        key = PrivateCertificate.loadPEM(other.private_key_and_cert_chain_pem.bytes()).privateKey
        certificate = Certificate.loadPEM(files.pem.read_bytes())
        return CertificateOptions(key.original, certificate.original)

    from OpenSSL.SSL import Error

    with pytest.raises(Error):
        ReloadableContext(load, "server.pem")


def test_all_are_reloaded_though_one_fails(files: Files, logged_failures: Any) -> None:
    loads: list[str] = []

    def context(name: str) -> ReloadableContext:
        def load() -> CertificateOptions:
            loads.append(name)
            if name == "b" and loads.count("b") > 1:
                raise ValueError("no more of these")
            return files.load()

        return ReloadableContext(load, name)

    alive = [context(name) for name in "cab"]
    context("d")  # nobody keeps it
    gc.collect()
    loads.clear()
    loads.append("b")
    assert not reload_all()
    assert loads == ["b", "a", "b", "c"]
    assert len(alive) == 3
    assert "ValueError: no more of these" in logged_failures()[0]
