"""`perfuse bench text`: a masked canvas through HTTP and in process, by length, batch, dtype and threads.

Through HTTP the whole canvas is masked and filled in a fixed number of steps, so that every forward shows all of it;
each setting has a server of its own. In process our network, the same layers written plainly, and the engine's call of
our network take turns, in changing order.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from random import Random
from statistics import fmean, median, quantiles

import torch

from perfuse.diffusion.blocks import attends
from perfuse.errors import InvalidRequest
from perfuse.evaluation.load import serving, storm
from perfuse.evaluation.pages import replaced
from perfuse.evaluation.plain import PlainNetwork
from perfuse.models.call import Call
from perfuse.models.canvas import given
from perfuse.models.precision import DTYPES, carried
from perfuse.models.text import TextNetwork, load_text, read_config, read_weights
from perfuse.models.tokenizer import MASK, TextTokenizer
from perfuse.models.unified import UnifiedScoreNetwork

log = logging.getLogger(__name__)
START, END = "<!-- latency: written by make results-latency -->", "<!-- end of latency -->"
"""What the tables stand between in their page."""
CANVASES, BATCHES, THREADS = (32, 64, 128, 256), (1, 16), (1, 2)
PROMPT = "Double it."
STEPS = 8
READY_SECONDS = 300.0
TOLERANCE = 1e-3
"""Of the logits in fp32."""
ENOUGH = 100
"""Requests below which the table says that it is a short run."""


@dataclass(frozen=True, slots=True)
class OverHttp:
    """Milliseconds of a request, and per forward; forwards of a request; requests per second."""

    dtype: str
    threads: int
    canvas: int
    clients: int
    requests: int
    p50_ms: float
    p99_ms: float
    forwards: float
    ms_per_forward: float
    per_second: float


@dataclass(frozen=True, slots=True)
class InProcess:
    """Median milliseconds of a forward: ours, plain, the engine's call of ours. `ratio`: plain over ours in a turn."""

    dtype: str
    threads: int
    canvas: int
    rows: int
    ours_ms: float
    plain_ms: float
    ratio: float
    call_ms: float


@dataclass(frozen=True, slots=True)
class Grid:
    """What is measured; each list's values with each other's."""

    canvases: Sequence[int] = CANVASES
    batches: Sequence[int] = BATCHES
    dtypes: Sequence[str] = tuple(DTYPES)
    threads: Sequence[int] = THREADS


def run(model: Path, grid: Grid, *, requests: int = ENOUGH, repeats: int = 40, http: bool = True) -> dict[str, object]:
    """Measure the text model in `model`.

    Args:
        model: its folder.
        grid: the settings.
        requests: of each setting, through HTTP.
        repeats: of each way to compute, in process.
        http: whether to start servers.

    Raises:
        CheckpointError: the folder is missing or damaged.
        ConfigError: a dtype is none that text models compute in.
        InvalidRequest: fewer than two requests, or a canvas that is too short or too long.
    """
    config = read_config(model)
    tokenizer = TextTokenizer.load(model / "tokenizer.json")
    used = len(given(tokenizer.encode(PROMPT), (), ()))
    for canvas in grid.canvases:
        if not used < canvas <= config.limit:
            raise InvalidRequest(
                f"expected canvases of {used + 1} to {config.limit} tokens for {config.label}; got {canvas}"
            )
    if requests < 2:
        raise InvalidRequest(f"expected at least 2 requests, to tell p99; got {requests}")
    difference = greatest_difference(*networks(model, "f32"), torch.arange(used, used + 32)[None] % tokenizer.size)
    assert difference <= TOLERANCE, f"the plain layers say something else: logits differ by {difference:g}"
    forwards = [each for dtype in grid.dtypes for each in in_process(model, dtype, grid, repeats, used)]
    answers = [
        each
        for dtype, threads in product(grid.dtypes, grid.threads) if http
        for each in over_http(model, dtype, threads, grid, requests, used)
    ]  # fmt: skip
    return {
        "model": config.label,
        "steps": STEPS,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "http": [asdict(each) for each in answers],
        "forwards": [asdict(each) for each in forwards],
        "greatest_difference": difference,
    }


def over_http(model: Path, dtype: str, threads: int, grid: Grid, requests: int, used: int) -> list[OverHttp]:
    """Every canvas and number of clients on one server."""
    flags = ("--model", str(model), "--dtype", dtype, "--threads", str(threads), "--max-backlog-seconds", "600")
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="perfuse-bench-") as folder,
        serving(Path(folder) / "data", *flags, "--evolution", "off") as server,
    ):
        asyncio.run(server.ready(READY_SECONDS))
        for canvas, clients in product(grid.canvases, grid.batches):
            body = {
                "modality": "text",
                "prompt": PROMPT,
                "length": canvas - used,
                "steps": STEPS,
                "sampler": "low_confidence",
                "sampler_options": {"window": canvas - used},
            }
            asyncio.run(storm(server.port, "/diffuse", [body] * clients, clients))  # the first of a shape compiles
            started = time.perf_counter()
            bodies = [{**body, "seed": seed} for seed in range(requests)]
            answers = asyncio.run(storm(server.port, "/diffuse", bodies, clients))
            elapsed = time.perf_counter() - started
            assert {answer.status for answer in answers} == {200}, "the server refused what it should have answered"
            seconds = [answer.seconds for answer in answers]
            forwards = [_forwards(answer.json()) for answer in answers]
            found.append(
                OverHttp(
                    dtype=dtype,
                    threads=threads,
                    canvas=canvas,
                    clients=clients,
                    requests=requests,
                    p50_ms=1e3 * median(seconds),
                    p99_ms=1e3 * quantiles(seconds, n=100, method="inclusive")[98],
                    forwards=fmean(forwards),
                    ms_per_forward=1e3 * median(took / n for took, n in zip(seconds, forwards, strict=True)),
                    per_second=requests / elapsed,
                )
            )
            log.info("%s, %d threads, canvas %d, %d clients", dtype, threads, canvas, clients)
    return found


def _forwards(answer: Mapping[str, object]) -> int:
    outputs = answer["outputs"]
    assert isinstance(outputs, list)
    return int(outputs[0]["forwards"])


def in_process(model: Path, dtype: str, grid: Grid, repeats: int, used: int) -> list[InProcess]:
    """Every canvas, number of rows and number of threads."""
    engine = load_text(model, dtype=dtype).network
    assert isinstance(engine, TextNetwork)
    ours, plain = networks(model, dtype)
    before, found = torch.get_num_threads(), []
    try:
        for threads, canvas, rows in product(grid.threads, grid.canvases, grid.batches):
            torch.set_num_threads(threads)
            found.append(_timed(ours, plain, engine, dtype, threads, canvas, rows, repeats, used))
            log.info("%s, %d threads, canvas %d, %d rows", dtype, threads, canvas, rows)
    finally:
        torch.set_num_threads(before)
    return found


def networks(model: Path, dtype: str) -> tuple[UnifiedScoreNetwork, PlainNetwork]:
    """Our network and the plain one, from the same weights; plain layers know no bytes and compute in fp32 then."""
    ours = UnifiedScoreNetwork(read_config(model).network)
    ours.load_state_dict(read_weights(model, ours, torch.float32))
    holds = carried(DTYPES[dtype])
    plain = PlainNetwork(ours).eval().requires_grad_(requires_grad=False).to(holds)
    ours = ours.eval().requires_grad_(requires_grad=False).to(holds)
    ours.text.freeze()
    if dtype == "int8":
        ours.quantize()
    return ours, plain


@torch.inference_mode()
def greatest_difference(ours: UnifiedScoreNetwork, plain: PlainNetwork, tokens: torch.Tensor) -> float:
    """Of the logits of `[B, L]` tokens that see each other."""
    seen = torch.ones(tokens.shape[0], tokens.shape[1], tokens.shape[1], dtype=torch.bool)
    return float((ours(tokens, seen) - plain(tokens, seen)).abs().max())


@torch.inference_mode()
def _timed(
    ours: UnifiedScoreNetwork,
    plain: PlainNetwork,
    engine: TextNetwork,
    dtype: str,
    threads: int,
    canvas: int,
    rows: int,
    repeats: int,
    used: int,
) -> InProcess:
    shown = torch.tensor([*given(range(used - 3), (), ()), *(MASK,) * (canvas - used)])
    order = torch.cat((torch.zeros(used, dtype=torch.long), torch.ones(canvas - used, dtype=torch.long)))
    tokens, seen = shown.repeat(rows, 1), attends(order.repeat(rows, 1))
    calls = [Call(engine, {"tokens": shown, "order": order}) for _ in range(rows)]
    own, simple, called = interleaved(
        [lambda: ours(tokens, seen), lambda: plain(tokens, seen), lambda: engine.forward(calls)], repeats
    )
    return InProcess(
        dtype=dtype,
        threads=threads,
        canvas=canvas,
        rows=rows,
        ours_ms=1e3 * median(own),
        plain_ms=1e3 * median(simple),
        ratio=median(theirs / mine for theirs, mine in zip(simple, own, strict=True)),
        call_ms=1e3 * median(called),
    )


def interleaved(ways: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of each way, called in turns in an order drawn anew each time, after two calls that do not count."""
    rng, taken = Random(0), [list[float]() for _ in ways]
    for turn in range(repeats + 2):
        for i in rng.sample(range(len(ways)), len(ways)):
            started = time.perf_counter()
            ways[i]()
            if turn >= 2:
                taken[i].append(time.perf_counter() - started)
    return taken


def table(found: Mapping[str, object]) -> str:
    """What `run` found, as the Markdown of `docs/results/text.md`."""
    http, forwards = found["http"], found["forwards"]
    assert isinstance(http, list)
    assert isinstance(forwards, list)
    flags = found.get("cpu_flags")
    told = ", ".join(flags) if isinstance(flags, list) else "unknown flags"
    slower = sum(row["ratio"] < 1.0 for row in forwards)
    caption = (
        f"`{found['model']}`, torch {found['torch']}, {found['machine']} with {told}. Beside int8 stand plain layers "
        f"in fp32. Through HTTP: a canvas of so many tokens, the {PROMPT!r} it is given included, filled by "
        f"`low_confidence` in {found['steps']} steps that each show all of it, fewer where the text ends; a client "
        "asks one by one."
    )
    if any(row["requests"] < ENOUGH for row in http):
        caption += f" *A short run: fewer than {ENOUGH} requests per row.*"
    lines = [
        caption,
        "",
        "| dtype | Threads | Canvas | Clients | p50 ms | p99 ms | Forwards | ms per forward | Requests per second |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['dtype']} | {row['threads']} | {row['canvas']} | {row['clients']} | {row['p50_ms']:.1f} | "
        f"{row['p99_ms']:.1f} | {row['forwards']:.1f} | {row['ms_per_forward']:.2f} | {row['per_second']:.1f} |"
        for row in http
    ]
    reached = f"**missed** in {slower} of {len(forwards)} rows" if slower else "reached in every row"
    compared = (
        "One forward in process: our network, the same layers written with `torch.nn` from the same weights (logits "
        f"equal to {found['greatest_difference']:.0e} in fp32), and the engine's call of ours with its padding and "
        f"masks; medians of calls in turns. Goal: plain over ours ≥ 1.0, {reached}."
    )
    lines += [
        "",
        compared,
        "",
        "| dtype | Threads | Canvas | Rows | Ours ms | Plain ms | Plain / ours | Engine's call ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['dtype']} | {row['threads']} | {row['canvas']} | {row['rows']} | {row['ours_ms']:.2f} | "
        f"{row['plain_ms']:.2f} | {row['ratio']:.2f} | {row['call_ms']:.2f} |"
        for row in forwards
    ]
    return "\n".join(lines)


def rewritten(page: str, found: Mapping[str, object]) -> str:
    """The page with the tables between its two marks replaced. Raises ValueError without the marks."""
    return replaced(page, START, END, table(found))
