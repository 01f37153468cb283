"""`perfuse validate` and `perfuse health` against a real server, and through what a deployment may put before it."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import promql_parser
import pytest
from typer.testing import CliRunner

from perfuse import health
from perfuse.cli.app import app
from perfuse.errors import Unavailable
from perfuse.evaluation.deployment import validate
from perfuse.evaluation.load import Server, ask, free_port, serving
from promql import expressions, selected

RUN = CliRunner()
CHECKS = (
    "ready",
    "models",
    "answers",
    "streams",
    "plans",
    "takes feedback",
    "learns",
    "remembers",
    "refuses",
    "measures",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("deployed") / "data") as started:
        asyncio.run(started.ready())
        yield started


@pytest.fixture
def between(server: Server) -> Iterator[type[BaseHTTPRequestHandler]]:
    """A proxy that reads each answer to its end before it passes it on."""

    class Buffering(BaseHTTPRequestHandler):
        address = ""

        def do_GET(self) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            connection.request(self.command, self.path, body or None, {"content-type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            self.send_response(answer.status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Buffering)
    Buffering.address = f"http://127.0.0.1:{proxy.server_port}"
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    yield Buffering
    proxy.shutdown()
    thread.join()
    proxy.server_close()


def test_a_good_deployment_passes_and_its_answer_is_known_the_next_time(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}"
    first = RUN.invoke(app, ["validate", url, "--json"])
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert {check["name"]: check["outcome"] for check in report["checks"]} == dict.fromkeys(CHECKS, "passed")
    again = RUN.invoke(app, ["validate", url, "--generation", report["generation"]])
    assert again.exit_code == 0
    assert "the answer was found again, and the one from before" in again.stdout
    assert f"{url}, perfuse {report['version']}: all is well" in again.stderr


def test_what_is_monitored_is_measured(server: Server) -> None:
    validate(f"http://127.0.0.1:{server.port}")
    exposed = asyncio.run(ask(server.port, "GET", "/metrics")).body.decode()
    parts = {"histogram": ("_bucket", "_sum", "_count")}
    declared = [line.split()[2:] for line in exposed.splitlines() if line.startswith("# TYPE ")]
    there = {name + part for name, kind in declared for part in parts.get(kind, ("",))}
    wanted = {each.metric for text in expressions().values() for each in selected(promql_parser.parse(text))}
    assert len(wanted) > 25
    assert wanted - there == set()


def test_a_lost_answer_fails_the_check_and_the_command(server: Server) -> None:
    lost = "gen_019f0000-0000-7000-8000-000000000000.AAAAAAAAAAAAAAAAAAAAAA"
    run = RUN.invoke(app, ["validate", f"http://127.0.0.1:{server.port}", "--generation", lost, "--json"])
    assert run.exit_code == 1
    failed = [check for check in json.loads(run.stdout)["checks"] if check["outcome"] == "failed"]
    assert [check["name"] for check in failed] == ["remembers"]
    assert failed[0]["detail"].startswith(f"/v1/generations/{lost}: expected 200, got 404: ")


def test_a_proxy_that_holds_events_back_is_named(between: type[BaseHTTPRequestHandler]) -> None:
    report = validate(between.address)  # type: ignore[attr-defined]
    failed = {check.name: check.detail for check in report.checks if check.outcome == "failed"}
    assert list(failed) == ["streams"]
    assert failed["streams"].endswith("; does a proxy buffer them?")


def test_nothing_there_is_said_at_once() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=f"no answer from {url}: "):
        validate(url, wait_seconds=0)


def test_health_says_what_the_server_says(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}"
    assert health.status(url, ready=False, seconds=60) == "alive"
    assert RUN.invoke(app, ["health", url, "--ready"]).stdout == "ready\n"
