"""Spans of requests for OpenTelemetry: opt-in by `--otlp`, within the trace that the client's `traceparent` names.

A request is one span; the wait and the computation of a generation, as its engine reports them, are two below it. Their
attributes are those of the metrics: never an id, a prompt or a tenant. The SDK is imported here only, when asked for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perfuse import __version__, metrics
from perfuse.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_CARRIED = (b"traceparent", b"tracestate")
_SERVER_ERROR = 500
_NANOSECONDS = 1e9


class Tracing:
    """Makes spans and hands them to an exporter in batches, on a thread of its own.

    Args:
        exporter: sends them.

    Raises:
        ConfigError: the SDK is not installed.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "perfuse", "service.version": __version__})
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("perfuse")

    @classmethod
    def to(cls, address: str) -> Tracing:
        """Spans for the collector at `address`, which takes OTLP over HTTP."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            raise ConfigError(
                f"--otlp needs OpenTelemetry's SDK, which is not installed: {error}",
                hint="install requirements/otel.txt, or perfuse[otel]",
            ) from None
        return cls(OTLPSpanExporter(endpoint=f"{address.rstrip('/')}/v1/traces"))

    def computed(self, queue_seconds: float, compute_seconds: float) -> None:
        """The present request was just finished by an engine, after so long."""
        now = time.time_ns()
        started = now - round(compute_seconds * _NANOSECONDS)
        admitted = started - round(queue_seconds * _NANOSECONDS)
        self._tracer.start_span("queue", start_time=admitted).end(started)
        self._tracer.start_span("compute", start_time=started).end(now)

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, with a span around each request."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, StatusCode

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            carried = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CARRIED}
            kind = metrics.kind_of(scope["path"])
            with self._tracer.start_as_current_span(
                f"{scope['method']} {kind}",
                context=extract(carried),
                kind=SpanKind.SERVER,
                attributes={"http.request.method": scope["method"], "perfuse.kind": kind},
            ) as span:

                async def send_and_note(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        status = message["status"]
                        span.set_attribute("http.response.status_code", status)
                        if status >= _SERVER_ERROR:
                            span.set_status(StatusCode.ERROR)
                    await send(message)

                await app(scope, receive, send_and_note)

        return traced

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()
