"""The commands of docs/operations.md, and the files whose programs are not here to take them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import ssl
import urllib.request
from configparser import ConfigParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from pages import ROOT, block, changed, commands

if TYPE_CHECKING:
    from docs.conftest import Job, Terminal

PAGE = ROOT / "docs" / "operations.md"
HERE = "tcp:0:interface=127.0.0.1"
GREETING = b"who are you?\nhello, ann\n"


@pytest.fixture
def folder(terminal: Terminal) -> Path:
    """Where greeter.py is."""
    greeter = block("getting-started.md", "file: greeter.py").text
    (terminal.folder / "greeter.py").write_text(greeter)
    return terminal.folder


def port_for_metrics(job: Job) -> int:
    return int(job.wait_for(r"serving metrics on 127\.0\.0\.1:(\d+) ").group(1))


def test_the_first_command_serves(terminal: Terminal, folder: Path) -> None:
    (shown,) = commands(
        block("operations.md", "python -m txasynchat serve --listen tcp:8007 --handler")
    )
    job = terminal.start(changed(shown.line, ("tcp:8007", HERE)))
    assert terminal.ask(job.port("tcp"), b"ann\n") == GREETING


def test_a_certificate_with_its_chain_is_served(terminal: Terminal, folder: Path) -> None:
    authority = trustme.CA()
    between = authority.create_child_ca()
    made = between.issue_cert("localhost")
    made.private_key_pem.write_to_path(str(folder / "privkey.pem"))
    made.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    between.cert_pem.write_to_path(str(folder / "chain.pem"))
    (shown,) = commands(
        block("operations.md", "python -m txasynchat serve --handler greeter:Greeter \\")
    )
    job = terminal.start(changed(shown.line, ("ssl:8443", "ssl:0:interface=127.0.0.1")))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    assert_greets_over_tls(job.port("ssl"), trusting)


def assert_greets_over_tls(port: int, trusting: ssl.SSLContext) -> None:
    with (
        socket.create_connection(("127.0.0.1", port), 30) as plain,
        trusting.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"ann\n")
        said = b""
        while not said.endswith(b"ann\n"):
            said += client.recv(1000)
        assert said == GREETING


def test_the_certificate_that_openssl_makes_is_served(
    terminal: Terminal, folder: Path, openssl: None
) -> None:
    (made,) = commands(block("operations.md", "openssl req -x509"))
    terminal.run(made.line)
    listen = "ssl:0:interface=127.0.0.1:privateKey=privkey.pem:certKey=cert.pem"
    job = terminal.start(f"python -m txasynchat serve --handler greeter:Greeter --listen {listen}")
    trusting = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    assert_greets_over_tls(job.port("ssl"), trusting)


def test_the_hook_of_certbot_reloads_the_unit_that_is_shown() -> None:
    # Certbot needs an authority that can be reached. Its hook is a shell line.
    (shown,) = commands(block("operations.md", "certbot renew"))
    *_, option, hook = shlex.split(shown.line)
    assert (option, hook) == ("--deploy-hook", "systemctl reload chat")
    unit = unit_of(block("operations.md", "file: chat.service").text)
    assert "-HUP" in unit["Service"]["ExecReload"]


def unit_of(text: str) -> ConfigParser:
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text.replace("\\\n", " "))
    return unit


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not here to read its units"
)
def test_systemd_takes_the_units(terminal: Terminal) -> None:
    for file in (
        block("operations.md", "file: chat.socket"),
        block("operations.md", "file: chat.service"),
    ):
        # The program is not at that place here.
        text = file.text.replace("/opt/chat/.venv/bin/python", "/bin/true")
        (terminal.folder / file.file).write_text(text)
    assert terminal.run("systemd-analyze verify --man=no ./chat.service ./chat.socket") == ""


def test_the_units_have_the_directives_that_the_page_explains() -> None:
    service = unit_of(block("operations.md", "file: chat.service").text)
    listening = unit_of(block("operations.md", "file: chat.socket").text)
    assert listening["Socket"]["ListenStream"] == "0.0.0.0:8007"
    assert service["Unit"]["Requires"] == "chat.socket"
    assert "systemd:domain=INET:index=0" in service["Service"]["ExecStart"]
    drain = int(re.findall(r"--drain-timeout (\d+)", service["Service"]["ExecStart"])[0])
    assert int(service["Service"]["TimeoutStopSec"]) >= drain + 15


@pytest.mark.skipif(shutil.which("jq") is None, reason="there is no jq here: apt install jq")
def test_jq_reads_the_log(terminal: Terminal) -> None:
    (shown,) = commands(block("operations.md", "twist --log-format=json asynchat"))
    # What twist writes is shown besides, to see where it listens; and jq does not wait for more.
    line = changed(
        shown.line,
        ("tcp:8007", HERE),
        ("| sed", "| tee /dev/stderr | sed"),
        ("jq", "jq --unbuffered"),
    )
    job = terminal.start(line)
    terminal.ask(int(job.wait_for(r"Connections starting on (\d+)").group(1)), b"ECHO 5\nhello")
    ended = json.loads(job.wait_for(r"(?m)^\[.*\]$").group())
    assert ended[1] == "handler"
    assert ended[3] == len(b"ECHO 5\nhello")


def test_workers_serve_and_their_numbers_are_those_that_prometheus_is_told_of(
    terminal: Terminal, folder: Path
) -> None:
    pytest.importorskip("prometheus_client")
    (shown,) = commands(block("operations.md", "python -m txasynchat serve --workers 4"))
    line = changed(shown.line, ("tcp:8007", HERE), ("tcp:9107:", "tcp:0:"))
    job = terminal.start(line)
    metrics = port_for_metrics(job)
    assert terminal.ask(job.port("tcp"), b"ann\n") == GREETING
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=30) as answer:
        assert b"txasynchat_workers 4.0" in answer.read()


def test_prometheus_is_told_of_the_port_of_the_metrics() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra docs")
    (job,) = yaml.safe_load(block("operations.md", "scrape_configs:").text)["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    assert f"--metrics tcp:{port}:interface={host}" in PAGE.read_text()


def test_a_proxy_header_is_read(terminal: Terminal, folder: Path) -> None:
    (shown,) = commands(block("operations.md", "python -m txasynchat serve --listen haproxy:"))
    job = terminal.start(changed(shown.line, ("haproxy:tcp:8007", f"haproxy:{HERE}")))
    header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 8007\r\n"
    assert terminal.hear(job.port("haproxy"), header + b"ann\n", b"ann\n") == GREETING
    job.wait_for("connection 1 from 192.0.2.7:4711 opened")


def test_the_log_tells_of_a_drain_in_the_lines_that_are_shown(
    terminal: Terminal, folder: Path
) -> None:
    shown = block("operations.md", "draining: connections that may finish")
    job = terminal.start(
        f"exec python -m txasynchat serve --handler greeter:Greeter --listen {HERE} "
        "--drain-timeout 0.2"
    )
    with socket.create_connection(("127.0.0.1", job.port("tcp")), 30) as client:
        client.sendall(b"ann\nhalf of a na")
        said = b""
        while not said.endswith(b"ann\n"):
            said += client.recv(1000)
        job.stop()
    lines = "\n".join(re.findall(r"#info\] (drain.*)", job.output)) + "\n"
    assert without_numbers(lines) == without_numbers(shown.text)
    assert job.process.returncode == 0


def without_numbers(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "N", text)


def test_docker_is_told_what_the_image_expects() -> None:
    # There is no daemon on a bare machine: what can be wrong is that the two differ.
    build, run, stop = commands(block("operations.md", "docker build"))
    tag = shlex.split(build.line)[3]
    assert shlex.split(run.line)[-1] == tag
    image = block("operations.md", "file: Dockerfile").text
    (port,) = re.findall(r"^EXPOSE (\d+)$", image, re.MULTILINE)
    assert f"-p {port}:{port}" in run.line
    assert f"tcp:{port}" in image
    assert f"`{' '.join(shlex.split(stop.line)[:4])}`" in PAGE.read_text()


def test_the_dockerfile_has_instructions_that_docker_knows() -> None:
    text = block("operations.md", "file: Dockerfile").text.replace("\\\n", " ")
    words = {line.split()[0] for line in text.splitlines()}
    assert words <= {
        *("FROM", "COPY", "RUN", "WORKDIR", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD")
    }
    for form in re.findall(r"^(?:HEALTHCHECK )?CMD (.*)$", text, re.MULTILINE):
        assert json.loads(form)[0] == "python"
