"""Spans of requests, for whoever wants them."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from perfuse.api.tracing import Tracing
from perfuse.errors import ConfigError

TEXT = {"modality": "text", "prompt": "Return the sum of a list."}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def spans_of(serve, *asked: tuple[str, str, dict[str, object]], **headers: str) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter)
    async with serve(tracing=tracing) as client:
        for method, path, body in asked:
            await client.request(method, path, headers=headers, **({"json": body} if method == "POST" else {}))
    tracing.close()
    return list(exporter.get_finished_spans())


async def test_a_generation_is_a_span_of_the_clients_trace_with_two_below_it(serve) -> None:
    spans = await spans_of(serve, ("POST", "/diffuse", TEXT), traceparent=f"00-{TRACE}-{PARENT}-01")
    named = {span.name: span for span in spans}
    assert set(named) == {"POST diffuse", "queue", "compute"}
    request = named["POST diffuse"]
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    for name in ("queue", "compute"):
        assert named[name].parent.span_id == request.context.span_id
    assert named["queue"].end_time == named["compute"].start_time
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "perfuse.kind": "diffuse",
        "http.response.status_code": 200,
    }
    assert request.resource.attributes["service.name"] == "perfuse"
    assert request.status.status_code is StatusCode.UNSET


async def test_without_a_trace_a_request_begins_one_and_a_failure_is_marked(serve, pool) -> None:
    pool.error = ZeroDivisionError("secret prompt")
    refused, failed = await spans_of(serve, ("GET", "/generations/gen_1", {}), ("POST", "/diffuse", TEXT))
    assert (refused.name, refused.parent, refused.status.status_code) == ("GET generations", None, StatusCode.UNSET)
    assert refused.attributes["http.response.status_code"] == 404
    assert (failed.attributes["http.response.status_code"], failed.status.status_code) == (500, StatusCode.ERROR)
    assert failed.events == ()


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError) as refused:
        Tracing.to("http://127.0.0.1:4318")
    assert refused.value.detail.startswith("--otlp needs OpenTelemetry's SDK, which is not installed: ")
    assert refused.value.hint == "install requirements/otel.txt, or perfuse[otel]"
