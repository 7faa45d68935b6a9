"""The numbers of a service, for Prometheus. Needs ``pip install 'txasynchat[metrics]'``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric
    from twisted.web.server import Request, Site

__all__ = ("add_up", "metrics_site")

_log = Logger()

_Numbers = Mapping[str, Any]

# By the key in a handler's numbers: the metric, and what its help says.
_GAUGES = {
    "connections_open": ("connections_open", "Connections that are open."),
    "queued_output": ("queued_output_bytes", "Output that waits in open connections."),
}
_COUNTERS = {
    "connections_accepted": ("connections_accepted", "Connections that a handler was given."),
    "handler_errors": ("handler_errors", "Exceptions out of callbacks and producers."),
    "bytes_in": ("received_bytes", "Bytes received, as handlers see them (TLS taken off)."),
    "bytes_out": ("sent_bytes", "Bytes given to be sent, before TLS is put on."),
    "messages_in": ("received_messages", "Messages received: terminators found."),
    "messages_out": ("sent_messages", "Messages and producers that handlers pushed."),
}
# The same of numbers that are counted by something, with the label that names it.
_COUNTERS_BY = {
    "connections_refused": (
        "connections_refused",
        "limit",
        "Connections closed at once because of a limit, before a handler was told.",
    ),
    "connections_ended": (
        "connections_ended",
        "reason",
        "Connections that ended, by who ended them or why.",
    ),
    "limits_hit": ("limits_hit", "limit", "Times that a connection reached one of its limits."),
    "pauses": ("pauses", "reason", "Times that input was paused."),
}


def add_up(parts: Iterable[_Numbers]) -> dict[str, Any]:
    """Add the numbers of several processes.

    :param parts: dicts of numbers, or of such dicts, as deep as you like.
    :return: a new dict that has the keys of all of them; what is missing counts 0.

    >>> add_up([{"workers": 1, "pauses": {"output full": 2}}, {"workers": 1, "pauses": {}}])
    {'workers': 2, 'pauses': {'output full': 2}}
    """
    total: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, Mapping):
                total[key] = add_up([total.get(key, {}), value])
            else:
                total[key] = total.get(key, 0) + value
    return total


def metrics_site(numbers: Callable[[], _Numbers | Deferred[_Numbers]]) -> Site:
    """What serves ``GET /metrics``, and nothing else, on any server endpoint.

    Besides the service's numbers it tells those of the process that serves them
    (memory, descriptors, processor time) and of its garbage collector.

    :param numbers: called for each scrape; what ``Connections.numbers()`` returns,
        or a Deferred of that. If it fails, the scrape is answered with 503, and the
        log says why. The Deferred is cancelled when the scraper hangs up.
    :raise ImportError: if prometheus_client is not installed; says how to install it.

    >>> handler = {"connections_open": 3, "pauses": {"output full": 2}}
    >>> site = metrics_site(lambda: {"handlers": {"EchoHandler": handler}, "workers": 1})
    >>> site.noisy
    False
    """
    try:
        registry = _registry()
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise ImportError(
            "metrics need prometheus_client: pip install prometheus_client"
        ) from error
    from twisted.web.server import Site

    class QuietSite(Site):
        noisy = False
        displayTracebacks = False

        def log(self, request: Any) -> None:
            """Nothing: a line for each scrape is of no use to anybody."""

    site: Site = QuietSite(_Exposition(numbers, registry))  # type: ignore[no-untyped-call]
    return site


def _registry() -> CollectorRegistry:
    from prometheus_client import (
        CollectorRegistry,
        GCCollector,
        PlatformCollector,
        ProcessCollector,
    )

    registry = CollectorRegistry()
    GCCollector(registry)
    PlatformCollector(registry)
    ProcessCollector(registry=registry)
    return registry


class _Exposition:
    """The resource of everything; a leaf, which decides by itself."""

    isLeaf = True

    def __init__(self, numbers: Callable[[], Any], registry: CollectorRegistry) -> None:
        self._numbers = numbers
        self._registry = registry
        self._collector = _Collector()
        collector: Any = self._collector  # it need not be a subclass of theirs
        registry.register(collector)

    def render(self, request: Request) -> bytes | int:
        """Answer. Twisted calls this."""
        if request.path != b"/metrics":
            return _refusal(request, 404, b"there is only /metrics\n")
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return _refusal(request, 405, b"only GET and HEAD\n")
        from twisted.web.server import NOT_DONE_YET

        scrape = _Scrape(request)
        counted: Deferred[Any] = maybeDeferred(self._numbers)
        request.notifyFinish().addErrback(lambda _: scrape.hung_up(counted))
        counted.addCallback(self._expose, request)
        counted.addCallbacks(scrape.answer, scrape.failed)
        return NOT_DONE_YET

    def _expose(self, numbers: _Numbers, request: Request) -> bytes:
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(request.getHeader("accept") or "")
        self._collector.numbers = numbers
        text: bytes = encode(self._registry)
        request.setHeader(b"content-type", content_type.encode())
        return text


class _Scrape:
    """One request: answered, or given up by who made it."""

    def __init__(self, request: Request) -> None:
        self._request: Request | None = request

    def hung_up(self, counted: Deferred[Any]) -> None:
        self._request = None
        counted.cancel()

    def answer(self, text: bytes) -> None:
        if self._request is not None:
            self._request.setHeader(b"content-length", b"%d" % len(text))
            self._request.write(text)
            self._request.finish()

    def failed(self, failure: Failure) -> None:
        if self._request is not None:
            why = " ".join(f"{type(failure.value).__name__}: {failure.value}".split())
            _log.error("no numbers for /metrics: {why}", why=why)
            self.answer(_refusal(self._request, 503, b"no numbers: see the log\n"))


def _refusal(request: Request, code: int, why: bytes) -> bytes:
    request.setResponseCode(code)
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    return why


class _Collector:
    """What prometheus_client asks for metrics."""

    numbers: _Numbers = {}

    def collect(self) -> Iterator[Metric]:
        """The metrics of the last numbers."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        handlers = self.numbers.get("handlers", {})
        for key, (name, help) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"txasynchat_{name}", help, labels=["handler"])
            yield _filled(gauge, _plain(handlers, key))
        for key, (name, help) in _COUNTERS.items():
            counter = CounterMetricFamily(f"txasynchat_{name}", help, labels=["handler"])
            yield _filled(counter, _plain(handlers, key))
        for key, (name, label, help) in _COUNTERS_BY.items():
            counter = CounterMetricFamily(f"txasynchat_{name}", help, labels=["handler", label])
            yield _filled(counter, _by_label(handlers, key))
        if "workers" in self.numbers:
            help = "Processes that serve connections."
            yield GaugeMetricFamily("txasynchat_workers", help, value=self.numbers["workers"])


_Samples = Iterator[tuple[list[str], float]]


def _plain(handlers: _Numbers, key: str) -> _Samples:
    for handler, counts in handlers.items():
        if key in counts:
            yield [handler], counts[key]


def _by_label(handlers: _Numbers, key: str) -> _Samples:
    for handler, counts in handlers.items():
        for what, count in counts.get(key, {}).items():
            yield [handler, str(what)], count


def _filled(family: Any, samples: _Samples) -> Metric:
    for labels, value in samples:
        family.add_metric(labels, value)
    filled: Metric = family
    return filled
