"""A mail server that takes mail over TLS only, and throws it away.

It speaks as much SMTP as it takes to receive a mail. A client begins in clear text and
asks for TLS with STARTTLS; what somebody on the way has put behind that word is never
taken for what the client says. Without --certificate it makes itself one, which nobody trusts.
Start it, then talk to it from another shell:

    python examples/starttls_server.py
    openssl s_client -quiet -crlf -starttls smtp -connect 127.0.0.1:8011
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import CertificateBuilder, Name, NameAttribute, random_serial_number
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import react

from txasynchat import AsyncChat, AsyncChatFactory
from txasynchat.tls import ReloadableContext

LARGEST_MAIL = 2**20
LINE = b"\r\n"
MAIL = b"\r\n.\r\n"


class MailDrop(AsyncChat):
    """One client, from its EHLO to its QUIT."""

    max_message_length = LARGEST_MAIL
    idle_timeout = 300
    secure = False

    def __init__(self, context: ReloadableContext) -> None:
        self.context = context

    def handle_connect(self) -> None:
        self.set_terminator(LINE)
        self.say(b"220 localhost takes mail")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    async def found_terminator(self) -> None:
        line = self._get_data()
        if self.terminator == MAIL:
            self.set_terminator(LINE)
            self.say(b"250 took %d bytes" % len(line.replace(b"\n..", b"\n.")))
        elif line.upper() == b"STARTTLS" and not self.secure:
            self.say(b"220 go ahead")
            await self.start_tls(self.context)
            self.secure = True  # and all is as in the beginning
        else:
            self.obey(line.split(b" ")[0].upper())

    def obey(self, command: bytes) -> None:
        if command == b"EHLO":
            self.say(b"250 localhost" if self.secure else b"250-localhost\r\n250 STARTTLS")
        elif command == b"QUIT":
            self.say(b"221 bye")
            self.close_when_done()
        elif command in (b"HELO", b"NOOP", b"RSET"):
            self.say(b"250 localhost")
        elif command not in (b"MAIL", b"RCPT", b"DATA"):
            self.say(b"502 no such command")
        elif not self.secure:
            self.say(b"530 STARTTLS comes first")
        elif command == b"DATA":
            self.say(b"354 go ahead, a line with a dot ends it")
            self.set_terminator(MAIL)
            self.ac_in_buffer = b"\r\n" + self.ac_in_buffer  # for a mail without a line
        else:
            self.say(b"250 fine")

    def handle_message_too_long(self) -> None:
        self.say(b"552 too large")
        self.close_when_done()

    def handle_drain(self) -> None:
        # The service stops. A mail under way is still taken, then the connection is closed.
        if self.terminator == LINE:
            self.say(b"421 the server stops, come again")

    def say(self, line: bytes) -> None:
        self.push(line + b"\r\n")


def own_certificate() -> bytes:
    """A key and a certificate for it, PEM, that only this server vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = Name([NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    certificate = (
        CertificateBuilder(name, name, key.public_key(), random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(encoding, form, serialization.NoEncryption())
    return pem + certificate.public_bytes(encoding)


def context_from(certificate: str | None) -> ReloadableContext:
    """What TLS is begun with; under ``twistd asynchat`` SIGHUP loads it again."""

    def load() -> Any:
        pem = own_certificate() if certificate is None else Path(certificate).read_bytes()
        return PrivateCertificate.loadPEM(pem).options()

    return ReloadableContext(load, certificate or "the server's own")


async def main(reactor: Any, listen: str, certificate: str | None) -> None:
    endpoint: Any = serverFromString(reactor, listen)
    port = await endpoint.listen(AsyncChatFactory(MailDrop, context_from(certificate)))
    at = port.getHost()
    print("listening on", f"{at.host}:{at.port}" if hasattr(at, "port") else at, flush=True)
    await Deferred()  # until SIGINT or SIGTERM stops the reactor


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--listen", metavar="ENDPOINT", default="tcp:8011:interface=127.0.0.1")
    parser.add_argument("--certificate", metavar="FILE", help="certificate and key, PEM")
    options = parser.parse_args()
    react(main, [options.listen, options.certificate])
