"""An HTTP request handler: headers up to a blank line, then a counted body.

GET tells what was asked for, POST sends its body back. Each connection carries
one request. (It shows how terminators change; for a web server use twisted.web.)
Start it, then talk to it from another shell:

    python examples/http_server.py
    curl --data hello http://127.0.0.1:8008/
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react

from txasynchat import AsyncChat


class RequestError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class HTTPHandler(AsyncChat):
    """One request and its response."""

    idle_timeout = 30
    max_message_length = 16 * 1024  # the headers: a counted body has a limit of its own
    max_body_length = 1024 * 1024
    method = ""

    def handle_connect(self) -> None:
        self.set_terminator(b"\r\n\r\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        try:
            if self.matched:
                self.handle_head(self._get_data())
            else:  # a number of bytes matches nothing: this is the body
                self.respond(200, self._get_data(), "application/octet-stream")
        except RequestError as error:
            self.refuse(error.status, str(error))

    def handle_message_too_long(self) -> None:
        self.refuse(431, f"the headers are longer than {self.max_message_length} bytes")

    def handle_timeout(self) -> None:
        self.refuse(408, f"nothing came for {self.idle_timeout} seconds")

    def handle_head(self, head: bytes) -> None:
        self.method, target, headers = parse_head(head)
        if self.method in ("GET", "HEAD"):
            self.respond(200, f"You asked for {target}\n".encode("latin-1"))
        elif self.method == "POST":
            self.expect_body(headers)
        else:
            raise RequestError(405, "GET, HEAD and POST are understood here")

    def expect_body(self, headers: dict[str, str]) -> None:
        length = body_length(headers)
        if length > self.max_body_length:
            raise RequestError(413, f"at most {self.max_body_length} bytes are taken")
        if headers.get("expect", "").lower() == "100-continue":
            self.push(b"HTTP/1.1 100 Continue\r\n\r\n")
        if length:
            self.set_terminator(length)
        else:  # 0 would mean: collect everything
            self.respond(200, b"", "application/octet-stream")

    def refuse(self, status: int, why: str) -> None:
        self.respond(status, why.encode("latin-1", "replace") + b"\n")

    def respond(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        head = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        if status == 405:
            head.append("Allow: GET, HEAD, POST")
        self.push("\r\n".join([*head, "", ""]).encode("latin-1"))
        if self.method != "HEAD":
            self.push(body)
        # From here on nothing is delivered: what came behind the request is ignored.
        self.close_when_done()


def parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """The method, the target and the headers, whose names are made lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    request = re.fullmatch(r"([A-Za-z]+) ([!-~]+) HTTP/1\.[01]", first)
    if request is None:
        raise RequestError(400, "expected: METHOD TARGET HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        header = re.fullmatch(r"([^\s:]+):[ \t]*(.*?)[ \t]*", line)
        if header is None:
            raise RequestError(400, f"not a header: {line!r}")
        name, value = header[1].lower(), header[2]
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return request[1], request[2], headers


def body_length(headers: dict[str, str]) -> int:
    if "content-length" not in headers or "transfer-encoding" in headers:
        raise RequestError(411, "expected: a Content-Length, and no Transfer-Encoding")
    length = headers["content-length"]
    if not re.fullmatch(r"[0-9]{1,18}", length):
        raise RequestError(400, f"not a Content-Length: {length!r}")
    return int(length)


async def main(reactor: Any, listen: str) -> None:
    endpoint: Any = serverFromString(reactor, listen)
    port = await endpoint.listen(Factory.forProtocol(HTTPHandler))
    at = port.getHost()
    print("listening on", f"{at.host}:{at.port}" if hasattr(at, "port") else at, flush=True)
    await Deferred()  # until SIGINT or SIGTERM stops the reactor


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--listen", metavar="ENDPOINT", default="tcp:8008:interface=127.0.0.1")
    react(main, [parser.parse_args().listen])
