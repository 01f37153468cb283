"""Engines on other hosts: real processes over TCP."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perfuse.config import ServeConfig
from perfuse.engine.supervisor import serve
from perfuse.errors import ConfigError
from perfuse.evaluation.load import ask, free_port, serving

TOKEN = "a-token-of-thirty-characters--"
BODY = {"modality": "text", "prompt": "Double every number.", "seed": 1, "reproducible": True, "length": 16}

StartEngine = Callable[[int], subprocess.Popen[bytes]]


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


@pytest.fixture
def start_engine(token: Path) -> Iterator[StartEngine]:
    running: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> subprocess.Popen[bytes]:
        flags = ["--engine-token", str(token), "--port", str(port), "--threads", "1"]
        running.append(subprocess.Popen([sys.executable, "-m", "perfuse", "engine", *flags]))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


async def test_requests_outlive_an_engine_on_another_host(
    tmp_path: Path, token: Path, start_engine: StartEngine
) -> None:
    port = free_port()
    engine = start_engine(port)
    flags = ["--evolution", "off", "--engine-token", str(token), "--engine", f"localhost:{port}"]
    with serving(tmp_path / "here", "--evolution", "off") as here:
        await here.ready()
        expected = (await ask(here.port, "POST", "/diffuse", BODY)).json()["outputs"]
    with serving(tmp_path / "data", "--workers", "0", *flags) as server:
        await server.ready()
        assert server.children()["engine"] == []
        answer = await ask(server.port, "POST", "/diffuse", BODY)
        assert (answer.status, answer.json()["outputs"]) == (200, expected)
        engine.kill()
        engine.wait()
        waiting = asyncio.create_task(ask(server.port, "POST", "/diffuse", BODY))
        start_engine(port)
        answer = await waiting
        assert (answer.status, answer.json()["outputs"]) == (200, expected)


def test_an_engine_drains_when_it_is_asked_to_end(tmp_path: Path, token: Path, start_engine: StartEngine) -> None:
    port = free_port()
    engine = start_engine(port)
    flags = ["--evolution", "off", "--engine-token", str(token), "--engine", f"127.0.0.1:{port}", "--workers", "0"]
    with serving(tmp_path / "data", *flags) as server:
        asyncio.run(server.ready())
        engine.send_signal(signal.SIGTERM)
        assert engine.wait(30) == 0


@pytest.mark.parametrize(
    ("settings", "detail", "hint"),
    [
        (
            {"workers": 0},
            "expected an engine: --workers is 0 and no --engine is named",
            "name one, or take a worker",
        ),
        (
            {"engine": "a:1"},
            "engines on other hosts have the base models only, and this server learns or follows one that does",
            "add --evolution off, or leave out --engine",
        ),
        (
            {"engine": "a:1", "evolution": "off"},
            "--engine needs --engine-token",
            "the file with which `perfuse engine` was started",
        ),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, settings: dict[str, object], detail: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        serve(ServeConfig(data_dir=tmp_path / "data", port=0, **settings))
    assert (refused.value.detail, refused.value.hint) == (detail, hint)


def test_a_token_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    config = ServeConfig(data_dir=tmp_path / "data", port=0, engine="a:1", evolution="off", engine_token=path)
    with pytest.raises(ConfigError, match=rf"^cannot read the engine token {path}: .*No such file"):
        serve(config)
    path.write_text("short")
    with pytest.raises(ConfigError) as refused:
        serve(config)
    assert refused.value.detail == (
        f"expected 16 to 512 visible characters in the engine token {path}; it has 5 characters"
    )
    assert refused.value.hint == "make one, for example with `openssl rand -hex 32`"
