"""The supervisor with real children: restarts, refusals, drains, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perfuse.engine import flight
from perfuse.engine.launch import EXIT_CHECKPOINT, EXIT_CONFIG, EXIT_LOCKED
from perfuse.evaluation.load import children_of, command_of, part_of
from processes import ScriptedServer, wait_for

Serve = Callable[..., ScriptedServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers: list[ScriptedServer] = []

    def begin(data_dir: str = "data", **settings: object) -> ScriptedServer:
        servers.append(ScriptedServer(tmp_path / data_dir, **settings))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


def engines(server: ScriptedServer) -> list[int]:
    return [pid for pid in children_of(server.process.pid) if part_of(pid) == "engine"]


def gone(pid: int) -> bool:
    return command_of(pid) == ""


def test_a_served_request_and_a_clean_end(serve: Serve) -> None:
    server = serve(workers=2)
    server.wait_ready()
    run = Path(str(server.lock()["run"]))
    assert run == server.data_dir / "run"
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in run.glob("*.sock")} == {0o600}
    assert server.get("hello") == (200, "hello 0")
    parts = ["engine", "engine", "front", "nursery", "nursery"]  # once the second engine has its name
    wait_for(lambda: sorted(map(part_of, children_of(server.process.pid))) == parts)
    children = children_of(server.process.pid)
    code, errors = server.end()
    assert code == 0, errors
    assert not run.exists()
    assert (server.data_dir / "server.lock").read_text() == ""
    assert all(gone(pid) for pid in children)


def test_a_killed_front_is_back_and_loses_no_queued_connection(serve: Serve) -> None:
    server = serve()
    front = server.wait_ready()
    os.kill(front, signal.SIGKILL)
    wait_for(lambda: server.wait_ready() != front)
    assert server.get("after") == (200, "after 0")


def test_a_killed_engine_loses_no_request(serve: Serve) -> None:
    server = serve()
    server.wait_ready()
    found: list[tuple[int, str]] = []
    clients = [threading.Thread(target=lambda i=i: found.append(server.get(f"r{i}"))) for i in range(8)]
    (engine,) = engines(server)
    os.kill(engine, signal.SIGKILL)
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert {(status, text.split()[0]) for status, text in found} == {(200, f"r{i}") for i in range(8)}
    assert engines(server) != [engine]


def test_every_process_is_started_anew_and_no_request_fails(serve: Serve) -> None:
    server = serve(workers=2)
    front = server.wait_ready()
    wait_for(lambda: len(engines(server)) == 2)
    before = children_of(server.process.pid)
    found: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            found.append(server.get("again"))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: all(map(gone, before)) and len(engines(server)) == 2)
    log = server.data_dir / "logs" / "supervisor.jsonl"
    wait_for(lambda: "restart_ends" in log.read_text(), 30)
    stop.set()
    for client in clients:
        client.join()
    assert {status for status, _ in found} == {200}
    assert server.wait_ready() != front
    code, errors = server.end()
    assert code == 0, errors
    assert (errors.count("restart_begins"), errors.count("restart_ends")) == (1, 1)


def test_an_adopted_orphan_does_not_stay_as_a_zombie(serve: Serve) -> None:
    server = serve()
    server.wait_ready()
    status, orphan = server.get("orphan")
    assert status == 200
    entry = Path(f"/proc/{orphan}")
    assert int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == server.process.pid
    wait_for(lambda: not entry.exists())


def test_the_flight_record_says_whether_an_engine_was_ended_from_outside(serve: Serve) -> None:
    server = serve(wedge_seconds=1.0)
    front = server.wait_ready()
    record = server.data_dir / "run" / "engine-0.{}.flight"

    def ended(incarnation: int) -> bool | None:
        path = Path(str(record).format(incarnation))
        wait_for(lambda: flight.ended_from_outside(path) is not None)
        return flight.ended_from_outside(path)

    os.kill(engines(server)[0], signal.SIGKILL)
    assert ended(0) is True
    server.get("next")
    os.kill(engines(server)[0], signal.SIGSEGV)
    assert ended(1) is False
    server.get("next")
    os.kill(engines(server)[0], signal.SIGSTOP)
    assert ended(2) is False
    assert server.get("kill") == (500, "worker_killed")
    assert server.wait_ready() == front


def test_a_suspect_computed_alone_survives_a_kill_from_outside(serve: Serve) -> None:
    server = serve()
    server.wait_ready()
    found: list[tuple[int, str]] = []
    client = threading.Thread(target=lambda: found.append(server.get("long", 60)))
    client.start()
    for incarnation, number in enumerate([signal.SIGSEGV, signal.SIGKILL]):
        record = server.data_dir / "run" / f"engine-0.{incarnation}.flight"
        wait_for(lambda record=record: max(flight.batch_of(record) or [0]) >= 1 << 32, 30)  # the front's ids
        os.kill(engines(server)[0], number)
    client.join()
    assert found == [(200, "long 2")]


def test_killed_nurseries_leave_their_children_alone_and_come_back(serve: Serve) -> None:
    server = serve()
    server.wait_ready()
    (engine,) = engines(server)
    for nursery in [pid for pid in children_of(server.process.pid) if part_of(pid) == "nursery"]:
        os.kill(nursery, signal.SIGKILL)
    assert server.get("after") == (200, "after 0")
    assert engines(server) == [engine]
    os.kill(engine, signal.SIGKILL)
    assert server.get("again", 30)[0] == 200
    code, errors = server.end()
    assert code == 0, errors


def test_a_stopped_engine_counts_as_stuck_and_is_replaced(serve: Serve) -> None:
    server = serve(wedge_seconds=1.0)
    server.wait_ready()
    (engine,) = engines(server)
    os.kill(engine, signal.SIGSTOP)
    wait_for(lambda: gone(engine))
    assert server.get("after")[0] == 200


def test_running_requests_are_finished_before_the_end(serve: Serve) -> None:
    server = serve()
    server.wait_ready()
    answers: list[tuple[int, str]] = []
    client = threading.Thread(target=lambda: answers.append(server.get("late")))
    client.start()
    time.sleep(0.005)
    code, _ = server.end()
    client.join()
    assert code == 0
    assert answers == [(200, "late 0")]


def test_a_second_signal_ends_the_server_at_once(serve: Serve) -> None:
    server = serve(drain_seconds=60)
    server.wait_ready()
    hanging = socket.create_connection(("127.0.0.1", server.port))
    hanging.sendall(b"GET /hang HTTP/1.1\r\n\r\n")
    time.sleep(0.2)
    began = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGINT)
    server.process.communicate(timeout=10)
    hanging.close()
    assert server.process.returncode == 0
    assert time.monotonic() - began < 60, "it drained"


def test_nothing_outlives_a_killed_supervisor_and_the_next_one_cleans_up(serve: Serve) -> None:
    server = serve()
    server.wait_ready()
    children = children_of(server.process.pid)
    server.process.kill()
    wait_for(lambda: all(gone(pid) for pid in children))
    left = server.data_dir / "run" / "left-over.sock"
    left.touch()
    again = serve()
    wait_for(lambda: not left.exists())
    again.wait_ready()
    assert again.end()[0] == 0


def test_a_data_directory_held_by_another_server_is_refused(serve: Serve) -> None:
    first = serve()
    wait_for(lambda: "address" in first.lock_or_nothing())
    second = serve()
    _, errors = second.process.communicate(timeout=20)
    assert second.process.returncode == EXIT_LOCKED
    assert errors.decode() == (
        f"perfuse: the data directory {first.data_dir} is held by another server (process {first.process.pid})\n"
        "  hint: stop that server, or choose another --data-dir\n"
    )


def test_a_taken_port_is_refused(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve(port=port)
        _, errors = server.process.communicate(timeout=20)
    assert server.process.returncode == EXIT_CONFIG
    assert errors.decode() == (
        f"perfuse: cannot listen on 127.0.0.1:{port}: another program listens there\n"
        "  hint: choose another --port (0 picks a free one) or --host\n"
    )


def test_a_corrupt_model_ends_the_server_with_its_error_and_no_traceback(serve: Serve, tmp_path: Path) -> None:
    model = tmp_path / "corrupt"
    model.mkdir()
    server = serve(model=[str(model)])
    _, errors = server.process.communicate(timeout=30)
    assert server.process.returncode == EXIT_CHECKPOINT
    text = errors.decode()
    assert "perfuse: the model file is cut short: expected 10 bytes, got 9\n  hint: download it again\n" in text
    assert "Traceback" not in text
    assert not (server.data_dir / "run").exists()


def test_a_front_that_refuses_ends_the_server(serve: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.touch()
    server = serve(keys=str(keys))
    _, errors = server.process.communicate(timeout=30)
    assert server.process.returncode == EXIT_CONFIG
    assert "perfuse: the key file is empty\n  hint: write one\n" in errors.decode()


def test_a_long_data_directory_uses_a_private_temporary_socket_directory(serve: Serve) -> None:
    server = serve("d" * 100)
    server.wait_ready()
    run = Path(str(server.lock()["run"]))
    assert re.fullmatch(r"perfuse-run-\w+", run.name)
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert server.get("x")[0] == 200
    assert server.end()[0] == 0
    assert not run.exists()


EVOLUTION = (
    "import os, signal, sys\n"
    "from perfuse.engine import launch\n"
    "record = launch.receive(launch.EvolutionLaunch)\n"
    "record.listening_socket()\n"
    "marks = os.path.join(record.config['data_dir'], 'starts')\n"
    "open(marks, 'a').write('.')\n"
    "sys.exit(int(sys.argv[1])) if sys.argv[1] != 'stay' else signal.sigwait({signal.SIGTERM})\n"
)


def starts(server: ScriptedServer) -> int:
    path = server.data_dir / "starts"
    return path.stat().st_size if path.exists() else 0


def test_a_killed_evolution_worker_is_back_and_ends_with_the_server(serve: Serve) -> None:
    server = serve(evolution=(sys.executable, "-c", EVOLUTION, "stay"))
    server.wait_ready()
    wait_for(lambda: starts(server) == 1)
    (worker,) = [pid for pid in children_of(server.process.pid) if part_of(pid) == "learner"]
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: starts(server) == 2)
    code, errors = server.end()
    assert code == 0, errors
    assert gone(worker)


@pytest.mark.parametrize(("status", "expected"), [(EXIT_LOCKED, 1), (1, 5)])
def test_a_server_whose_evolution_worker_cannot_start_goes_on_answering(
    status: int, expected: int, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_up = EVOLUTION.replace("record.listening_socket()\n", "")
    server = serve(evolution=(sys.executable, "-c", never_up, str(status)))
    server.wait_ready()
    wait_for(lambda: starts(server) == expected, 30)
    time.sleep(0.5)
    assert starts(server) == expected
    assert server.get("hello") == (200, "hello 0")
    code, errors = server.end()
    assert code == 0
    assert "learning_is_off" in errors
