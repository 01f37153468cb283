"""`python -m perfuse.health`: what containers ask every few seconds."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from perfuse import health
from perfuse.errors import InvalidRequest, Unavailable
from perfuse.evaluation.deployment import validate
from perfuse.evaluation.load import free_port


class Starting(BaseHTTPRequestHandler):
    """A server whose models are still loading."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"detail": "no engine is ready yet", "hint": "try again"}')

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def starting() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Starting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_is_not_ready_is_said_with_its_own_words(starting: str) -> None:
    with pytest.raises(Unavailable) as raised:
        health.status(starting, ready=True, seconds=5)
    assert raised.value.detail == f"{starting} answers 503: no engine is ready yet"
    assert raised.value.hint == "try again"


def test_the_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERFUSE_URL", raising=False)
    monkeypatch.delenv("PERFUSE_PORT", raising=False)
    assert health.default_url() == "http://127.0.0.1:8000"
    monkeypatch.setenv("PERFUSE_PORT", "9000")
    assert health.default_url() == "http://127.0.0.1:9000"
    monkeypatch.setenv("PERFUSE_URL", "https://perfuse.example")
    assert health.default_url() == "https://perfuse.example"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        health.status(url, ready=False, seconds=1)
    assert raised.value.detail == f"expected a URL like http://127.0.0.1:8000, got {url!r}"


def test_the_module_exits_with_1_where_nothing_answers() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    child = subprocess.run([sys.executable, "-m", "perfuse.health", "--ready", url], capture_output=True, text=True)
    assert child.returncode == 1
    assert child.stderr == f"error: no answer from {url}: [Errno 111] Connection refused\n"


def test_it_imports_neither_the_web_framework_nor_the_command_line() -> None:
    code = "import sys, perfuse.health; sys.exit(bool({'typer', 'fastapi', 'torch', 'msgspec'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_deployment_that_never_becomes_ready_fails_check_by_check(starting: str) -> None:
    report = validate(starting, wait_seconds=0)
    assert not report.passed
    assert {check.name: (check.outcome, check.detail) for check in report.checks} == {
        "ready": ("failed", "/readyz: expected 200, got 503: no engine is ready yet"),
        "models": ("failed", "/v1/models: expected 200, got 503: no engine is ready yet"),
        "answers": ("skipped", "this server has no model for text"),
        "streams": ("skipped", "this server has no model for text"),
        "plans": ("skipped", "this server has no model for trajectory"),
        "takes feedback": ("skipped", "there is no answer to give feedback on"),
        "learns": ("failed", "/v1/evolution: expected 200, got 503: no engine is ready yet"),
        "remembers": ("skipped", "there is no answer to ask for"),
        "refuses": ("failed", "/v1/diffuse: expected 422, got 503: no engine is ready yet"),
        "measures": ("failed", "expected perfuse_build_info in /metrics, got 503"),
    }
