"""Prometheus figures of the API, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class Metrics:
    """Labels are route patterns, never paths: their number is bounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "morgan_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "morgan_http_seconds", "Time to answer, seconds.", ["route"], buckets=BUCKETS_S, registry=self.registry
        )
        self.waiting = Gauge("morgan_llm_queue", "Requests waiting for the LLM.", registry=self.registry)

    def seen(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """The text format 0.0.4."""
        return generate_latest(self.registry)
