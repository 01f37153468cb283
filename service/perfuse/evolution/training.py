"""The trainer child as the learning side sees it: a folder goes in, an adaptation comes out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from perfuse import logging
from perfuse.errors import GenerationFailed
from perfuse.store.files import write_whole

_log = logging.get(__name__)

RESULT = "adaptation.safetensors"
_CODE_BAD_JOB = 65
_QUOTED = 2000


async def train(folder: Path, base: Path, config: Mapping[str, object], seconds: float) -> bytes:
    """Train on the lessons in `folder`; goes on where an earlier child was ended.

    Args:
        folder: holds `lessons.jsonl` and `replay.jsonl`.
        base: model folder.
        config: fields of `training.lora.LoraConfig`.
        seconds: after which the child is killed.

    Raises:
        GenerationFailed: the child could not, or took too long; what it had reached stays in the folder.
    """
    job = {"base": str(base), "config": dict(config), "parent": os.getpid()}
    write_whole(folder / "job.json", json.dumps(job).encode())
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "perfuse.training.adapt", str(folder),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            _, said = await child.communicate()
    except TimeoutError:
        raise GenerationFailed(f"the trainer was stopped after {seconds:.0f} s, its time") from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
            await child.wait()
    if child.returncode != 0:
        quoted = said.decode(errors="replace").strip()[-_QUOTED:]
        _log.error("trainer_failed", job=folder.name, status=child.returncode, said=quoted)
        what = "refused its job" if child.returncode == _CODE_BAD_JOB else f"ended with {child.returncode}"
        raise GenerationFailed(f"the trainer {what}: {quoted.splitlines()[-1] if quoted else 'it said nothing'}")
    return await asyncio.to_thread((folder / RESULT).read_bytes)


def progress(folder: Path) -> dict[str, object]:
    """How far the child is: step, of, seconds, loss; empty before it has begun."""
    try:
        found = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
