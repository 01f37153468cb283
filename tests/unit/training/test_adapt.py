"""The trainer child: one folder in, one adaptation out, whatever happens to it on the way."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from perfuse.models.lora import from_bytes, to_bytes
from perfuse.models.text import TextConfig, read_config, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork
from perfuse.training import adapt
from perfuse.training.lora import Lesson, LoraConfig, LoRATrainer
from perfuse.training.trainer import Progress

pytestmark = pytest.mark.timeout(900)  # a child computes only where nobody else wants to
PATIENCE = 300.0
CONFIG = {"rank": 4, "steps": 30, "rate": 2e-2, "batch_tokens": 256, "pool_rows": 16, "save_every": 0.0}
LESSON = {"prompt": "Double it.", "prefix": "", "middle": "x * 2", "suffix": ""}
REPLAY = {"prompt": "Add one.", "prefix": "", "middle": "x + 1", "suffix": ""}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = TextTokenizer.train([LESSON["prompt"], LESSON["middle"], REPLAY["middle"]] * 3, 280)
    shape = DiffusionConfig(tokenizer.size, width=32, layers=2, heads=2, condition=8)
    torch.manual_seed(0)
    save_text(folder, TextConfig("base", 1, shape, 256, 32, "", {}), UnifiedScoreNetwork(shape).state_dict(), tokenizer)
    return folder


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return described(tmp_path / "job", base)


def described(
    folder: Path, base: Path, config: Mapping[str, object] = CONFIG, lesson: Mapping[str, object] = LESSON
) -> Path:
    """A folder with a job."""
    folder.mkdir(exist_ok=True)
    (folder / "job.json").write_text(json.dumps({"base": str(base), "config": config, "parent": 0}))
    (folder / "lessons.jsonl").write_text(json.dumps(lesson) + "\n")
    (folder / "replay.jsonl").write_text(json.dumps(REPLAY))
    return folder


def child(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "perfuse.training.adapt", str(folder)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def done(folder: Path) -> bytes:
    """Bytes of the adaptation, made by a child."""
    with child(folder) as process:
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said.decode()
    return (folder / "adaptation.safetensors").read_bytes()


def wait_for(path: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < until, path.name
        time.sleep(0.005)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the events logged in this process."""
    seen: list[str] = []
    recorder = SimpleNamespace(
        info=lambda event, **_: seen.append(event), warning=lambda event, **_: seen.append(event)
    )
    monkeypatch.setattr(adapt, "log", recorder)
    return seen


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The steps back are for good, so they are taken in children only."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(adapt, "step_back", lambda: None)
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(adapt.logging, "configure", lambda *_, **__: None)
    yield
    torch.set_num_threads(threads)


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert adapt.main([str(folder)]) == 65
    assert not (folder / "adaptation.safetensors").exists()
    said = capsys.readouterr().err.splitlines()[-1]
    found: dict[str, str] = json.loads(said)
    return found


def test_a_child_trains_what_the_library_would(folder: Path, base: Path, tmp_path: Path) -> None:
    made = done(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = LoRATrainer(base, LoraConfig(**CONFIG)).fit([Lesson(**LESSON)], [Lesson(**REPLAY)], tmp_path / "here")
    torch.set_num_threads(threads)
    assert made == to_bytes(expected)
    assert from_bytes(made, read_config(base).network, "made").rank == 4
    progress = json.loads((folder / "progress.json").read_text())
    assert (progress["step"], progress["of"]) == (30, 30)
    assert progress["seconds"] > 0
    assert progress["loss"] > 0
    given = {"job.json", "lessons.jsonl", "replay.jsonl"}
    kept = {"inputs.sha256", "state", "progress.json", "adaptation.safetensors"}
    assert {path.name for path in folder.iterdir()} == given | kept


def test_a_killed_child_goes_on_to_the_same_bytes(
    folder: Path, base: Path, tmp_path: Path, in_this_process: None
) -> None:
    long = {**CONFIG, "steps": 150}
    whole = described(tmp_path / "whole", base, long)
    assert adapt.main([str(whole)]) == 0
    with child(described(folder, base, long)) as process:
        wait_for(folder / "state" / "state.pt")
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "adaptation.safetensors").exists()
    reached = torch.load(folder / "state" / "state.pt", weights_only=True)["progress"]["step"]
    assert 0 < reached < 150
    assert done(folder) == (whole / "adaptation.safetensors").read_bytes()


def test_a_child_yields_to_everything_else_and_dies_with_its_parent(folder: Path, base: Path) -> None:
    described(folder, base, {**CONFIG, "steps": 100_000, "minutes": 1})
    script = (
        "import json, os, subprocess, sys; from pathlib import Path; folder = Path(sys.argv[1])\n"
        "job = json.loads((folder / 'job.json').read_text())\n"
        "(folder / 'job.json').write_text(json.dumps({**job, 'parent': os.getpid()}))\n"
        "child = subprocess.Popen([sys.executable, '-m', 'perfuse.training.adapt', str(folder)])\n"
        "print(child.pid, flush=True); child.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_for(folder / "progress.json")
        facts = Path(f"/proc/{pid}")
        assert (facts / "comm").read_text() == "perfuse-trainer\n"
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        assert os.getpriority(os.PRIO_PROCESS, pid) == 19
        assert (facts / "oom_score_adj").read_text() == "1000\n"
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
        assert resource.prlimit(pid, resource.RLIMIT_CPU) == (180, 180)
        parent.kill()
    until = time.monotonic() + 10
    while facts.exists() and "Z" not in (facts / "stat").read_text().rpartition(")")[2].split()[0]:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_bad_job_is_said_as_one_line(folder: Path) -> None:
    (folder / "lessons.jsonl").write_text("")
    with child(folder) as process:
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 65
    assert json.loads(said.splitlines()[-1]) == {
        "error": "invalid_request",
        "message": "0 lessons came, none with a positive weight; expected at least one",
        "hint": None,
    }


def test_what_is_done_is_not_done_again(folder: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert adapt.main([str(folder)]) == 0
    made = (folder / "adaptation.safetensors").stat()
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "parent": os.getppid()}))
    tied: list[int] = []
    monkeypatch.setattr(adapt, "die_with", tied.append)
    assert adapt.main([str(folder)]) == 0
    again = (folder / "adaptation.safetensors").stat()
    assert (again.st_ino, again.st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert tied == [os.getppid()]


@pytest.mark.parametrize("changed", ["config", "lesson", "base"])
def test_another_job_in_the_folder_is_begun_anew(
    folder: Path, base: Path, tmp_path: Path, in_this_process: None, events: list[str], changed: str
) -> None:
    assert adapt.main([str(folder)]) == 0
    before = (folder / "adaptation.safetensors").read_bytes()
    if changed == "config":
        described(folder, base, {**CONFIG, "rank": 2})
    elif changed == "lesson":
        described(folder, base, lesson={**LESSON, "middle": "x * 3"})
    else:
        other = tmp_path / "other"
        other.mkdir()
        for path in base.iterdir():
            (other / path.name).write_bytes(path.read_bytes())
        config = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps({**config, "version": 2}))
        described(folder, other)
    assert adapt.main([str(folder)]) == 0
    assert events == ["begins", "begins"]
    assert ((folder / "adaptation.safetensors").read_bytes() == before) == (changed == "base")


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "odd pickle", "empty stack", "another"])
def test_a_damaged_state_is_begun_anew(folder: Path, in_this_process: None, events: list[str], damage: str) -> None:
    assert adapt.main([str(folder)]) == 0
    expected = (folder / "adaptation.safetensors").read_bytes()
    (folder / "adaptation.safetensors").unlink()
    state = folder / "state" / "state.pt"
    whole = state.read_bytes()
    if damage == "another":
        torch.save({"seed": 0, "master": {}}, state)
    else:
        garbage = random.Random(0).randbytes(5000)
        damaged = {"empty": b"", "cut": whole[: len(whole) // 2], "garbage": garbage}
        state.write_bytes((damaged | {"odd pickle": b"\x80\x90" + garbage, "empty stack": b"\x80\x02a."})[damage])
    assert adapt.main([str(folder)]) == 0
    assert events == ["begins", "state_damaged"]
    assert (folder / "adaptation.safetensors").read_bytes() == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("job.json", None, "job.json cannot be read: No such file or directory"),
        ("job.json", b"{", "job.json: Input data was truncated"),
        ("job.json", b'{"config": {}}', "job.json: Object missing required field `base`"),
        ("job.json", b'{"base": "x", "rank": 4}', "job.json: Object contains unknown field `rank`"),
        ("lessons.jsonl", None, "lessons.jsonl cannot be read: No such file or directory"),
        ("replay.jsonl", None, "replay.jsonl cannot be read: No such file or directory"),
        ("replay.jsonl", b"\n[]", "replay.jsonl line 2: Expected `object`, got `array`"),
        (
            "lessons.jsonl",
            b'{"prompt": "a", "prefix": "", "suffix": ""}',
            "lessons.jsonl line 1: Object missing required field `middle`",
        ),
        (
            "lessons.jsonl",
            b'{"prompt": "\xff"}',
            "lessons.jsonl line 1: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
        (
            "lessons.jsonl",
            json.dumps({**LESSON, "middle": "y" * 500}).encode(),
            "no lesson with a positive weight fits into 224 tokens",
        ),
    ],
)
def test_files_that_hold_no_job_are_refused(
    folder: Path,
    in_this_process: None,
    capsys: pytest.CaptureFixture[str],
    name: str,
    data: bytes | None,
    message: str,
) -> None:
    if data is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data)
    assert refused(folder, capsys) == {"error": "invalid_request", "message": message, "hint": None}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ranks": 4, "a": 1}, "unknown fields in config: a, ranks"),
        ({"rank": "4"}, "config: Expected `int`, got `str` - at `$.rank`"),
        ({"rank": 0}, "config: expected rank from 1 to 512; got 0"),
        ({"minutes": -1}, "config: expected minutes from 0 to 10080; got -1.0"),
        ({"device": "tpu"}, "config: expected the device cpu or cuda; got 'tpu'"),
    ],
)
def test_a_configuration_out_of_range_is_refused(
    folder: Path,
    base: Path,
    in_this_process: None,
    capsys: pytest.CaptureFixture[str],
    config: dict[str, object],
    message: str,
) -> None:
    described(folder, base, config)
    assert refused(folder, capsys)["message"] == f"job.json: {message}"


def test_a_missing_base_is_refused(folder: Path, in_this_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    described(folder, folder / "gone")
    assert refused(folder, capsys) == {
        "error": "checkpoint_error",
        "message": f"no model in {folder / 'gone'}: No such file or directory: model.safetensors",
        "hint": None,
    }


def test_one_folder_is_expected(in_this_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert adapt.main([]) == 65
    assert json.loads(capsys.readouterr().err)["message"] == "expected one folder; got 0 arguments"


def test_too_long_lessons_are_left_out_and_do_not_stop_the_rest(
    folder: Path, in_this_process: None, base: Path
) -> None:
    with (folder / "lessons.jsonl").open("a") as lines:
        lines.write(json.dumps({**LESSON, "middle": "y" * 500}))
    (folder / "replay.jsonl").write_text(json.dumps({**REPLAY, "prompt": "z" * 500}))
    assert adapt.main([str(folder)]) == 0
    alone = LoRATrainer(base, LoraConfig(**CONFIG)).fit([Lesson(**LESSON)], [], folder / "alone")
    assert (folder / "adaptation.safetensors").read_bytes() == to_bytes(alone)


def test_progress_is_written_at_the_first_and_last_step_and_seldom_between(folder: Path) -> None:
    watch = adapt._watch(folder, 3)
    seen = []
    for step in (1, 2, 3):
        watch(Progress(step=step, seconds=step / 2), 0.12345)
        seen.append(json.loads((folder / "progress.json").read_text()))
    assert [one["step"] for one in seen] == [1, 1, 3]
    assert seen[-1] == {"step": 3, "of": 3, "seconds": 1.5, "loss": 0.1235}


def test_a_lower_limit_of_the_system_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (50, 50))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    adapt._limit_cpu(10.0)
    assert limits == [(50, 50)]
