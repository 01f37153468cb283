"""How probable held-out text is to a model: exactly, token by token, and at most, block by block; beside the twin.

A text in blocks of b costs at most Σ over its blocks of E[(b / k) Σ over the k masked of −log p], k uniform on 1..b,
all before the block settled: the low-variance estimate of the bound (LLaDA, arXiv 2502.09992) in the blocks of BD3-LM
(arXiv 2503.09573). A row as in training, settled text and a noised copy of it, tells all blocks at once.
"""

from __future__ import annotations

import logging
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn import functional

from perfuse.diffusion.masked import mask_exactly, stratified_counts
from perfuse.errors import CheckpointError, InvalidRequest
from perfuse.evaluation.code import in_process
from perfuse.evaluation.intervals import Mean, mean_of
from perfuse.evaluation.pages import replaced
from perfuse.models.canvas import given
from perfuse.models.text import TextConfig, load_text, read_config, read_weights
from perfuse.models.tokenizer import MASK, NULL, TextTokenizer
from perfuse.models.unified import UnifiedScoreNetwork
from perfuse.requests import SamplerOptions, TextRequest
from perfuse.training.corpus.sources import files
from perfuse.training.corpus.tasks import Task, held_out_tasks
from perfuse.training.examples import Row, collate
from perfuse.training.losses import decode_at, next_tokens

log = logging.getLogger(__name__)
START, END = "<!-- likelihood: written by make results-likelihood -->", "<!-- end of likelihood -->"
"""What the table stands between in its page."""
BLOCKS = (1, 4, 8, 16, 32)
SAMPLES = 4
"""Noised copies of each text; blocks of 4 then have each number of masks once."""
RAW_TOKENS = 96
"""Of a window of raw Python: a multiple of every block, so that none reaches beyond it."""
ROWS = 16
"""Texts of a batch."""
ENOUGH = 200
"""Texts below which the table says that it is a short run."""
GOAL, ASKED_SPEED, ASKED_BLOCK = 1.2, 1.5, 4
"""Perplexity over the twin's at so many tokens per forward, in blocks of at least so many."""
PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Passage:
    """What is given, what is to be told, and how many bytes that is. A null at the end belongs to what is told."""

    head: tuple[int, ...]
    ids: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A network in fp32, with what its folder says."""

    network: UnifiedScoreNetwork
    tokenizer: TextTokenizer
    config: TextConfig


def load_scored(folder: Path) -> Scored:
    """The text model in `folder`.

    Raises:
        CheckpointError: a file is missing, damaged or of another layout.
    """
    config = read_config(folder)
    network = UnifiedScoreNetwork(config.network)
    network.load_state_dict(read_weights(folder, network, torch.float32))
    network.eval().requires_grad_(requires_grad=False)
    network.text.freeze()
    return Scored(network, TextTokenizer.load(folder / "tokenizer.json"), config)


def functions(tokenizer: TextTokenizer, tasks: Sequence[Task]) -> list[Passage]:
    """Each function with its end, given its sentence."""
    sentences = tokenizer.encode_batch([task.prompt for task in tasks])
    codes = tokenizer.encode_batch([task.code for task in tasks])
    return [
        Passage(given(sentence, (), ()), (*ids, NULL), len(task.code.encode()))
        for task, sentence, ids in zip(tasks, sentences, codes, strict=True)
    ]


def unread_files() -> list[Path]:
    """This package's own sources, but for the templates that the functions are written from.

    Training reads the standard library and installed packages, so it has read these only where they are installed.
    """
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE / "training" / "corpus"]


def raw_windows(tokenizer: TextTokenizer, paths: Sequence[Path], count: int, length: int = RAW_TOKENS) -> list[Passage]:
    """`count` runs of `length` tokens of these files, none overlapping, given nothing.

    Raises:
        InvalidRequest: the files hold fewer.
    """
    pieces, head = tokenizer.pieces(), given((), (), ())
    runs: list[tuple[int, ...]] = []
    for path in paths:
        try:
            ids = tokenizer.encode(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:  # as training, which passes over them
            continue
        runs += [tuple(ids[i : i + length]) for i in range(0, len(ids) - length + 1, length)]
    if len(runs) < count:
        raise InvalidRequest(
            f"expected {count} windows of {length} tokens; the {len(paths)} files hold {len(runs)}",
            hint="ask for fewer windows",
        )
    return [Passage(head, run, sum(len(pieces[i]) for i in run)) for run in Random("raw windows").sample(runs, count)]


@torch.inference_mode()
def told_ahead(network: UnifiedScoreNetwork, passages: Sequence[Passage]) -> Tensor:
    """−log p of each passage in nats, `[N]` float64, every token from those before it: exact, no bound."""
    nats = torch.zeros(len(passages), dtype=torch.float64)
    for indices in _groups(passages):
        batch = collate([_row(passages[i]) for i in indices], copies=False)
        seen = batch.places.sees(batch.places.index.clamp(min=0))
        hidden = network.hidden(batch.tokens, seen, batch.positions)
        at, targets = next_tokens(batch)
        losses = functional.cross_entropy(decode_at(network, hidden, at).float(), targets, reduction="none")
        nats.index_add_(0, torch.tensor(indices)[at // batch.tokens.shape[1]], losses.double())
    return nats


@torch.inference_mode()
def told_in_blocks(
    network: UnifiedScoreNetwork, passages: Sequence[Passage], size: int, samples: int, generator: torch.Generator
) -> Tensor:
    """Upper bound on −log p of each passage in nats, `[N]` float64, in blocks of `size`; see the head of this module.

    The last block is filled up with nulls, which are told too, so that its length does not give the end away. The
    numbers of masks of a block are stratified over its `samples`; blocks of one need one sample, and are exact.
    """
    samples = 1 if size == 1 else samples
    nats = torch.zeros(len(passages), dtype=torch.float64)
    filled = [replace(each, ids=(*each.ids, *(NULL,) * (-len(each.ids) % size))) for each in passages]
    for indices in _groups(filled):
        rows = [_row(filled[i]) for i in indices]
        batch = collate(rows, copies=True)
        starts = batch.places.index.clamp(min=0) // size * size
        seen = batch.places.sees(starts)
        row_of = torch.tensor(indices)
        for masked, weights in _noised([(len(row.ids) - row.start) // size for row in rows], size, samples, generator):
            places = torch.zeros_like(batch.places.copy)
            places[batch.places.copy] = masked
            hidden = network.hidden(batch.tokens.masked_fill(places, MASK), seen, batch.positions)
            at = places.flatten().nonzero()[:, 0]
            losses = functional.cross_entropy(
                decode_at(network, hidden, at).float(), batch.tokens[places], reduction="none"
            )
            nats.index_add_(0, row_of[at // batch.tokens.shape[1]], losses.double() * weights[masked] / samples)
    return nats


def _noised(
    blocks: Sequence[int], size: int, samples: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """`samples` times: what is masked of all rows' blocks, one after the other, and what each masked token weighs."""
    total = sum(blocks)
    lengths = torch.full((samples,), size)
    counts = torch.stack([stratified_counts(lengths, generator) for _ in range(total)], dim=1)
    nothing, everything = torch.zeros(total, size, dtype=torch.long), torch.ones(total, size, dtype=torch.bool)
    for drawn in counts:
        _, masked = mask_exactly(nothing, everything, drawn, MASK, generator)
        yield masked.flatten(), (size / drawn.double())[:, None].expand(-1, size).flatten()


def _row(passage: Passage) -> Row:
    return Row((*passage.head, *passage.ids), len(passage.head))


def _groups(passages: Sequence[Passage]) -> Iterator[list[int]]:
    """Places of passages of similar length."""
    order = sorted(range(len(passages)), key=lambda i: len(passages[i].head) + 2 * len(passages[i].ids))
    for start in range(0, len(order), ROWS):
        yield order[start : start + ROWS]


def tokens_per_forward(model: Path, tasks: Sequence[Task], request: TextRequest) -> float:
    """Tokens, the end of each text included, over forwards, as the pipeline of the server fills these tasks."""
    fill = in_process(load_text(model))
    outputs = [fill(replace(request, prompt=task.prompt)) for task in tasks]
    return sum(output.tokens + 1 for output in outputs) / sum(output.forwards for output in outputs)


def evaluate_likelihood(
    model: Path,
    twin: Path,
    *,
    tasks: int = 500,
    windows: int = 200,
    samples: int = SAMPLES,
    speed: int = 100,
) -> dict[str, object]:
    """`perfuse eval likelihood`: bits per byte and perplexity of three kinds of held-out text, all rows on the same.

    Functions of held-out combinations given their sentence, and windows of raw Python: of the library files that the
    recipe keeps back, and of `unread_files`, as many of each. Each text is one observation of every interval. `speed`
    held-out tasks are filled for the tokens per forward.

    Raises:
        CheckpointError: a model is missing, damaged, or the two tokenize differently.
        InvalidRequest: there are not as many raw windows.
    """
    ours, theirs = load_scored(model), load_scored(twin)
    if ours.config.tokenizer != theirs.config.tokenizer:
        raise CheckpointError(
            f"{ours.config.label} and {theirs.config.label} have different tokenizers; perplexities do not compare",
            hint="train the twin with the model's tokenizer",
        )
    chosen = held_out_tasks(tasks)
    texts = {
        "functions": functions(ours.tokenizer, chosen),
        "library Python": raw_windows(ours.tokenizer, files(held_out=True), windows),
        "package Python": raw_windows(ours.tokenizer, unread_files(), windows),
    }
    found = [_of_text(name, passages, ours, theirs, samples) for name, passages in texts.items()]
    speeds = {
        size: tokens_per_forward(
            model, chosen[:speed], TextRequest(sampler="entropy", sampler_options=SamplerOptions(window=size))
        )
        for size in BLOCKS
        if size > 1
    }
    verified = tokens_per_forward(model, chosen[:speed], TextRequest(sampler="verified"))
    return {
        "model": ours.config.label,
        "twin": theirs.config.label,
        "samples": samples,
        "dtype": "f32",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "texts": found,
        "speed_tasks": len(chosen[:speed]),
        "tokens_per_forward": {
            "verified": round(verified, 2),
            "entropy": {str(size): round(rate, 2) for size, rate in speeds.items()},
        },
        "goals": [goal(text, speeds) for text in found],
    }


def _of_text(name: str, passages: Sequence[Passage], ours: Scored, theirs: Scored, samples: int) -> dict[str, object]:
    """One row per model and way to tell the text."""
    generator = torch.Generator().manual_seed(0)
    twin = told_ahead(theirs.network, passages)
    rows = [_entry(theirs, "left to right", None, twin, twin, passages)]
    rows.append(_entry(ours, "left to right", None, told_ahead(ours.network, passages), twin, passages))
    for size in BLOCKS:
        nats = told_in_blocks(ours.network, passages, size, samples, generator)
        rows.append(_entry(ours, f"blocks of {size}", size, nats, twin, passages))
        log.info("%s in blocks of %d", name, size)
    return {
        "text": name,
        "n": len(passages),
        "tokens": sum(len(passage.ids) for passage in passages),
        "bytes": sum(passage.size for passage in passages),
        "rows": rows,
    }


def _entry(
    scored: Scored, how: str, block: int | None, nats: Tensor, twin: Tensor, passages: Sequence[Passage]
) -> dict[str, object]:
    tokens = torch.tensor([len(passage.ids) for passage in passages], dtype=torch.float64)
    sizes = torch.tensor([passage.size for passage in passages], dtype=torch.float64)
    per_token = mean_of((nats / tokens).tolist())
    return {
        "model": scored.config.label,
        "how": how,
        "block": block,
        "bits_per_byte": _rounded(mean_of((nats / math.log(2) / sizes).tolist())),
        "nats_per_token": _rounded(per_token),
        "perplexity": _rounded(_exp(per_token)),
        "ratio": _rounded(_exp(mean_of(((nats - twin) / tokens).tolist()))),
    }


def _exp(mean: Mean) -> Mean:
    return Mean(math.exp(mean.value), math.exp(mean.low), math.exp(mean.high))


def _rounded(mean: Mean) -> dict[str, float]:
    return {"value": round(mean.value, 4), "low": round(mean.low, 4), "high": round(mean.high, 4)}


def goal(text: Mapping[str, object], speeds: Mapping[int, float]) -> dict[str, object]:
    """The least ratio of blocks that are long and fast enough, and how far it is from the goal; 0: reached."""
    rows = text["rows"]
    assert isinstance(rows, list)
    fit = [
        (float(row["ratio"]["value"]), int(row["block"]))
        for row in rows
        if (row["block"] or 0) >= ASKED_BLOCK and speeds[row["block"]] >= ASKED_SPEED
    ]
    ratio, block = min(fit, default=(None, None))
    gap = None if ratio is None else round(max(0.0, ratio - GOAL), 4)
    return {"text": text["text"], "at_most": GOAL, "ratio": ratio, "block": block, "gap": gap}


def table(found: Mapping[str, object]) -> str:
    """What `evaluate_likelihood` found, as the Markdown of `docs/results/text.md`."""
    texts, speeds, goals = found["texts"], found["tokens_per_forward"], found["goals"]
    assert isinstance(texts, list)
    assert isinstance(speeds, dict)
    assert isinstance(goals, list)
    flags = found.get("cpu_flags")
    told = ", ".join(flags) if isinstance(flags, list) else "unknown flags"
    counts = " and ".join(f"{text['n']} of {text['text']} ({text['bytes']:,} bytes)" for text in texts)
    caption = (
        f"`{found['model']}` beside its twin `{found['twin']}` on the same held-out texts: {counts}; fp32, "
        f"{found['samples']} noised copies per text, torch {found['torch']}, {found['threads']} thread(s), "
        f"{found['machine']} with {told}. Functions are told with their end, given their sentence; Python "
        "is told from nothing: of library files that the recipe keeps back (weights older than that read such files in "
        "3 % of their rows), and of this package's own source, which no training read. Left to right and blocks of 1 "
        "are exact, longer blocks an upper bound that its estimate meets on average. Intervals at 95 % of a mean over "
        "texts; the ratio is that of the perplexities per token, paired with the twin's."
    )
    if min(int(text["n"]) for text in texts) < ENOUGH:
        caption += f" *A short run: fewer than {ENOUGH} texts of a kind.*"
    lines = [
        caption,
        "",
        "| Text | Model | Told | Bits per byte | Perplexity | Ratio to the twin |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {text['text']} | `{row['model']}` | {row['how']} | {_span(row['bits_per_byte'])} | "
        f"{_span(row['perplexity'])} | {_span(row['ratio'])} |"
        for text in texts
        for row in text["rows"]
    ]
    lines += ["", _speeds(speeds, found["speed_tasks"]) + " " + _verdict(goals)]
    return "\n".join(lines)


def _span(mean: Mapping[str, float]) -> str:
    return f"{mean['value']:.3f} ({mean['low']:.3f} to {mean['high']:.3f})"


def _speeds(speeds: Mapping[str, object], tasks: object) -> str:
    by_block = speeds["entropy"]
    assert isinstance(by_block, dict)
    said = ", ".join(f"{rate:.2f} in blocks of {size}" for size, rate in by_block.items())
    return (
        f"Tokens per forward on {tasks} functions: `entropy` {said}; `verified`, whose texts have the left-to-right "
        f"likelihood whatever it drafts, {speeds['verified']:.2f}."
    )


def _verdict(goals: Sequence[Mapping[str, object]]) -> str:
    said = []
    for goal in goals:
        if goal["ratio"] is None:
            said.append(f"{goal['text']} **missed**, no block is that fast")
        elif goal["gap"]:
            said.append(f"{goal['text']} **missed** by {goal['gap']}, {goal['ratio']:.3f} in blocks of {goal['block']}")
        else:
            said.append(f"{goal['text']} reached, {goal['ratio']:.3f} in blocks of {goal['block']}")
    asked = f"Goal: ratio ≤ {GOAL} in blocks of {ASKED_BLOCK} or more, at ≥ {ASKED_SPEED} tokens per forward"
    return f"{asked}: {'; '.join(said)}."


def rewritten(page: str, found: Mapping[str, object]) -> str:
    """The page with the table between its two marks replaced. Raises ValueError without the marks."""
    return replaced(page, START, END, table(found))
