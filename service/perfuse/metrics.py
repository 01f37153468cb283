"""Prometheus metrics of a server: base units, closed label sets, never an id or a prompt.

The front counts requests; the engines' own counters arrive with their heartbeats and are read when scraped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from perfuse import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["diffuse", "plan", "generations", "models", "health", "docs", "other"]
Shed = Literal["overloaded", "unavailable"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
GAUGES = frozenset({"engines_ready", "backlog_seconds", "in_flight", "held"})
"""The engines' values that may fall; all others only grow and are exposed with the suffix `_total`."""
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_PATHS: Mapping[str, Kind] = {
    "diffuse": "diffuse",
    "plan": "plan",
    "generations": "generations",
    "models": "models",
    "livez": "health",
    "readyz": "health",
    "metrics": "health",
    "version": "health",
    "docs": "docs",
    "openapi.json": "docs",
    "problems": "docs",
}


def kind_of(path: str) -> Kind:
    """The label of a path: its first part, without /v1."""
    return _PATHS.get(path.removeprefix("/v1/").lstrip("/").partition("/")[0], "other")


class Metrics:
    """The metrics of one server.

    Args:
        engines: the engines' counters by metric name without the prefix `perfuse_engine_`.
    """

    def __init__(self, engines: Callable[[], Mapping[str, float]] | None = None) -> None:
        self.registry = CollectorRegistry()
        build = Gauge("perfuse_build_info", "1; the labels say what runs", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        self._requests = Counter(
            "perfuse_requests_total", "HTTP requests answered", ["kind", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "perfuse_request_seconds", "from request to answer", ["kind"], buckets=_SECONDS, registry=self.registry
        )
        self._running = Gauge("perfuse_requests_running", "being answered", registry=self.registry)
        self._queue = Histogram(
            "perfuse_queue_seconds",
            "from admission to first step",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._compute = Histogram(
            "perfuse_compute_seconds", "first step to result", ["kind"], buckets=_SECONDS, registry=self.registry
        )
        self._first = Histogram(
            "perfuse_first_preview_seconds",
            "from request to first preview",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._gone = Counter(
            "perfuse_client_gone_total", "clients that left before their answer", ["kind"], registry=self.registry
        )
        self._shed = Counter("perfuse_shed_total", "requests refused for load", ["reason"], registry=self.registry)
        self._restarts = Counter(
            "perfuse_request_restarts_total", "requests begun again after an engine died", registry=self.registry
        )
        ledger = Counter(
            "perfuse_ledger_records_total", "generations to be recorded", ["outcome"], registry=self.registry
        )
        self._lost, self._written = ledger.labels("lost"), ledger.labels("written")
        self._ledger_seconds = Histogram(
            "perfuse_ledger_seconds", "time to record a generation", buckets=_SECONDS, registry=self.registry
        )
        self._children: dict[tuple[str, str], Counter] = {}
        self._histograms: dict[tuple[int, str], Histogram] = {}
        if engines is not None:
            self.registry.register(_Engines(engines))

    def request_begins(self) -> None:
        """A request has arrived."""
        self._running.inc()

    def request_ends(self, kind: Kind, status: int, seconds: float) -> None:
        """A request was answered."""
        self._running.dec()
        key = (kind, str(status))
        if (counter := self._children.get(key)) is None:
            counter = self._children[key] = self._requests.labels(*key)
        counter.inc()
        self._observe(self._seconds, kind, seconds)

    def generated(self, kind: Kind, queue_seconds: float, compute_seconds: float, restarts: int) -> None:
        """An engine has finished a request."""
        self._observe(self._queue, kind, queue_seconds)
        self._observe(self._compute, kind, compute_seconds)
        if restarts:
            self._restarts.inc(restarts)

    def first_preview(self, kind: Kind, seconds: float) -> None:
        """The first preview of a streamed request is on its way."""
        self._observe(self._first, kind, seconds)

    def client_gone(self, kind: Kind) -> None:
        """The client did not wait for its answer."""
        self._gone.labels(kind).inc()

    def shed(self, reason: Shed) -> None:
        """A request was refused for load."""
        self._shed.labels(reason).inc()

    def recorded(self, seconds: float | None) -> None:
        """A generation was recorded in so many seconds, or could not be (None)."""
        (self._lost if seconds is None else self._written).inc()
        if seconds is not None:
            self._ledger_seconds.observe(seconds)

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)

    def _observe(self, histogram: Histogram, kind: Kind, seconds: float) -> None:
        key = (id(histogram), kind)
        if (child := self._histograms.get(key)) is None:
            child = self._histograms[key] = histogram.labels(kind)
        child.observe(seconds)


class _Engines(Collector):
    def __init__(self, engines: Callable[[], Mapping[str, float]]) -> None:
        self._engines = engines

    def describe(self) -> list[Metric]:
        return []  # known only when an engine has spoken

    def collect(self) -> Iterator[Metric]:
        for name, value in sorted(self._engines().items()):
            if _NAME.match(name) is not None:
                kind = GaugeMetricFamily if name in GAUGES else CounterMetricFamily
                prefix = "perfuse_" if name.startswith("engine") else "perfuse_engine_"
                yield kind(prefix + name, "sum over the engines", value=value)
