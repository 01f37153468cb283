"""Which server is asked, with which key, and what a client says of itself."""

from __future__ import annotations

import pytest
from perfuse_client import AsyncClient, Client

from clients.scripted_http import answer, answering

ALIVE = answer(200, {"status": "alive"})


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_environment_names_server_and_key(kind: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERFUSE_URL", raising=False)
    assert kind().url == "http://127.0.0.1:8000"
    monkeypatch.setenv("PERFUSE_URL", "https://perfuse.example/base")
    assert repr(kind(key="secret")) == f"{kind.__name__}('https://perfuse.example/base')"
    assert kind("http://[::1]:9000").url == "http://[::1]:9000"


def test_the_key_is_sent_and_paths_follow_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(ALIVE, ALIVE, ALIVE) as script:
        for key in ("given", None):
            monkeypatch.setenv("PERFUSE_KEY", "from-the-environment")
            with Client(f"{script.url}/behind/a/proxy/", key=key) as client:
                client.livez()
        monkeypatch.delenv("PERFUSE_KEY")
        with Client(script.url) as client:
            client.livez()
    given, taken, none = script.received
    assert given.line == "GET /behind/a/proxy/livez HTTP/1.1"
    assert given.headers["authorization"] == "Bearer given"
    assert taken.headers["authorization"] == "Bearer from-the-environment"
    assert "authorization" not in none.headers


def test_another_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^url: expected http://… or https://…, got 'localhost:8000'$"):
        Client("localhost:8000")


def test_an_id_cannot_lead_to_another_path() -> None:
    with answering(answer(404, b""), answer(404, b"")) as script, Client(script.url) as client:
        for identity in ("..", "a/b?c=d#e"):
            with pytest.raises(LookupError):
                client.forget(identity)
    lines = [received.line for received in script.received]
    assert lines == ["DELETE /memories/%2E%2E HTTP/1.1", "DELETE /memories/a%2Fb%3Fc%3Dd%23e HTTP/1.1"]
