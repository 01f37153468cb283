"""`perfuse doctor`: what this machine offers, and what is missing."""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import time
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from perfuse import __version__
from perfuse.cli.options import Json
from perfuse.cli.terminal import emit, emit_json
from perfuse.errors import PerfuseError

if TYPE_CHECKING:
    import torch

_PACKAGES = ("torch", "numpy", "pyarrow", "tokenizers", "fastapi", "uvicorn", "redis", "mujoco")
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "bf16")
_SYNCS = 20


def command(
    *,
    data_dir: Annotated[Path, typer.Option(help="where to try the disk", envvar="PERFUSE_DATA_DIR")] = Path(),
    queue: Annotated[str, typer.Option(help='as for serve: "sqlite" or redis://…', envvar="PERFUSE_QUEUE")] = "sqlite",
    sandbox: Annotated[bool, typer.Option("--sandbox", help="run the attacks on the sandbox (seconds)")] = False,
    json: Json = False,
) -> None:
    """Print versions, CPU features, models, sandbox, disk, store, queue. Exits with 1 if something is missing."""
    folder = data_dir if data_dir.is_dir() else Path()
    report: dict[str, object] = {
        "perfuse": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_flags": cpu_flags(),
        **_torch(),
        "models": _models(),
        "sandbox": _sandbox(attack=sandbox),
        "fsync_ms": _fsync_ms(folder),
        "store": _store(folder),
        "queue": _queue(folder, queue),
    }
    if json:
        emit_json(report)
    else:
        emit("\n".join(f"{name:<14} {_shown(value)}" for name, value in report.items()))
    held = report["sandbox"]
    assert isinstance(held, dict)
    needed = (report["models"], report["store"], report["queue"])
    if any("error" in str(part) for part in needed) or held.get("broken"):
        raise typer.Exit(1)


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The flags of this CPU that kernels care about."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    present = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return [flag for flag in _FLAGS if flag in present]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _torch() -> dict[str, object]:
    try:
        import torch

        from perfuse.models.precision import DTYPES
    except ImportError as error:
        return {"torch": f"error: {error}"}
    speeds = {name: round(_gigaflops(dtype)) for name, dtype in DTYPES.items()}
    return {"torch_threads": torch.get_num_threads(), "cuda": torch.cuda.is_available(), "cpu_gflops": speeds}


def _gigaflops(dtype: torch.dtype, rows: int = 128, width: int = 256, seconds: float = 0.05) -> float:
    """Speed of a multiplication of the size that the small models do, with torch's own threads."""
    import torch

    left, right = torch.ones(rows, width, dtype=dtype), torch.ones(4 * width, width, dtype=dtype)
    times: list[float] = []
    while sum(times) < seconds:
        started = time.perf_counter()
        torch._int_mm(left, right.t()) if dtype is torch.int8 else torch.nn.functional.linear(left, right)  # noqa: SLF001
        times.append(time.perf_counter() - started)
    return 2 * rows * width * 4 * width / median(times) / 1e9


def _models() -> dict[str, object]:
    from perfuse.pipelines.shipped import load

    try:
        loaded = load(())
    except PerfuseError as error:
        return {"error": error.detail}
    return {model.name: f"{model.modality}, {model.parameters} parameters, {model.dtype}" for model in loaded.models}


def _sandbox(*, attack: bool) -> dict[str, object]:
    from perfuse.sandbox.availability import availability

    try:
        found = availability()
    except ImportError as error:
        return {"tier": "none", "reasons": [str(error)], "broken": True}
    report: dict[str, object] = {
        "tier": found.tier,
        "landlock_abi": found.landlock_abi,
        "seccomp": found.seccomp,
        "user": found.user,
        "reasons": list(found.reasons),
    }
    if attack and found.tier != "none":
        from perfuse.sandbox.trial import run_probes

        outcomes = run_probes()
        escaped = [outcome.probe.name for outcome in outcomes if not outcome.held]
        report |= {"probes": len(outcomes), "escaped": escaped, "broken": bool(escaped)}
    return report


def _fsync_ms(folder: Path) -> float:
    """Median milliseconds of a 4 KiB append with fdatasync."""
    with tempfile.TemporaryFile(dir=folder) as file:
        times = []
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return round(median(times) * 1000, 3)


def _store(folder: Path) -> str:
    """What the file system lets a store promise, found out by making an empty one."""
    from perfuse._native import ArrowStorage

    try:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            ArrowStorage.open(Path(place) / "store", "owner").close()
    except (PerfuseError, OSError) as error:
        return f"error: {error}"
    return "synced to disk: survives power loss"


def _queue(folder: Path, queue: str) -> str:
    """What the queue promises of feedback that it has acknowledged."""
    from perfuse.queue.inbox import connect

    async def durability(place: Path) -> str:
        inbox = connect(queue, place)
        try:
            await inbox.open()
            return inbox.durability
        finally:
            await inbox.close()

    try:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            return asyncio.run(durability(Path(place)))
    except (PerfuseError, OSError) as error:
        return f"error: {error}"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items() if part not in (None, [], False))
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)
