"""An adaptation learns its lessons from the base weights, which stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perfuse.errors import InvalidRequest
from perfuse.models.canvas import given
from perfuse.models.lora import Adaptation
from perfuse.models.text import TextConfig, read_weights, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork
from perfuse.training.lora import Lesson, LoraConfig, LoRATrainer

SAID = Lesson("Double it.", "", "x * 2", "")
CONFIG = LoraConfig(rank=4, steps=40, rate=2e-2, replay=0.0, cuts=0.2, batch_tokens=256, pool_rows=16)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = TextTokenizer.train([SAID.prompt, SAID.middle, "x + 1"] * 3, 280)
    shape = DiffusionConfig(tokenizer.size, width=32, layers=2, heads=2, condition=8)
    torch.manual_seed(0)
    save_text(folder, TextConfig("base", 1, shape, 256, 32, "", {}), UnifiedScoreNetwork(shape).state_dict(), tokenizer)
    return folder


def likelihood(trainer: LoRATrainer, adaptation: Adaptation | None, lesson: Lesson) -> float:
    """Log probability of the lesson's text token by token."""
    network = UnifiedScoreNetwork(trainer.described.network)
    network.load_state_dict(trainer._network.state_dict())
    head = given(trainer.tokenizer.encode(lesson.prompt), (), ())
    said = trainer.tokenizer.encode(lesson.middle)
    tokens = torch.tensor([[*head, *said]])
    order = torch.tensor([[0] * len(head) + list(range(1, len(said) + 1))])
    adapted = (
        None
        if adaptation is None
        else [{key: [layer] for key, layer in block.items()} for block in adaptation.on(slice(None))]
    )
    with torch.no_grad():
        hidden = network.hidden(tokens, order[:, None, :] <= order[:, :, None], adapted=adapted)
        chances = network.decode(hidden)[0, len(head) - 1 : -1].log_softmax(-1)
    return float(chances.gather(1, torch.tensor(said)[:, None]).sum())


def test_lessons_are_learned_and_the_base_stays(base: Path, tmp_path: Path) -> None:
    trainer = LoRATrainer(base, CONFIG)
    before = likelihood(trainer, None, SAID)
    adaptation = trainer.fit([SAID], [], tmp_path)
    assert likelihood(trainer, adaptation, SAID) > before + 3
    assert likelihood(trainer, None, SAID) == pytest.approx(before, abs=0.5)
    stored = read_weights(base, UnifiedScoreNetwork(trainer.described.network))
    again = LoRATrainer(base, CONFIG)
    assert all(torch.equal(stored[name].float(), weight) for name, weight in again._network.state_dict().items())


def test_what_is_rejected_becomes_less_likely(base: Path, tmp_path: Path) -> None:
    wrong = Lesson("Double it.", "", "x + 1", "", weight=-1.0)
    trainer = LoRATrainer(base, CONFIG)
    with_it = trainer.fit([SAID, wrong], [], tmp_path / "with")
    right = Lesson("Double it.", "", "x + 1", "")
    both = LoRATrainer(base, CONFIG)
    taught = both.fit([SAID, right], [], tmp_path / "both")
    assert likelihood(trainer, with_it, right) < likelihood(both, taught, right) - 1


def test_a_run_goes_on_where_it_was_ended(base: Path, tmp_path: Path) -> None:
    whole = LoRATrainer(base, CONFIG).fit([SAID], [], tmp_path / "whole")
    halved = LoraConfig(**{**{f: getattr(CONFIG, f) for f in CONFIG.__slots__}, "minutes": 0.0})
    LoRATrainer(base, halved).fit([SAID], [], tmp_path / "parts")
    parts = LoRATrainer(base, CONFIG).fit([SAID], [], tmp_path / "parts", resume=True)
    for ours, theirs in zip(whole.blocks, parts.blocks, strict=True):
        assert all(torch.equal(x, y) for key in ours for x, y in zip(ours[key], theirs[key], strict=True))


def test_replay_alone_teaches_nothing(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"^1 lessons came, none with a positive weight; expected at least one$"):
        LoRATrainer(base, CONFIG).fit([Lesson("a", "", "b", "", weight=-1.0)], [SAID], tmp_path)
