"""Trains a low-rank adaptation from corrections, beside replay of what the base model says itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn

from perfuse.errors import InvalidRequest
from perfuse.models.canvas import given
from perfuse.models.lora import Adaptation, fresh
from perfuse.models.text import read_config, read_weights
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import UnifiedScoreNetwork
from perfuse.training.examples import LIMIT, Batch, Row, canvas, cut, pack
from perfuse.training.losses import diffusion_step
from perfuse.training.trainer import Progress, Trainer, TrainerConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lesson:
    """Text that answers a prompt between prefix and suffix; a negative weight says that it does not."""

    prompt: str
    prefix: str
    middle: str
    suffix: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """How an adaptation is trained.

    Attributes:
        rank: of every adapted layer.
        alpha: numerator of the scale `alpha / sqrt(rank)`.
        steps: updates.
        minutes: wall-clock limit.
        rate: peak learning rate.
        replay: share of the rows that are replay (1:1 keeps what the base model can; research measured 0.982 to 0.998).
        cuts: share of the lessons that are shown as a gap between other places of their text.
        batch_tokens: ids per update.
        pool_rows: rows drawn at once and sorted by length.
        seed: of everything random.
        device: where to compute.
        save_every: seconds between states from which a run can go on.
    """

    rank: int = 16
    alpha: float = 8.0
    steps: int = 300
    minutes: float = 30.0
    rate: float = 2e-3
    replay: float = 0.5
    cuts: float = 0.2
    batch_tokens: int = 1024
    pool_rows: int = 256
    seed: int = 0
    device: str = "cpu"
    save_every: float = 5.0


def _parameter(block: int, layer: str, side: str) -> str:
    return f"block {block} {layer.replace('.', ' ')} {side}"


class Adapting(nn.Module):
    """A frozen network with an adaptation that is trained."""

    def __init__(self, base: UnifiedScoreNetwork, adaptation: Adaptation) -> None:
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        self._shape = adaptation
        for i, block in enumerate(adaptation.blocks):
            for key, pair in block.items():
                for side, part in zip("AB", pair, strict=True):
                    self.register_parameter(_parameter(i, key, side), nn.Parameter(part))

    def adaptation(self, weights: dict[str, Tensor] | None = None) -> Adaptation:
        """The adaptation as it stands, or with other weights by parameter name."""
        found = dict(self.named_parameters()) if weights is None else weights
        blocks = tuple(
            {key: (found[_parameter(i, key, "A")], found[_parameter(i, key, "B")]) for key in block}
            for i, block in enumerate(self._shape.blocks)
        )
        return Adaptation(self._shape.id, self._shape.rank, self._shape.alpha, blocks)

    def hidden(self, tokens: Tensor, seen: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Hidden vectors `[B, L, D]` of the adapted network."""
        adapted = [{key: [layer] for key, layer in block.items()} for block in self.adaptation().on(slice(None))]
        return self.base.hidden(tokens, seen, positions, adapted)

    def decode(self, hidden: Tensor) -> Tensor:
        """Logits `[..., V]`."""
        return self.base.decode(hidden)


class LoRATrainer:
    """Trains adaptations of one base model, always from the base weights.

    Args:
        base: model folder.
        config: see `LoraConfig`.

    Raises:
        CheckpointError: the folder is missing or damaged.
    """

    def __init__(self, base: Path, config: LoraConfig | None = None) -> None:
        self.config = config or LoraConfig()
        self.described = read_config(base)
        self.tokenizer = TextTokenizer.load(base / "tokenizer.json")
        self._network = UnifiedScoreNetwork(self.described.network)
        self._network.load_state_dict(read_weights(base, self._network, torch.float32))

    def fit(
        self,
        lessons: Sequence[Lesson],
        replay: Sequence[Lesson],
        out: Path,
        *,
        resume: bool = False,
        watch: Callable[[Progress, float], None] | None = None,
    ) -> Adaptation:
        """The adaptation that the lessons teach; the state lies in `out`, from which a run can go on.

        What is too long for a training row is left out.

        Args:
            lessons: what to learn.
            replay: what to keep.
            out: folder of the state.
            resume: go on from the state.
            watch: told after each step where the run stands, with its smoothed loss.

        Raises:
            InvalidRequest: there is nothing to learn, or all of it is too long.
            CheckpointError: `resume` is asked for and there is no state of this run.
        """
        if not any(lesson.weight > 0 for lesson in lessons):
            raise InvalidRequest(f"{len(lessons)} lessons came, none with a positive weight; expected at least one")
        lessons, replay = self._fitting(lessons), self._fitting(replay)
        if not any(lesson.weight > 0 for lesson in lessons):
            raise InvalidRequest(f"no lesson with a positive weight fits into {LIMIT} tokens")
        generator = torch.Generator().manual_seed(self.config.seed)
        blank = fresh(self.described.network, self.config.rank, self.config.alpha, generator)
        trainer = Trainer(
            Adapting(self._network, blank),
            diffusion_step,
            lambda index: self._pool(lessons, replay, index),
            lambda batch: (len(batch.tokens), int(batch.places.keys.sum())),
            TrainerConfig(
                self.config.minutes, out, seed=self.config.seed, rate=self.config.rate, warmup=20, decay=0.0, ema=0.98,
                save_every=self.config.save_every, device=self.config.device, steps=self.config.steps,
            ),
        )  # fmt: skip
        if resume:
            trainer.resume()
        trainer.run(watch)
        assert isinstance(trainer.model, Adapting)
        return trainer.model.adaptation(dict(trainer.averaged()))

    def _fitting(self, lessons: Sequence[Lesson]) -> list[Lesson]:
        """Those whose canvas, with the one null that ends it, is not too long."""
        encode = self.tokenizer.encode
        fitting = [
            lesson
            for lesson in lessons
            if len(given(encode(lesson.prompt), encode(lesson.prefix), encode(lesson.suffix)))
            + len(encode(lesson.middle))
            < LIMIT
        ]
        if len(fitting) < len(lessons):
            log.warning(
                "%d of %d lessons are left out: over %d tokens", len(lessons) - len(fitting), len(lessons), LIMIT
            )
        return fitting

    def _pool(self, lessons: Sequence[Lesson], replay: Sequence[Lesson], index: int) -> list[Batch]:
        rng = Random(f"lora/{self.config.seed}/{index}")
        batches = pack(
            list(islice(self._rows(lessons, replay, rng), self.config.pool_rows)), self.config.batch_tokens, copies=True
        )
        rng.shuffle(batches)
        return batches

    def _rows(self, lessons: Sequence[Lesson], replay: Sequence[Lesson], rng: Random) -> Iterator[Row]:
        while True:
            source = replay if replay and rng.random() < self.config.replay else lessons
            lesson = rng.choice(source)
            parts = lesson.prompt, lesson.prefix, lesson.middle, lesson.suffix
            if lesson.weight > 0 and rng.random() < self.config.cuts and len(lesson.middle) > 1:
                before, middle, after = cut(lesson.middle, rng)
                parts = lesson.prompt, lesson.prefix + before, middle, after + lesson.suffix
            row = canvas(self.tokenizer, parts, rng)
            if len(row.ids) <= LIMIT:
                yield Row(row.ids, row.start, lesson.weight)
