"""What the API counts about itself, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest


class Meters:
    """Counters in a registry of their own, so that several apps in one process do not share them."""

    def __init__(self) -> None:
        """Begin with zero."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "serai_http_requests", "Requests, by route, method and status.", ["route", "method", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "serai_http_request_seconds", "How long requests took, by route.", ["route"], registry=self._registry,
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 30),
        )  # fmt: skip
        self._streams = Gauge("serai_http_streams", "Streams that are open.", registry=self._registry)

    def served(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request is over. Status 0: an error was raised, which is told outside."""
        self._requests.labels(route, method, str(status or "error")).inc()
        self._seconds.labels(route).observe(seconds)

    def streams(self, number: int) -> None:
        """So many streams are open now."""
        self._streams.set(number)

    def text(self) -> bytes:
        """Write all of it."""
        return generate_latest(self._registry)
