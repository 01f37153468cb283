"""Recipe of `code-small`: masked diffusion over Python, and of its autoregressive twin."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal

import torch

from perfuse.models.text import SPAN, TextConfig, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork, parameters
from perfuse.training.corpus.sources import windows
from perfuse.training.corpus.tasks import VERSION, split, training_tasks
from perfuse.training.examples import Batch, pool
from perfuse.training.losses import causal_step, diffusion_step
from perfuse.training.trainer import Trainer, TrainerConfig

log = logging.getLogger(__name__)
SWITCH = 41
"""Pool from which most rows are gaps to fill: whole functions are learned by then, joints at a cut word are not."""
CUTS = (0.40, 0.72)
"""Share of cut functions before and after; the twin, which is measured on whole functions, stays with the first."""


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


def tokenizer_texts(seed: int, tasks: int) -> Iterator[str]:
    """What the tokenizer is trained on: sentences and functions, then raw Python."""
    rng = Random(f"tokenizer/{seed}")
    for task in islice(training_tasks(rng), tasks):
        yield task.prompt
        yield task.code
    yield from islice(windows(rng), tasks * 2 // 5)


def trainer(config: CodeConfig) -> tuple[Trainer[Batch], TextTokenizer]:
    """The trainer of the recipe and its tokenizer, which is made on first use and kept beside the state."""
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "tokenizer.json"
    if not path.exists():
        TextTokenizer.train(tokenizer_texts(config.seed, config.tokenizer_tasks), config.vocabulary).save(path)
    tokenizer = TextTokenizer.load(path)
    torch.manual_seed(config.seed)
    causal = config.twin == "ar"
    shape = DiffusionConfig(tokenizer.size, layers=config.layers, causal=causal)
    model = UnifiedScoreNetwork(shape)
    log.info("%d parameters, %d tokens", parameters(model), tokenizer.size)
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
            cuts=CUTS[1] if index >= SWITCH and not causal else CUTS[0],
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


def export(made: Trainer[Batch], tokenizer: TextTokenizer, config: CodeConfig, folder: Path, version: int = 1) -> None:
    """Writes the averaged weights as a model folder, with the generator's version and the hash of the split."""
    assert isinstance(made.model, UnifiedScoreNetwork)
    progress = made.progress
    described = TextConfig(
        name="code-small-ar" if config.twin == "ar" else "code-small",
        version=version,
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
