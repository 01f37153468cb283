"""The shared transformer, the text head and the text model behind the engine's contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfuse.diffusion.blocks import attends
from perfuse.errors import CheckpointError
from perfuse.models.call import Call
from perfuse.models.heads import TextProjectionHead
from perfuse.models.layers import attend, rotate, rotations, sinusoidal
from perfuse.models.precision import pick_dtype
from perfuse.models.text import TextConfig, TextNetwork, load_text, save_text, untrained_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, SharedTransformer, UnifiedScoreNetwork, parameters

CODE = "def double(values):\n    return [value * 2 for value in values]\n"


def small(vocabulary: int = 300, **fields: bool) -> DiffusionConfig:
    return DiffusionConfig(vocabulary, width=32, layers=2, heads=2, condition=8, max_length=128, **fields)


def network(**fields: bool) -> UnifiedScoreNetwork:
    torch.manual_seed(0)
    made = UnifiedScoreNetwork(small(**fields))
    for block in made.trunk.blocks:
        torch.nn.init.normal_(block.adapt.weight, std=0.1)
    return made.eval()


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train([CODE] * 4, 300)


def call(made: TextNetwork, length: int, *want: str) -> Call:
    tokens = torch.randint(5, 300, (length,), generator=torch.Generator().manual_seed(length))
    return Call(made, {"tokens": tokens}, want=frozenset(want or ("logits",)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_token_decodes_to_itself(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    head = TextProjectionHead(4096, 256).to(dtype)
    tokens = torch.arange(4096)
    assert torch.equal(head.decode(head.encode(tokens)).argmax(-1), tokens)
    head.freeze()
    assert torch.equal(head.decode(head.encode(tokens)).argmax(-1), tokens)


def test_gradients_reach_the_table_from_both_sides_of_the_head() -> None:
    head = TextProjectionHead(50, 16)
    head.encode(torch.tensor([3])).sum().backward()
    assert head.table.grad is not None
    assert float(head.table.grad[3].abs().sum()) > 0
    head.table.grad = None
    head.decode(torch.randn(1, 16)).square().sum().backward()
    assert head.table.grad is not None
    assert (head.table.grad.abs().sum(dim=1) > 0).all()


def test_the_text_head_has_under_ten_million_parameters_and_the_trunk_most_of_the_network() -> None:
    made = UnifiedScoreNetwork(DiffusionConfig(2048))
    assert parameters(made.text) < 10_000_000
    assert parameters(made) < 10_000_000
    assert parameters(made.trunk) / parameters(made) > 0.9


def test_rotations_make_attention_depend_on_distance_alone() -> None:
    cos, sin = rotations(64, 8)
    query, key = torch.randn(8), torch.randn(8)
    rotated_queries, rotated_keys = rotate(query.expand(64, 8), cos, sin), rotate(key.expand(64, 8), cos, sin)
    scores = rotated_queries @ rotated_keys.T
    assert torch.allclose(scores[10, 3], scores[40, 33], atol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_training_and_inference_attend_alike(causal: bool) -> None:
    query, key, value = torch.randn(3, 2, 2, 6, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    keys = torch.ones(2, 6, dtype=torch.bool)
    keys[1, 4:] = False
    seen = keys[:, None]
    trained = attend(query, key, value, seen, causal=causal)
    with torch.no_grad():
        served = attend(query, key, value, seen, causal=causal)
    assert torch.allclose(trained, served, atol=1e-6)


def test_the_squared_relu_has_the_slope_of_its_formula() -> None:
    made = network()
    tokens = torch.randint(0, 300, (1, 5))
    made(tokens).square().mean().backward()
    weight = made.trunk.blocks[0].up.weight
    assert weight.grad is not None
    with torch.no_grad():
        weight[3, 4] += 1e-2
        above = float(made(tokens).square().mean())
        weight[3, 4] -= 2e-2
        below = float(made(tokens).square().mean())
    assert float(weight.grad[3, 4]) == pytest.approx((above - below) / 2e-2, rel=0.05, abs=1e-5)


def test_a_causal_network_sees_nothing_ahead() -> None:
    made = network(causal=True)
    tokens = torch.randint(0, 300, (1, 12))
    changed = tokens.clone()
    changed[0, 8:] += 1
    with torch.no_grad():
        assert torch.equal(made(tokens)[0, :8], made(changed)[0, :8])


def test_time_enters_a_timed_network_and_no_other() -> None:
    for timed in (True, False):
        torch.manual_seed(0)
        trunk = SharedTransformer(small(timed=timed))
        for block in trunk.blocks:
            torch.nn.init.normal_(block.adapt.weight, std=0.5)
        x = torch.randn(2, 4, 32)
        early, late = (trunk(x, 0, torch.full((2,), t)) for t in (0.1, 0.9))
        assert torch.equal(early, late) is not timed


def test_sinusoids_start_at_ones_and_zeros() -> None:
    assert sinusoidal(torch.zeros(1), 6).tolist() == [[1, 1, 1, 0, 0, 0]]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_outputs_have_the_length_of_their_row(lengths: list[int]) -> None:
    made = TextNetwork(network(), "small@1")
    calls = [call(made, length, "logits", "hidden") for length in lengths]
    for asked in calls:
        (output,) = made.forward([asked])
        assert output["logits"].shape == (len(asked.inputs["tokens"]), 300)
        assert output["hidden"].shape == (len(asked.inputs["tokens"]), 32)


def test_a_row_pads_by_its_own_length_alone() -> None:
    made = TextNetwork(network(), "small@1")
    assert made.key(call(made, 1)) == (32, frozenset({"logits"}))
    assert made.key(call(made, 32)) == (32, frozenset({"logits"}))
    assert made.key(call(made, 33, "hidden")) == (64, frozenset({"hidden"}))
    assert made.name == "small@1"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neighbours_and_place_never_change_a_bit_at_a_fixed_number_of_rows(dtype: torch.dtype) -> None:
    made = TextNetwork(network().to(dtype), "small@1")
    rows = made.reproducible_rows
    calls = [call(made, length) for length in range(33, 33 + 2 * rows)]
    alone = [made.forward([c] * rows)[0]["logits"] for c in calls]
    mixed = [*made.forward(calls[:rows]), *made.forward(calls[rows:])]
    backwards = made.forward(calls[:rows][::-1])[::-1]
    for i, expected in enumerate(alone):
        assert torch.equal(mixed[i]["logits"], expected)
    for i, output in enumerate(backwards):
        assert torch.equal(output["logits"], alone[i])


def write(folder: Path, tokenizer: TextTokenizer) -> TextConfig:
    config = TextConfig("tiny", 3, small(tokenizer.size), 128, 32, "", {"seconds": 1.5})
    torch.manual_seed(2)
    weights = UnifiedScoreNetwork(config.network).state_dict()
    save_text(folder, config, weights, tokenizer)
    return config


def test_a_saved_model_is_read_back(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    write(tmp_path, tokenizer)
    read = load_text(tmp_path)
    assert read.config.label == "tiny@3"
    assert read.config.training == {"seconds": 1.5}
    assert read.network.name == "tiny@3"
    assert read.tokenizer.encode(CODE) == tokenizer.encode(CODE)
    assert read.parameters == parameters(UnifiedScoreNetwork(small(tokenizer.size)))
    assert read.network.forward([call(read.network, 7)])[0]["logits"].dtype == pick_dtype()
    blank = untrained_text(read.config, read.tokenizer)
    assert blank.network.name == "tiny@3-untrained"
    assert blank.parameters == read.parameters


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "garbage", "empty"])
def test_a_damaged_folder_is_a_checkpoint_error(
    tmp_path: Path, tokenizer: TextTokenizer, name: str, damage: str
) -> None:
    write(tmp_path, tokenizer)
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(b"\xff\x00garbage" * 3 if damage == "garbage" else b"")
    with pytest.raises(CheckpointError) as caught:
        load_text(tmp_path)
    assert name in caught.value.detail
    assert caught.value.hint == "fetch the model folder again, or train it with `perfuse train code`"


def test_another_architecture_is_refused(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    write(tmp_path, tokenizer)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architecture": "planner"}))
    with pytest.raises(CheckpointError) as caught:
        load_text(tmp_path)
    assert caught.value.detail == (
        f"{tmp_path.name}: expected the architecture 'unified-text', config.json says 'planner'"
    )


def test_weights_of_another_shape_are_refused(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    write(tmp_path, tokenizer)
    config = json.loads((tmp_path / "config.json").read_text())
    config["network"]["width"] = 64
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError,
        match=r"does not hold this text model: text\.table has shape \(292, 32\), expected \(292, 64\)$",
    ):
        load_text(tmp_path)


def test_a_tokenizer_of_another_training_is_refused(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    write(tmp_path, tokenizer)
    TextTokenizer.train(["other words"], 290).save(tmp_path / "tokenizer.json")
    with pytest.raises(CheckpointError, match="is not the one the model was trained with: SHA-256"):
        load_text(tmp_path)


def test_a_network_told_the_positions_does_not_care_for_the_order_of_a_row() -> None:
    made = network()
    tokens, mixed = torch.randint(5, 300, (2, 9)), torch.randperm(9)
    with torch.no_grad():
        expected, found = made(tokens)[:, mixed], made(tokens[:, mixed], positions=mixed.expand(2, -1))
    assert torch.allclose(found, expected, atol=1e-5)


def test_who_is_not_seen_changes_nothing(tokenizer: TextTokenizer) -> None:
    made = network()
    tokens = torch.randint(5, 300, (1, 9))
    changed = tokens.clone()
    changed[0, 6:] += 1
    seen = attends(torch.tensor([[0, 0, 0, 1, 2, 3, 4, 4, 4]]))
    with torch.no_grad():
        before, after = made(tokens, seen), made(changed, seen)
    assert torch.equal(before[0, :6], after[0, :6])
    assert not torch.equal(before[0, 6:], after[0, 6:])


def test_products_of_bytes_say_nearly_what_those_of_floats_say(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    write(tmp_path, tokenizer)
    exact, bytes_ = (load_text(tmp_path, dtype=dtype).network for dtype in ("f32", "int8"))
    rows = [call(exact, length) for length in (7, 9, 12)]
    said, told = exact.forward(rows), bytes_.forward([call(bytes_, length) for length in (7, 9, 12)])
    for wide, narrow in zip(said, told, strict=True):
        assert narrow["logits"].dtype == torch.float32
        difference = (wide["logits"] - narrow["logits"]).abs().max()
        assert 0 < difference < 0.1 * wide["logits"].std()


def test_no_row_of_bytes_depends_on_its_company(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    write(tmp_path, tokenizer)
    made = load_text(tmp_path, dtype="int8").network
    alone = [made.forward([call(made, length)])[0]["logits"] for length in (7, 9)]
    together = [output["logits"] for output in made.forward([call(made, length) for length in (7, 9)])]
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
