"""Health, metrics, reference page and the committed description."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import yaml

from perfuse import __version__
from perfuse.api.app import documented_app
from perfuse.api.openapi import as_yaml
from perfuse.wire import ModelInfo

COMMITTED = Path(__file__).parents[2] / "openapi.yaml"


async def test_readiness_follows_the_engines(client: httpx2.AsyncClient, pool) -> None:
    assert (await client.get("/readyz")).json() == {
        "status": "ready",
        "ledger": "in memory",
        "inbox": "synced to disk: survives power loss",
    }
    pool.ready = False
    answer = await client.get("/readyz", headers={"x-request-id": "r1"})
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == {
        "type": "/problems/unavailable",
        "title": "Unavailable",
        "status": 503,
        "detail": "no engine is ready yet",
        "code": "unavailable",
        "hint": "models are loading; try again",
        "retry_after": 1.0,
        "request_id": "r1",
    }
    assert (await client.get("/livez")).status_code == 200


async def test_version_and_models(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/version")).json() == {"version": __version__, "protocol": 5}
    model = {"name": "m@1", "modality": "text", "parameters": 7, "dtype": "float32", "limit": 256}
    listed = {"id": "m@1", "object": "model", "created": 0, "owned_by": "perfuse"}
    for path in ("/models", "/v1/models"):
        assert (await client.get(path)).json() == {"object": "list", "models": [model], "data": [listed]}
    for name in ("m@1", "m"):
        assert (await client.get(f"/v1/models/{name}")).json() == listed


async def test_a_model_that_is_not_loaded_is_told_to_clients_of_either_kind(client: httpx2.AsyncClient, pool) -> None:
    pool.models.append(ModelInfo(name="planner@1", modality="trajectory", parameters=7, dtype="float32", limit=32))
    assert [model["id"] for model in (await client.get("/models")).json()["data"]] == ["m@1"]
    answer = await client.get("/models/planner", headers={"x-request-id": "r1"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "/problems/unknown_model",
        "title": "Unknown model",
        "status": 404,
        "detail": "no text model 'planner' is loaded",
        "code": "unknown_model",
        "hint": "see GET /models",
        "request_id": "r1",
        "error": {
            "message": "no text model 'planner' is loaded (see GET /models)",
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
        },
    }


async def test_metrics_count_requests_and_show_the_engines(client: httpx2.AsyncClient) -> None:
    await client.post("/v1/diffuse", json={"modality": "text"})
    await client.get("/no/such/path")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    for line in (
        f'perfuse_build_info{{version="{__version__}"}} 1.0',
        'perfuse_requests_total{kind="diffuse",status="200"} 1.0',
        'perfuse_requests_total{kind="other",status="404"} 1.0',
        'perfuse_queue_seconds_count{kind="diffuse"} 1.0',
        'perfuse_ledger_records_total{outcome="written"} 1.0',
        "perfuse_engine_rows_total 3.0",
        "perfuse_engine_backlog_seconds 0.5",
        "perfuse_engines_ready 1.0",
    ):
        assert line in lines


async def test_the_reference_page_loads_nothing_from_elsewhere(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert re.findall(r"(?:src|href|url)[=:] ?\"([^\"]+)\"", page) == [
        "data:,",
        "/docs/swagger-ui.css",
        "/docs/swagger-ui-bundle.js",
        "/docs/start.js",
    ]
    assert '{url: "/openapi.json",' in (await client.get("/docs/start.js")).text
    for asset, kind in (("swagger-ui.css", "text/css"), ("swagger-ui-bundle.js", "text/javascript")):
        answer = await client.get(f"/docs/{asset}")
        assert answer.headers["content-type"].startswith(kind)
        assert len(answer.content) > 100_000
    assert (await client.get("/docs/../../etc/passwd")).status_code == 404
    assert (await client.get("/docs/favicon.png")).json()["detail"] == "no such file"


async def test_the_committed_description_is_that_of_the_code(client: httpx2.AsyncClient) -> None:
    assert COMMITTED.read_text(encoding="utf-8") == as_yaml(documented_app().openapi())
    assert (await client.get("/openapi.json")).json() == yaml.safe_load(COMMITTED.read_text(encoding="utf-8"))


def test_every_reference_in_the_description_resolves() -> None:
    document = documented_app().openapi()
    references = set(re.findall(r"#/components/schemas/(\w+)", as_yaml(document)))
    assert references <= set(document["components"]["schemas"])
    assert {"DiffuseText", "PlanTrajectory", "Problem"} <= references
    assert document["openapi"] == "3.1.0"
