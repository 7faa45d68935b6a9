"""Mail clients that know nothing of Twisted: smtplib, and OpenSSL's own."""

from __future__ import annotations

import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

if TYPE_CHECKING:
    from examples.conftest import Address, Client, Example

MAIL = "Subject: hello\n\n.one line begins with a dot\n"


@pytest.fixture
def trusting() -> ssl.SSLContext:
    """What a client needs to take a certificate that nobody vouches for."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture
def client(address: Address) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP(*address, timeout=20) as connected:
        yield connected


def test_a_mail_is_taken_over_tls(client: smtplib.SMTP, trusting: ssl.SSLContext) -> None:
    client.starttls(context=trusting)
    assert client.sendmail("ann@localhost", ["bob@localhost"], MAIL) == {}


def test_a_mail_without_a_line_is_a_mail(client: smtplib.SMTP, trusting: ssl.SSLContext) -> None:
    client.starttls(context=trusting)
    assert client.docmd("DATA")[0] == 354
    assert client.docmd(".") == (250, b"took 0 bytes")


def test_tls_is_offered_once(client: smtplib.SMTP, trusting: ssl.SSLContext) -> None:
    client.ehlo()
    assert client.has_extn("starttls")
    client.starttls(context=trusting)
    client.ehlo()
    assert not client.has_extn("starttls")
    assert client.docmd("STARTTLS")[0] == 502


def test_no_mail_is_taken_in_clear(client: smtplib.SMTP) -> None:
    assert client.docmd("MAIL FROM:<ann@localhost>")[0] == 530


def test_a_mail_that_is_too_large_is_refused(
    client: smtplib.SMTP, trusting: ssl.SSLContext
) -> None:
    client.starttls(context=trusting)
    with pytest.raises(smtplib.SMTPDataError, match="552"):
        client.sendmail("ann@localhost", ["bob@localhost"], ("x" * 1000 + "\n") * 1050)


def test_what_stands_behind_starttls_in_clear_is_never_obeyed(
    connect: Callable[[], Client],
) -> None:
    client = connect()
    assert client.line() == b"220 localhost takes mail\r\n"
    client.send(b"STARTTLS\r\nNOOP\r\n")
    with suppress(ConnectionResetError):  # it is cut
        assert client.rest() in (b"", b"220 go ahead\r\n")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_s_client_gets_through(address: Address) -> None:
    done = subprocess.run(
        [
            *("openssl", "s_client", "-quiet", "-crlf"),
            *("-starttls", "smtp", "-connect", f"{address[0]}:{address[1]}"),
        ],
        input=b"EHLO me\nMAIL FROM:<a>\nRCPT TO:<b>\nDATA\nhello\n.\nQUIT\n",
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.stdout.split(b"\r\n")[-4:] == [
        b"354 go ahead, a line with a dot ends it",
        b"250 took 7 bytes",
        b"221 bye",
        b"",
    ]


def test_it_shows_the_certificate_it_is_given(
    tmp_path: Path, start: Callable[..., Example]
) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    made.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    example = start(
        "starttls_server",
        *("--listen", "tcp:0:interface=127.0.0.1"),
        *("--certificate", str(tmp_path / "server.pem")),
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with smtplib.SMTP(*example.address(), timeout=20) as client:
        assert client.starttls(context=context)[0] == 220
    example.stop()
