"""Recipe of `code-small`: masked diffusion over Python, and of its autoregressive twin."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal

import torch

from perfuse.errors import CheckpointError, InvalidRequest
from perfuse.models.layers import Block
from perfuse.models.text import SPAN, TextConfig, digest, read_config, read_weights, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork, parameters
from perfuse.training import answers
from perfuse.training.answers import Answer
from perfuse.training.corpus import sources
from perfuse.training.corpus.pairs import Pair, kept
from perfuse.training.corpus.tasks import VERSION, split, training_tasks
from perfuse.training.examples import Batch, Shares, pool
from perfuse.training.losses import causal_step, diffusion_step
from perfuse.training.trainer import Trainer, TrainerConfig

log = logging.getLogger(__name__)
SWITCH = 41
"""Pool from which most rows are gaps to fill: whole functions are learned by then, joints at a cut word are not."""
FIRST = (Shares(cuts=0.40), Shares(cuts=0.72))
"""Rows of weights from nothing, before and after; the twin is measured on whole functions and stays with the first."""
GROWN = Shares(cuts=0.26, raw=0.07, pairs=0.05, foreign=0.22, records=0.05, repairs=0.13)
"""Rows of weights that are grown from trained ones, which know the sentences and gaps of Python by then."""
DISTILLED = Shares(cuts=0.20, raw=0.05, pairs=0.04, foreign=0.06, records=0.05, repairs=0.10, answers=0.48)
"""Rows of weights that are taught their own answers: those of the generators only where answers do not say it all."""


@dataclass(frozen=True, slots=True)
class CodeConfig:
    """What `perfuse train code` takes.

    Attributes:
        out: folder for the state and, at the end, the model.
        minutes: wall-clock budget.
        twin: "ar" trains the causal twin of the same size on the same corpus instead.
        device: "cpu", "cuda" or "auto".
        seed: of everything random.
        resume: continue from `out/state.pt`.
        vocabulary: entries of the tokenizer.
        layers: transformer blocks.
        batch_tokens: ids per update.
        pool_rows: rows drawn at once and sorted by length.
        tokenizer_tasks: generated tasks the tokenizer learns from, beside 0.4 times as many pieces of raw Python.
        rate: peak learning rate.
        compiled: whether the trunk is compiled; needs a C++ compiler, rounds differently.
        grown_from: folder of a trained model whose weights and tokenizer this one begins with; `layers` above its own
            are added behind them as layers that at first change nothing. It learns more than Python's sentences then.
        answers: sentences that `grown_from` answers; what it answers rightly takes the place of whole functions.
    """

    out: Path
    minutes: float = 70.0
    twin: Literal["ar"] | None = None
    device: str = "auto"
    seed: int = 0
    resume: bool = False
    vocabulary: int = 2048
    layers: int = 6
    batch_tokens: int = 4096
    pool_rows: int = 2048
    tokenizer_tasks: int = 20_000
    rate: float = 2e-3
    compiled: bool = False
    grown_from: Path | None = None
    answers: int = 0


def tokenizer_texts(seed: int, tasks: int) -> Iterator[str]:
    """What the tokenizer is trained on: sentences and functions, then raw Python."""
    rng = Random(f"tokenizer/{seed}")
    for task in islice(training_tasks(rng), tasks):
        yield task.prompt
        yield task.code
    yield from islice(sources.windows(rng), tasks * 2 // 5)


def trainer(config: CodeConfig) -> tuple[Trainer[Batch], TextTokenizer]:
    """The trainer of the recipe and its tokenizer, which is made on first use and kept beside the state.

    Raises:
        CheckpointError: the model to grow is missing, damaged, or of another shape.
        InvalidRequest: answers are asked for, and no model that could give them.
    """
    if config.answers > 0 and config.grown_from is None:
        raise InvalidRequest(
            f"{config.answers} answers are to be taught, and no model is named that gives them",
            hint="name one with --grown-from",
        )
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "tokenizer.json"
    if config.grown_from is not None:
        shutil.copyfile(config.grown_from / "tokenizer.json", path)
    elif not path.exists():
        TextTokenizer.train(tokenizer_texts(config.seed, config.tokenizer_tasks), config.vocabulary).save(path)
    tokenizer = TextTokenizer.load(path)
    torch.manual_seed(config.seed)
    causal = config.twin == "ar"
    shape = DiffusionConfig(tokenizer.size, layers=config.layers, causal=causal)
    model = UnifiedScoreNetwork(shape)
    pairs: Sequence[Pair] = ()
    told: Sequence[Answer] = ()
    shares = FIRST
    if config.grown_from is not None:
        begin_with(model, config.grown_from)
        pairs, shares = kept(config.out / "pairs.jsonl"), (GROWN, GROWN)
        if config.answers > 0:
            told = answers.kept(config.out / "answers.jsonl", config.grown_from, config.answers, config.seed)
            shares = (DISTILLED, DISTILLED)
    log.info("%d parameters, %d tokens", parameters(model), tokenizer.size)
    log.info("raw Python: SHA-256 %s", sources.digest(sources.files()))
    if config.compiled:
        model.trunk.compile(dynamic=True)
    device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    made = Trainer(
        model,
        causal_step if causal else diffusion_step,
        lambda index: pool(
            tokenizer,
            config.seed,
            index,
            shares=shares[index >= SWITCH and not causal],
            pairs=pairs,
            answers=told,
            copies=not causal,
            rows=config.pool_rows,
            tokens=config.batch_tokens,
        ),
        lambda batch: (batch.tokens.shape[0], int(batch.places.keys.sum())),
        TrainerConfig(config.minutes, config.out, seed=config.seed, device=device, rate=config.rate),
    )
    if config.resume:
        made.resume()
    return made, tokenizer


def begin_with(model: UnifiedScoreNetwork, folder: Path) -> None:
    """Gives `model` the weights of the model in `folder`; layers beyond its own pass on what they get.

    Both projections that add to the stream are zero in a new layer, so the function is kept (Net2Net, 1511.05641).

    Raises:
        CheckpointError: the folder holds no model, or one that this one cannot hold.
    """
    found, shape = read_config(folder).network, model.config
    if found.layers > shape.layers or replace(found, layers=shape.layers) != shape:
        raise CheckpointError(
            f"{folder.name} has {found}; expected {shape}, or the same with fewer layers",
            hint="the number of --layers is at least that of the model to grow; a twin grows from a twin",
        )
    model.load_state_dict(read_weights(folder, UnifiedScoreNetwork(found), torch.float32), strict=False)
    with torch.no_grad():
        for block in list(model.trunk.blocks)[found.layers :]:
            assert isinstance(block, Block)
            block.attention.out.weight.zero_()
            block.down.weight.zero_()


def export(made: Trainer[Batch], tokenizer: TextTokenizer, config: CodeConfig, folder: Path) -> None:
    """Writes the averaged weights as a model folder, with the generator's version and the hash of the split."""
    assert isinstance(made.model, UnifiedScoreNetwork)
    progress = made.progress
    begun = None if config.grown_from is None else read_config(config.grown_from)
    grown: dict[str, object] = {}
    if begun is not None:
        grown = {"grown_from": dict(begun.training), "pairs": digest(config.out / "pairs.jsonl")}
    if config.answers > 0:
        grown["answers"] = digest(config.out / "answers.jsonl")
    described = TextConfig(
        name="code-small-ar" if config.twin == "ar" else "code-small",
        version=1 if begun is None else begun.version + 1,
        network=made.model.config,
        limit=made.model.config.max_length,
        length=SPAN,
        tokenizer="",
        training={
            "generator": VERSION,
            "split": split().digest,
            "seed": config.seed,
            "steps": progress.step,
            "samples": progress.samples,
            "tokens": progress.tokens,
            "seconds": round(progress.seconds),
            **grown,
        },
        baseline=config.twin is not None,
    )
    save_text(folder, described, made.averaged(), tokenizer)


def main(config: CodeConfig) -> Path:
    """Trains until the budget is spent and gives `config.out`, which then is a model folder.

    Raises:
        CheckpointError: `resume` is asked for and there is no state of this run.
    """
    made, tokenizer = trainer(config)
    made.run()
    export(made, tokenizer, config, config.out)
    return config.out
