"""The trainer child: `python -m perfuse.training.adapt FOLDER` makes one adaptation from what lies in the folder.

In: `job.json`, `lessons.jsonl`, `replay.jsonl` (may be empty). Out: `adaptation.safetensors` (a PEFT file), and on the
way `progress.json`. It goes on from `state/` when it was ended, with the same bytes as if it had not been; it begins
anew where the state is damaged or the folder now holds another job. What is done already is not done again.

It yields to everything else: idle scheduling class, first to go when memory ends, one thread, limited CPU time, no core
dumps; and it dies with its parent.

Exit codes: 0 the adaptation is there; 65 the job cannot be done and would not be after a restart either, with the error
as one JSON line at the end of stderr; anything else is a crash, after which it may be started again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from perfuse import logging
from perfuse.engine.launch import die_with, name_process
from perfuse.errors import CheckpointError, InvalidRequest, PerfuseError
from perfuse.store.files import write_whole
from perfuse.store.kit import base_of

if TYPE_CHECKING:
    from perfuse.training.lora import Lesson, LoraConfig
    from perfuse.training.trainer import Progress

RESULT = "adaptation.safetensors"
PROGRESS = "progress.json"
JOB, LESSONS, REPLAY = "job.json", "lessons.jsonl", "replay.jsonl"
_MADE_OF = "inputs.sha256"
_STATE = "state"
_PROGRESS_SECONDS = 2.0
_IMPORT_SECONDS = 60
"""CPU time allowed for what comes before the first step."""
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "rank": (1, 512),
    "alpha": (0, 10_000),
    "steps": (1, 1_000_000),
    "minutes": (0, 10_080),
    "rate": (0, 1),
    "replay": (0, 1),
    "cuts": (0, 1),
    "batch_tokens": (1, 1_000_000),
    "pool_rows": (1, 100_000),
    "seed": (0, 2**63 - 1),
    "save_every": (0, 3600),
}

log = logging.get(__name__)
DecodedT = TypeVar("DecodedT")


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `job.json` holds.

    Attributes:
        base: folder of the model to adapt.
        config: fields of `LoraConfig`; those not given have its defaults.
        parent: process to die with, 0 for none.
    """

    base: str
    config: dict[str, object] = msgspec.field(default_factory=dict)
    parent: int = 0


def main(arguments: Sequence[str]) -> int:
    """Do the job in the one folder named; gives the exit code."""
    logging.configure("trainer", as_json=True)
    try:
        if len(arguments) != 1:
            raise InvalidRequest(f"expected one folder; got {len(arguments)} arguments")
        folder = Path(arguments[0])
        job = read_job(folder)
        if job.parent:
            die_with(job.parent)
        step_back()
        adapt(folder, job)
    except PerfuseError as error:
        said = {"error": error.code, "message": error.detail, "hint": error.hint}
        sys.stderr.write(json.dumps(said) + "\n")
        return os.EX_DATAERR
    return os.EX_OK


def read_job(folder: Path) -> Job:
    """The job in `folder`.

    Raises:
        InvalidRequest: there is none, or it is not one.
    """
    return _decoded(_bytes(folder, JOB), msgspec.json.Decoder(Job), JOB)


def step_back() -> None:
    """Yield to everything else, before torch is imported, so that all its threads inherit that."""
    name_process("trainer")
    os.environ.update({"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})
    os.nice(19)
    with contextlib.suppress(OSError):  # a kernel may not have it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):  # /proc may be read-only
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def adapt(folder: Path, job: Job) -> None:
    """Train what `folder` describes, unless the result is there already.

    Raises:
        InvalidRequest: the job cannot be done.
        CheckpointError: the base model is missing or damaged.
    """
    inputs = {name: _bytes(folder, name) for name in (LESSONS, REPLAY)}
    if _is_new(folder, job, inputs):
        log.info("begins")
    elif (folder / RESULT).exists():
        return
    import torch

    from perfuse.models.lora import to_bytes
    from perfuse.training.lora import LoRATrainer

    torch.set_num_threads(1)
    config = _config(job.config)
    _limit_cpu(config.minutes)
    lessons, replay = (_lessons(inputs[name], name) for name in (LESSONS, REPLAY))
    trainer, state, watch = LoRATrainer(Path(job.base), config), folder / _STATE, _watch(folder, config.steps)
    try:
        made = trainer.fit(lessons, replay, state, resume=any(state.glob("*.pt")), watch=watch)
    except CheckpointError as error:
        log.warning("state_damaged", reason=error.detail)
        shutil.rmtree(state)
        made = trainer.fit(lessons, replay, state, watch=watch)
    write_whole(folder / RESULT, to_bytes(made))


def _is_new(folder: Path, job: Job, inputs: Mapping[str, bytes]) -> bool:
    """Whether what lies in the folder was made of something else; if so it is removed."""
    digest = hashlib.sha256(base_of(Path(job.base)).encode())
    digest.update(hashlib.sha256(msgspec.json.encode(job.config, order="deterministic")).digest())
    for data in inputs.values():
        digest.update(hashlib.sha256(data).digest())
    made_of = folder / _MADE_OF
    if made_of.exists() and made_of.read_bytes() == digest.hexdigest().encode():
        return False
    for left in (folder / RESULT, folder / PROGRESS):
        left.unlink(missing_ok=True)
    shutil.rmtree(folder / _STATE, ignore_errors=True)
    write_whole(made_of, digest.hexdigest().encode())
    return True


def _config(given: Mapping[str, object]) -> LoraConfig:
    from perfuse.training.lora import LoraConfig

    if unknown := sorted(given.keys() - set(LoraConfig.__slots__)):
        raise InvalidRequest(f"{JOB}: unknown fields in config: {', '.join(unknown)}")
    try:
        config = msgspec.convert(given, LoraConfig)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{JOB}: config: {error}") from None
    for name, (least, most) in _BOUNDS.items():
        if not least <= getattr(config, name) <= most:
            raise InvalidRequest(f"{JOB}: config: expected {name} from {least} to {most}; got {getattr(config, name)}")
    if config.device not in ("cpu", "cuda"):
        raise InvalidRequest(f"{JOB}: config: expected the device cpu or cuda; got {config.device!r}")
    return config


def _lessons(data: bytes, name: str) -> list[Lesson]:
    from perfuse.training.lora import Lesson

    decoder = msgspec.json.Decoder(Lesson)
    return [_decoded(line, decoder, f"{name} line {i}") for i, line in enumerate(data.split(b"\n"), 1) if line.strip()]


def _limit_cpu(minutes: float) -> None:
    """Twice what the run may take, should its own clock fail."""
    seconds = math.ceil(minutes * 60 * 2) + _IMPORT_SECONDS
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = seconds if most == resource.RLIM_INFINITY else min(seconds, most)
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, allowed))


def _watch(folder: Path, of: int) -> Callable[[Progress, float], None]:
    """Writes `progress.json` every few seconds, and at the first and the last step."""
    due = 0.0

    def watch(progress: Progress, loss: float) -> None:
        nonlocal due
        if time.monotonic() < due and progress.step < of:
            return
        due = time.monotonic() + _PROGRESS_SECONDS
        now = {"step": progress.step, "of": of, "seconds": round(progress.seconds, 2), "loss": round(loss, 4)}
        write_whole(folder / PROGRESS, json.dumps(now).encode())

    return watch


def _bytes(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{name} cannot be read: {error.strerror}") from None


def _decoded(data: bytes, decoder: msgspec.json.Decoder[DecodedT], name: str) -> DecodedT:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{name}: {error}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
