"""Prometheus metrics of a server: base units, closed label sets, never an id or a prompt.

The front counts requests; the engines' own counters arrive with their heartbeats and are read when scraped. What is
counted for every request is kept in plain numbers on the front's one thread: with locks it cost 6 % of a request.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from perfuse import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal[
    "diffuse",
    "plan",
    "completions",
    "chat",
    "mcp",
    "feedback",
    "learned",
    "generations",
    "models",
    "health",
    "docs",
    "other",
]
Shed = Literal["overloaded", "unavailable"]
Trust = Literal["usual", "unsure", "novel", "uncalibrated"]
"""How an output stands beside the right ones of its model's calibration."""
Verdict = Literal["reward", "accepted", "correction", "outcome", "verifier", "verified_correction"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BOUNDS = (*map(str, _SECONDS), "+Inf")
GAUGES = frozenset({"engines_ready", "backlog_seconds", "in_flight", "held"})
"""The engines' values that may fall; all others only grow and are exposed with the suffix `_total`."""
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_PATHS: Mapping[str, Kind] = {
    "diffuse": "diffuse",
    "plan": "plan",
    "completions": "completions",
    "chat": "chat",
    "mcp": "mcp",
    "feedback": "feedback",
    "adapters": "learned",
    "evolution": "learned",
    "memories": "learned",
    "generations": "generations",
    "models": "models",
    "livez": "health",
    "readyz": "health",
    "metrics": "health",
    "version": "health",
    "": "docs",
    "console": "docs",
    "docs": "docs",
    "openapi.json": "docs",
    "problems": "docs",
}


@dataclass(frozen=True, slots=True)
class _Stage:
    """What is exposed of one stage of learning: a counter if the name ends so, else a gauge."""

    name: str
    documentation: str
    label: str
    values: tuple[str, ...]


_STAGES: Mapping[str, _Stage] = {
    "feedback": _Stage(
        "perfuse_evolution_feedback_items",
        "feedback in the store",
        "state",
        ("new", "curated", "quarantined", "superseded"),
    ),
    "jobs": _Stage(
        "perfuse_evolution_jobs", "trainings", "state", ("queued", "running", "done", "failed", "cancelled")
    ),
    "adaptations": _Stage(
        "perfuse_evolution_adaptations",
        "adaptations",
        "state",
        ("candidate", "canary", "champion", "retired", "rejected"),
    ),
    "gates": _Stage(
        "perfuse_evolution_gates_total",
        "adaptations that the gate judged",
        "outcome",
        ("promote", "unproven", "reject"),
    ),
    "pairs": _Stage(
        "perfuse_evolution_canary_pairs_total",
        "live requests answered by canary and champion",
        "outcome",
        ("won", "lost", "even"),
    ),
    "moves": _Stage(
        "perfuse_evolution_moves_total",
        "champions made, canaries withdrawn, champions rolled back",
        "move",
        ("promoted", "withdrawn", "rolled_back"),
    ),
}


def kind_of(path: str) -> Kind:
    """The label of a path: its first part, without /v1."""
    return _PATHS.get(path.removeprefix("/v1/").lstrip("/").partition("/")[0], "other")


class Metrics:
    """The metrics of one server. Used from one thread.

    Args:
        engines: the engines' counters by metric name without the prefix `perfuse_engine_`.
    """

    def __init__(self, engines: Callable[[], Mapping[str, float]] | None = None) -> None:
        self.registry = CollectorRegistry()
        build = Gauge("perfuse_build_info", "1; the labels say what runs", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        self._answered = _Answered()
        self._seconds = _Histogram("perfuse_request_seconds", "from request to answer", "kind")
        self._queue = _Histogram("perfuse_queue_seconds", "from admission to first step", "kind")
        self._compute = _Histogram("perfuse_compute_seconds", "first step to result", "kind")
        self._first = _Histogram("perfuse_first_preview_seconds", "from request to first preview", "kind")
        self._gone = Counter(
            "perfuse_client_gone_total", "clients that left before their answer", ["kind"], registry=self.registry
        )
        self._outputs = _Outputs()
        self._shed = Counter("perfuse_shed_total", "requests refused for load", ["reason"], registry=self.registry)
        self._restarts = Counter(
            "perfuse_request_restarts_total", "requests begun again after an engine died", registry=self.registry
        )
        self._ledger = _Histogram("perfuse_ledger_seconds", "time to record a generation")
        self._records = _Records(self._ledger)
        self._feedback = Counter(
            "perfuse_feedback_total", "feedback accepted, by what it says", ["verdict"], registry=self.registry
        )
        self._inbox = _Histogram("perfuse_inbox_seconds", "time to keep feedback durably")
        self._depth = _Depth()
        self._evolution = _Evolution()
        for collector in (
            self._answered,
            self._seconds,
            self._queue,
            self._compute,
            self._first,
            self._outputs,
            self._records,
            self._ledger,
            self._inbox,
            self._depth,
            self._evolution,
        ):
            self.registry.register(collector)
        if engines is not None:
            self.registry.register(_Engines(engines))

    def request_begins(self) -> None:
        """A request has arrived."""
        self._answered.running += 1

    def request_ends(self, kind: Kind, status: int, seconds: float) -> None:
        """A request was answered."""
        self._answered.running -= 1
        self._answered.count[kind, status] += 1
        self._seconds.observe(seconds, kind)

    def generated(self, kind: Kind, queue_seconds: float, compute_seconds: float, restarts: int) -> None:
        """An engine has finished a request."""
        self._queue.observe(queue_seconds, kind)
        self._compute.observe(compute_seconds, kind)
        if restarts:
            self._restarts.inc(restarts)

    def output(self, trust: Trust) -> None:
        """A text was generated that is as sure as right ones are, or not."""
        self._outputs.count[trust] += 1

    def first_preview(self, kind: Kind, seconds: float) -> None:
        """The first preview of a streamed request is on its way."""
        self._first.observe(seconds, kind)

    def client_gone(self, kind: Kind) -> None:
        """The client did not wait for its answer."""
        self._gone.labels(kind).inc()

    def shed(self, reason: Shed) -> None:
        """A request was refused for load."""
        self._shed.labels(reason).inc()

    def recorded(self, seconds: float | None) -> None:
        """A generation was recorded in so many seconds, or could not be (None)."""
        if seconds is None:
            self._records.lost += 1
        else:
            self._ledger.observe(seconds)

    def feedback(self, verdict: Verdict, seconds: float) -> None:
        """Feedback was kept in so many seconds."""
        self._feedback.labels(verdict).inc()
        self._inbox.observe(seconds)

    def inbox(self, states: Mapping[str, int]) -> None:
        """How many items the inbox holds now, by state; none of them if it does not say."""
        self._depth.states = states

    def evolution(self, counts: Mapping[str, object] | None) -> None:
        """What the evolution worker counts, stage by stage and label by label; None where none is there."""
        self._evolution.counts = counts

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)


class _Answered(Collector):
    """Requests that are being answered, and were, by kind and status."""

    def __init__(self) -> None:
        self.running = 0
        self.count: defaultdict[tuple[Kind, int], int] = defaultdict(int)

    def collect(self) -> Iterator[Metric]:
        answered = CounterMetricFamily("perfuse_requests_total", "HTTP requests answered", labels=["kind", "status"])
        for (kind, status), count in self.count.items():
            answered.add_metric([kind, str(status)], count)
        yield answered
        yield GaugeMetricFamily("perfuse_requests_running", "being answered", value=self.running)


class _Outputs(Collector):
    """Generated texts, by how they stand beside right ones."""

    def __init__(self) -> None:
        self.count: dict[Trust, int] = dict.fromkeys(get_args(Trust), 0)

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "perfuse_text_outputs_total", "texts generated, by how sure they are", labels=["trust"]
        )
        for trust, count in self.count.items():
            family.add_metric([trust], count)
        yield family


class _Histogram(Collector):
    """A histogram over `_SECONDS`, by the values of at most one label."""

    def __init__(self, name: str, documentation: str, label: str | None = None) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = [] if label is None else [label]
        self._series: dict[str, _Series] = {} if self._labels else {"": _Series()}

    def observe(self, seconds: float, value: str = "") -> None:
        """Count one observation under a value of the label."""
        if (series := self._series.get(value)) is None:
            series = self._series[value] = _Series()
        series.counts[bisect_left(_SECONDS, seconds)] += 1
        series.total += seconds

    @property
    def observations(self) -> int:
        """How many there were, over all labels."""
        return sum(sum(series.counts) for series in self._series.values())

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for value, series in self._series.items():
            buckets = list(zip(_BOUNDS, accumulate(series.counts), strict=True))
            family.add_metric([value] if self._labels else [], buckets, series.total)
        yield family


class _Series:
    """Observations of one label value: how many fell into each bucket, the last being all above, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUNDS)
        self.total = 0.0


class _Records(Collector):
    """Generations to be recorded: those that were are the ledger's observations."""

    def __init__(self, written: _Histogram) -> None:
        self._written = written
        self.lost = 0

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily("perfuse_ledger_records_total", "generations to be recorded", labels=["outcome"])
        family.add_metric(["lost"], self.lost)
        family.add_metric(["written"], self._written.observations)
        yield family


class _Depth(Collector):
    """Items of the inbox, as last seen."""

    def __init__(self) -> None:
        self.states: Mapping[str, int] = {}

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("perfuse_inbox_items", "feedback in the inbox", labels=["state"])
        for state, count in self.states.items():
            family.add_metric([state], count)
        yield family


class _Evolution(Collector):
    """Stages of learning, as the worker last counted them."""

    def __init__(self) -> None:
        self.counts: Mapping[str, object] | None = None

    def collect(self) -> Iterator[Metric]:
        up = self.counts is not None
        yield GaugeMetricFamily("perfuse_evolution_up", "1 where a worker learns", value=float(up))
        for stage, shown in _STAGES.items():
            counts = (self.counts or {}).get(stage)
            if isinstance(counts, Mapping):
                kind = CounterMetricFamily if shown.name.endswith("_total") else GaugeMetricFamily
                family = kind(shown.name, shown.documentation, labels=[shown.label])
                for value in shown.values:
                    family.add_metric([value], counts.get(value, 0))
                yield family


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
