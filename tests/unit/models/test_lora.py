"""Adaptations: rows of several share a batch, rows of none stay as they were, files are PEFT's."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from perfuse.errors import CheckpointError
from perfuse.models.call import Call
from perfuse.models.lora import TARGETS, Adaptation, fresh, from_bytes, grouped, peft_config, shapes, to_bytes
from perfuse.models.text import TextNetwork
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork

CONFIG = DiffusionConfig(300, width=32, layers=2, heads=2, condition=8)


def network() -> TextNetwork:
    torch.manual_seed(0)
    return TextNetwork(UnifiedScoreNetwork(CONFIG), "small@1")


def taught(seed: int, rank: int = 4) -> Adaptation:
    generator = torch.Generator().manual_seed(seed)
    made = fresh(CONFIG, rank, 8.0, generator, f"a{seed}")
    for block in made.blocks:
        for _, b in block.values():
            b.normal_(generator=generator)
    return made


def test_a_fresh_adaptation_changes_nothing() -> None:
    made, tokens = network(), torch.arange(5, 25)
    bare, adapted = made.forward(
        [
            Call(made, {"tokens": tokens}),
            Call(made, {"tokens": tokens}, adaptation=fresh(CONFIG, 4, 8.0, torch.Generator())),
        ]
    )
    assert torch.equal(bare["logits"], adapted["logits"])


def test_rows_of_several_adaptations_share_a_batch_and_keep_to_themselves() -> None:
    made, first, second = network(), taught(1), taught(2)
    tokens = [torch.randint(5, 300, (20,), generator=torch.Generator().manual_seed(i)) for i in range(6)]
    each = [first, None, second, first, None, second]
    calls = [Call(made, {"tokens": row}, adaptation=one) for row, one in zip(tokens, each, strict=True)]
    mixed = made.forward(calls)
    bare = made.forward([Call(made, {"tokens": row}) for row in tokens])
    for i, call in enumerate(calls):
        (alone,) = made.forward([call])
        assert torch.allclose(mixed[i]["logits"], alone["logits"], atol=1e-4)
        if each[i] is None:
            assert torch.equal(mixed[i]["logits"], bare[i]["logits"])
        else:
            assert not torch.allclose(mixed[i]["logits"], bare[i]["logits"], atol=1e-2)


def test_an_adaptation_adds_the_scaled_product_to_the_weights() -> None:
    made, adaptation = network(), taught(3)
    merged = network()
    for block, layers in zip(merged._network.trunk.blocks, adaptation.blocks, strict=True):  # the reference merges
        for name, (a, b) in layers.items():
            weight = block.get_submodule(name).weight
            weight += adaptation.alpha / math.sqrt(adaptation.rank) * b @ a
    tokens = torch.arange(5, 25)
    (added,) = made.forward([Call(made, {"tokens": tokens}, adaptation=adaptation)])
    (expected,) = merged.forward([Call(merged, {"tokens": tokens})])
    assert torch.allclose(added["logits"], expected["logits"], atol=1e-3)


def test_the_scale_may_stand_in_b() -> None:
    made, adaptation = network(), taught(3)
    call = Call(made, {"tokens": torch.arange(5, 25)}, adaptation=adaptation)
    scaled = adaptation.scaled()
    assert (adaptation.scale, scaled.scale) == (4.0, 1.0)
    (plain,), (folded,) = made.forward([call]), made.forward([replace(call, adaptation=scaled)])
    assert torch.allclose(plain["logits"], folded["logits"], atol=1e-4)


def test_groups_are_runs_of_the_same_object() -> None:
    first, second = taught(1), taught(2)
    assert grouped([None, None]) is None
    layers = grouped([None, first, first, second])
    assert layers is not None
    assert [one.rows for one in layers[1]["up"]] == [slice(1, 3), slice(3, 4)]


def test_files_have_the_names_of_peft_and_come_back() -> None:
    made = taught(4)
    data = to_bytes(made)
    names = set(load(data))
    assert "base_model.model.trunk.blocks.1.attention.qkv.lora_A.weight" in names
    assert len(names) == CONFIG.layers * len(TARGETS) * 2
    again = from_bytes(data, CONFIG, "a4")
    assert (again.rank, again.alpha, again.parameters) == (made.rank, made.alpha, made.parameters)
    for ours, theirs in zip(made.blocks, again.blocks, strict=True):
        assert all(torch.equal(x, y) for key in TARGETS for x, y in zip(ours[key], theirs[key], strict=True))


def test_a_plain_lora_is_scaled_by_its_rank() -> None:
    made = taught(5)
    plain = {**peft_config(made), "use_rslora": False}
    again = from_bytes(save(load(to_bytes(made))), CONFIG, "plain", plain)
    assert again.on(slice(0, 1))[0]["up"].scale == pytest.approx(made.alpha / made.rank)


def test_the_share_of_parameters_is_that_of_the_shapes() -> None:
    expected = CONFIG.layers * 4 * sum(inputs + outputs for inputs, outputs in shapes(CONFIG).values())
    assert taught(1).parameters == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t | {"other.weight": torch.zeros(1)},
            "adaptation 'x' holds 'other.weight', which this model has not",
        ),
        (
            lambda t: t | {"base_model.model.trunk.blocks.0.up.lora_A.weight": torch.zeros(4, 31)},
            "adaptation 'x': block 0 up has shapes {'A': (4, 31), 'B': (128, 4)}, expected A (4, 32) and B (128, 4)",
        ),
    ],
)
def test_adaptations_of_another_network_are_refused(change, message) -> None:  # type: ignore[no-untyped-def]
    tensors = change(load(to_bytes(taught(6))))
    data = save(tensors, metadata={"adapter_config": json.dumps(peft_config(taught(6)))})
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        from_bytes(data, CONFIG, "x")
    assert caught.value.hint == "expected the files of a PEFT LoRA made for this model"


def test_damaged_bytes_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"^adaptation 'x' cannot be read: "):
        from_bytes(b"not a file of tensors", CONFIG, "x")
