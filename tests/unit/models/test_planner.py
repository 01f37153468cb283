"""The planner network, its calls and its files."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfuse.errors import CheckpointError
from perfuse.models.call import Call
from perfuse.models.planner import (
    Planner,
    PlannerConfig,
    PlannerNetwork,
    load_planner,
    save_planner,
    untrained_planner,
)

CONFIG = PlannerConfig(
    environment="maze2d-umaze",
    tokens=8,
    stride=6,
    dt=0.01,
    width=32,
    blocks=2,
    centre=(1.8, 1.8, 0.0, 0.0),
    scale=(1.5, 1.5, 5.0, 5.0),
    name="tiny",
)
SHIPPED = Path(__file__).parents[3] / "service/perfuse/pretrained/maze2d-umaze"


def call(planner: Planner, seed: int, **fields: object) -> Call:
    random = torch.Generator().manual_seed(seed)
    inputs = {
        "x": torch.randn(planner.config.tokens, 4, generator=random),
        "t": torch.rand((), generator=random),
        "condition": torch.randn(6, generator=random),
    }
    return dataclasses.replace(Call(planner.network, inputs, frozenset({"x0"})), **fields)


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_units_are_restored(state: list[float]) -> None:
    states = torch.tensor([state], dtype=torch.float64)
    assert torch.allclose(CONFIG.restore(CONFIG.normalise(states)), states, atol=1e-12)


def test_the_condition_is_the_normalised_start_and_goal() -> None:
    state = torch.tensor([3.3, 0.3, 5.0, 0.0], dtype=torch.float64)
    goal = torch.tensor([1.8, 3.3], dtype=torch.float64)
    assert CONFIG.condition(state, goal).tolist() == pytest.approx([1, -1, 1, 0, 0, 1])


@given(st.integers(1, 6))
def test_each_row_depends_on_its_own_call_only(rows: int) -> None:
    planner = untrained_planner(CONFIG, seed=0)
    calls = [call(planner, seed) for seed in range(rows)]
    together = planner.network.forward(calls)
    for one, output in zip(calls, together, strict=True):
        assert output.keys() == {"x0"}
        assert output["x0"].shape == (8, 4)
        assert torch.allclose(output["x0"], planner.network.forward([one])[0]["x0"], atol=1e-5)


def test_blocks_of_equal_size_give_equal_bits_whoever_is_in_them() -> None:
    planner = untrained_planner(CONFIG, seed=0)
    rows = planner.network.reproducible_rows
    mine = call(planner, 1)
    first = planner.network.forward([mine] * rows)[0]["x0"]
    mixed = planner.network.forward([*(call(planner, seed) for seed in range(5, 4 + rows)), mine])[-1]["x0"]
    assert torch.equal(first, mixed)


def test_an_energy_gives_its_gradient_with_respect_to_the_noised_plan() -> None:
    planner = untrained_planner(CONFIG, seed=0)
    plain, pulled = call(planner, 1), call(planner, 1, energy=lambda x0: x0[-1, 0])
    assert planner.network.key(plain) != planner.network.key(pulled)
    (output,) = planner.network.forward([pulled])
    assert torch.equal(output["x0"], planner.network.forward([plain])[0]["x0"])
    assert not output["x0"].requires_grad
    step = torch.zeros(8, 4)
    step[2, 1] = 1e-2
    ends = [
        float(planner.network.forward([dataclasses.replace(plain, inputs={**plain.inputs, "x": x})])[0]["x0"][-1, 0])
        for x in (plain.inputs["x"] + step, plain.inputs["x"] - step)
    ]
    assert float(output["grad"][2, 1]) == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=1e-2)


def test_the_key_tells_plans_of_other_lengths_apart() -> None:
    planner = untrained_planner(CONFIG, seed=0)
    longer = untrained_planner(dataclasses.replace(CONFIG, tokens=9), seed=0)
    assert planner.network.key(call(planner, 1)) == planner.network.key(call(planner, 2))
    assert planner.network.key(call(planner, 1)) != planner.network.key(call(longer, 1))


def test_a_saved_planner_loads_with_its_weights_and_name(tmp_path: Path) -> None:
    network = PlannerNetwork(CONFIG)
    save_planner(tmp_path / "tiny", CONFIG, network.state_dict(), {"seconds": 1})
    loaded = load_planner(tmp_path / "tiny")
    assert loaded.config == CONFIG
    assert loaded.network.name == "tiny@1"
    x0 = loaded.network.forward([call(loaded, 3)])[0]["x0"]
    one = call(loaded, 3).inputs
    with torch.no_grad():
        assert torch.allclose(x0, network(one["x"][None], one["t"][None], one["condition"][None])[0], atol=1e-2)


def test_the_shipped_planner_is_small_and_has_a_card() -> None:
    planner = load_planner(SHIPPED)
    assert planner.network.name == "maze2d-umaze@1"
    assert (SHIPPED / "model.safetensors").stat().st_size <= 8_000_000
    assert (SHIPPED / "CARD.md").exists()


def test_a_missing_folder_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"^none/config\.json does not describe a planner: FileNotFoundError: "
    ) as e:
        load_planner(tmp_path / "none")
    assert e.value.hint == "train it again with `perfuse train maze2d`"


def test_another_architecture_is_a_checkpoint_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "text"}))
    message = f"{tmp_path.name}: expected a planner, config.json says 'text'"
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        load_planner(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_or_foreign_weights_are_a_checkpoint_error(tmp_path: Path, damage: str) -> None:
    save_planner(tmp_path, CONFIG, PlannerNetwork(CONFIG).state_dict(), {})
    path = tmp_path / "model.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        other = dataclasses.replace(CONFIG, width=64)
        save_planner(tmp_path / "other", other, PlannerNetwork(other).state_dict(), {})
        path.write_bytes((tmp_path / "other/model.safetensors").read_bytes())
    start = f"{tmp_path.name}/model.safetensors does not hold this planner: "
    with pytest.raises(CheckpointError, match=f"^{re.escape(start)}"):
        load_planner(tmp_path)
