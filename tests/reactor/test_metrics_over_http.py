"""The exposition, scraped by clients that know nothing of Twisted."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as open_metrics
from support import until
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, globalLogPublisher

from txasynchat.metrics import metrics_site

NUMBERS = {
    "handlers": {
        "EchoHandler": {
            "connections_open": 3,
            "connections_accepted": 10,
            "connections_refused": {"max_connections": 1, "max_per_peer": 0},
            "connections_ended": {"peer": 5, "handler": 2, "timeout": 0, "drain": 0},
            "limits_hit": {"max_message_length": 1},
            "handler_errors": 4,
            "bytes_in": 1000,
            "bytes_out": 2000,
            "messages_in": 30,
            "messages_out": 40,
            "queued_output": 50,
            "pauses": {"output full": 6},
        },
        'Odd "name"\n': {"connections_open": 1},
    },
    "workers": 2,
}
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@asynccontextmanager
async def serving(numbers: Callable[[], Any]) -> AsyncIterator[int]:
    from twisted.internet import reactor

    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await endpoint.listen(metrics_site(numbers))
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()


class Answer:
    """What an HTTP client of the standard library got."""

    def __init__(self, port: int, path: str, method: str, accept: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {"Accept": accept, "Connection": "close"} if accept else {"Connection": "close"}
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        self.status = response.status
        self.type = response.headers["Content-Type"]
        self.length = response.headers["Content-Length"]
        self.text = response.read().decode()
        connection.close()


def scrape(
    port: int, path: str = "/metrics", method: str = "GET", accept: str = ""
) -> Deferred[Answer]:
    return deferToThread(Answer, port, path, method, accept)


def samples(families: Any) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


EXPECTED = {
    ("txasynchat_connections_open", "EchoHandler"): 3,
    ("txasynchat_connections_open", 'Odd "name"\n'): 1,
    ("txasynchat_connections_accepted_total", "EchoHandler"): 10,
    ("txasynchat_connections_refused_total", "EchoHandler", "max_connections"): 1,
    ("txasynchat_connections_refused_total", "EchoHandler", "max_per_peer"): 0,
    ("txasynchat_connections_ended_total", "EchoHandler", "peer"): 5,
    ("txasynchat_connections_ended_total", "EchoHandler", "handler"): 2,
    ("txasynchat_connections_ended_total", "EchoHandler", "timeout"): 0,
    ("txasynchat_connections_ended_total", "EchoHandler", "drain"): 0,
    ("txasynchat_limits_hit_total", "EchoHandler", "max_message_length"): 1,
    ("txasynchat_handler_errors_total", "EchoHandler"): 4,
    ("txasynchat_received_bytes_total", "EchoHandler"): 1000,
    ("txasynchat_sent_bytes_total", "EchoHandler"): 2000,
    ("txasynchat_received_messages_total", "EchoHandler"): 30,
    ("txasynchat_sent_messages_total", "EchoHandler"): 40,
    ("txasynchat_queued_output_bytes", "EchoHandler"): 50,
    ("txasynchat_pauses_total", "EchoHandler", "output full"): 6,
    ("txasynchat_workers",): 2,
}


async def test_a_scrape_tells_every_number() -> None:
    async with serving(lambda: NUMBERS) as port:
        answer = await scrape(port)
    assert answer.status == 200
    assert answer.type.startswith("text/plain; version=")
    assert int(answer.length) == len(answer.text.encode())
    found = samples(parser.text_string_to_metric_families(answer.text))
    assert {key: found[key] for key in found if key[0].startswith("txasynchat_")} == EXPECTED


async def test_a_scraper_that_asks_for_open_metrics_gets_it() -> None:
    async with serving(lambda: NUMBERS) as port:
        answer = await scrape(port, accept=OPEN_METRICS)
    assert answer.type.startswith("application/openmetrics-text; version=1.0.0")
    parse: Any = open_metrics.text_string_to_metric_families
    found = samples(parse(answer.text))
    assert {key: found[key] for key in found if key[0].startswith("txasynchat_")} == EXPECTED


async def test_every_metric_has_its_help_and_the_process_is_told_of_too() -> None:
    async with serving(lambda: NUMBERS) as port:
        answer = await scrape(port)
    families = list(parser.text_string_to_metric_families(answer.text))
    assert all(family.documentation for family in families)
    assert {"process_open_fds", "python_info"} <= {family.name for family in families}


async def test_each_scrape_asks_again_and_may_have_to_wait() -> None:
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    count = iter(range(1, 3))

    def numbers() -> Any:
        return deferLater(reactor, 0.01, lambda: {"workers": next(count)})

    async with serving(numbers) as port:
        first, second = await scrape(port), await scrape(port)
    assert "txasynchat_workers 1.0" in first.text
    assert "txasynchat_workers 2.0" in second.text


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics/x", "/favicon.ico"])
async def test_there_is_nothing_else(path: str) -> None:
    async with serving(lambda: NUMBERS) as port:
        assert (await scrape(port, path)).status == 404


async def test_nothing_can_be_sent_to_it() -> None:
    async with serving(lambda: NUMBERS) as port:
        assert (await scrape(port, method="POST")).status == 405


async def test_curl_gets_it_and_its_head() -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl")
    async with serving(lambda: NUMBERS) as port:
        url = f"http://127.0.0.1:{port}/metrics?name=x"
        got, head = [
            await deferToThread(
                subprocess.run, [curl, "-sS", "--max-time", "10", *more, url], capture_output=True
            )
            for more in ([], ["--head"])
        ]
    assert b'txasynchat_connections_open{handler="EchoHandler"} 3.0\n' in got.stdout
    assert head.stdout.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.stdout.endswith(b"\r\n\r\n")


def refuse() -> Any:
    raise ZeroDivisionError("no\nnumbers")


def refuse_later() -> Any:
    from twisted.internet.defer import fail

    return fail(ZeroDivisionError("no\nnumbers"))


@pytest.mark.parametrize("numbers", [refuse, refuse_later])
async def test_numbers_that_fail_are_an_answer_and_one_line_in_the_log(
    numbers: Callable[[], Any], logged_failures: Any
) -> None:
    async with serving(numbers) as port:
        answer = await scrape(port)
    assert (answer.status, answer.text) == (503, "no numbers: see the log\n")
    assert logged_failures() == ["no numbers for /metrics: ZeroDivisionError: no numbers"]


async def test_a_scraper_that_hangs_up_is_waited_for_no_more() -> None:
    cancelled: list[Deferred[Any]] = []
    asked: list[Deferred[Any]] = []

    def numbers() -> Any:
        asked.append(Deferred(cancelled.append))
        return asked[-1]

    async with serving(numbers) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: asked)
        await until(lambda: cancelled)


async def test_scrapes_are_not_logged() -> None:
    logged: list[Any] = []
    observer = cast(ILogObserver, logged.append)
    async with serving(lambda: NUMBERS) as port:
        globalLogPublisher.addObserver(observer)
        await scrape(port)
        await scrape(port, "/nothing")
        globalLogPublisher.removeObserver(observer)
    assert logged == []
