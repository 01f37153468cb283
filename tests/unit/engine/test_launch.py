"""The handshake between the supervisor and its children."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from perfuse.config import load
from perfuse.engine import launch
from perfuse.errors import CheckpointError, ConfigError, PerfuseError, StoreLocked, Unavailable


def test_a_front_receives_what_the_supervisor_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "name_process", lambda part: None)
    monkeypatch.setattr(launch, "die_with", lambda parent: None)
    config = load({"data_dir": str(tmp_path), "workers": 3, "model": [str(tmp_path / "m")]})
    sent = launch.FrontLaunch(parent=1, listen_fd=5, engines=["/run/a"], config=launch.settings_of(config, 8123))
    environ = launch.environment(sent)
    got = launch.receive(launch.FrontLaunch, environ)
    assert got == sent
    assert launch.VARIABLE not in environ
    settings = got.settings()
    assert (settings.port, settings.workers, settings.data_dir) == (8123, 3, tmp_path)
    assert settings.model == (tmp_path / "m",)


def test_a_child_without_a_supervisor_says_how_to_start() -> None:
    with pytest.raises(ConfigError) as caught:
        launch.receive(launch.EngineLaunch, {})
    assert caught.value.detail == "expected a launch record of this build in PERFUSE_LAUNCH: Input data was truncated"
    assert caught.value.hint == "start the server with `perfuse serve`"


def test_taking_the_listening_socket_tells_the_supervisor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader, writer = os.pipe()
        record = launch.NurseryLaunch(parent=1, listen_fd=os.dup(listener.fileno()), ready_fd=writer)
        with record.listening_socket() as taken:
            assert taken.getsockname() == listener.getsockname()
            assert not taken.getblocking()
        assert os.read(reader, 2) == b"\0"
        os.close(reader)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckpointError("x"), launch.EXIT_CHECKPOINT),
        (StoreLocked("x"), launch.EXIT_LOCKED),
        (ConfigError("x"), launch.EXIT_CONFIG),
        (Unavailable("x"), launch.EXIT_FAILED),
    ],
)
def test_a_refusal_is_words_and_an_exit_code(
    error: PerfuseError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        launch.refuse(error)
    assert caught.value.code == code
    assert capsys.readouterr().err == "perfuse: x\n"
    assert (code in launch.HOPELESS) == (code != launch.EXIT_FAILED)


def test_a_kernel_that_refuses_is_an_error() -> None:
    with pytest.raises(OSError, match=r"prctl\(-1\) failed: Invalid argument"):
        launch._prctl(-1, 0)
