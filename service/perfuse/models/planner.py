"""The trajectory planner: a residual MLP that predicts a whole strided plan from a noised one.

A plan is L states (x, y, vx, vy), one every `stride` steps of `dt` seconds. For one fixed layout the flattened plan
needs no attention: per CPU second an MLP sees about 150 times as many samples as a temporal U-Net.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from perfuse.errors import CheckpointError
from perfuse.models.call import Call, Network, Output
from perfuse.models.layers import Linear, modulate, norm, sinusoidal
from perfuse.shapes import Float, Float64

STATE, GOAL = 4, 2


@dataclass(frozen=True, slots=True)
class PlannerConfig:
    """What `config.json` of a planner holds.

    Attributes:
        environment: name of the maze.
        tokens: L, states of a plan.
        stride: simulator steps between two states.
        dt: seconds of one simulator step.
        width: of the residual stream.
        blocks: residual blocks.
        centre: what is subtracted from (x, y, vx, vy).
        scale: what the difference is divided by.
        name: model name.
        version: counted up with each training that is shipped.
    """

    environment: str
    tokens: int
    stride: int
    dt: float
    width: int
    blocks: int
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    name: str
    version: int = 1

    @property
    def steps(self) -> int:
        """Simulator steps from the first to the last state of a plan."""
        return (self.tokens - 1) * self.stride

    def normalise(self, states: Float64[Tensor, "*b 4"]) -> Float64[Tensor, "*b 4"]:
        """States in the network's units, about [-1, 1]."""
        return (states - states.new_tensor(self.centre)) / states.new_tensor(self.scale)

    def restore(self, plan: Float[Tensor, "*b 4"]) -> Float64[Tensor, "*b 4"]:
        """The network's units in m and m/s, float64."""
        wide = plan.double()
        return wide * wide.new_tensor(self.scale) + wide.new_tensor(self.centre)

    def condition(self, state: Float64[Tensor, "*b 4"], goal: Float64[Tensor, "*b 2"]) -> Float64[Tensor, "*b 6"]:
        """What the network is told beside the noised plan: the start state and the goal, normalised."""
        still = torch.cat((goal, torch.zeros_like(goal)), dim=-1)
        return torch.cat((self.normalise(state), self.normalise(still)[..., :GOAL]), dim=-1)


class PlannerBlock(nn.Module):
    """`x + down(silu(up(modulate(x))))`; shift and scale come from the condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.adapt = Linear(width, 2 * width, bias=True)
        self.up = Linear(width, 2 * width, bias=True)
        self.down = Linear(2 * width, width, bias=True)
        nn.init.zeros_(self.adapt.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps `[B, D]` to `[B, D]`."""
        shift, scale = self.adapt(condition).chunk(2, dim=-1)
        step: Tensor = self.down(functional.silu(self.up(modulate(x, shift, scale))))
        return x + step


class PlannerNetwork(nn.Module):
    """Predicts x0 of normalised plans."""

    def __init__(self, config: PlannerConfig) -> None:
        super().__init__()
        self.config = config
        self.inputs = Linear(config.tokens * STATE, config.width, bias=True)
        self.situation = Linear(STATE + GOAL, config.width, bias=True)
        self.time = Linear(config.width, config.width, bias=True)
        self.blocks = nn.ModuleList(PlannerBlock(config.width) for _ in range(config.blocks))
        self.outputs = Linear(config.width, config.tokens * STATE, bias=True)

    def forward(
        self, x: Float[Tensor, "rows tokens 4"], t: Float[Tensor, " rows"], condition: Float[Tensor, "rows 6"]
    ) -> Float[Tensor, "rows tokens 4"]:
        """x0 of plans `x` noised to times `t`, given (start, goal)."""
        embedded = sinusoidal(t, self.config.width).to(x.dtype)
        told = functional.silu(self.situation(condition) + self.time(embedded))
        hidden: Tensor = self.inputs(x.flatten(1)) + told
        for block in self.blocks:
            hidden = block(hidden, told)
        plan: Tensor = self.outputs(norm(hidden))
        return plan.view_as(x)


class PlannerCalls:
    """A `PlannerNetwork` as the engine sees it.

    Inputs of a call: `x` [L, 4], `t` [], `condition` [6], all float32. Outputs: `x0` [L, 4] and, if the call has an
    energy, `grad` [L, 4].
    """

    def __init__(self, network: PlannerNetwork) -> None:
        self._network = network.eval().requires_grad_(requires_grad=False)
        self._device = network.outputs.weight.device

    @property
    def name(self) -> str:
        """`model@version`."""
        return f"{self._network.config.name}@{self._network.config.version}"

    @property
    def reproducible_rows(self) -> int:
        """One request of 16 candidates fills a block."""
        return 16

    def key(self, call: Call) -> Hashable:
        """The shape of the plan, what is wanted, and whether a gradient is."""
        return tuple(call.inputs["x"].shape), call.want, call.energy is not None

    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        """x0 of each call's plan; with energies also d energy(x0) / d x of each row."""
        x, t, condition = (
            torch.stack([call.inputs[name] for call in calls]).to(self._device) for name in ("x", "t", "condition")
        )
        if calls[0].energy is None:
            with torch.no_grad():
                return [{"x0": row} for row in self._network(x, t, condition)]
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            x0 = self._network(x, t, condition)
            energies = [call.energy(row) for call, row in zip(calls, x0, strict=True) if call.energy is not None]
            (grad,) = torch.autograd.grad(torch.stack(energies).sum(), x)
        return [{"x0": row, "grad": slope} for row, slope in zip(x0.detach(), grad, strict=True)]


@dataclass(frozen=True, slots=True)
class Planner:
    """A network that plans and the units it plans in."""

    network: Network
    config: PlannerConfig


def save_planner(
    folder: Path, config: PlannerConfig, weights: Mapping[str, Tensor], training: Mapping[str, object]
) -> None:
    """Write `model.safetensors` (fp16) and `config.json`; `training` says how the weights came to be."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: weight.detach().to("cpu", torch.float16).contiguous() for name, weight in weights.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    described = {"architecture": "planner", **asdict(config), "training": dict(training)}
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n")


def read_config(folder: Path) -> PlannerConfig:
    """The configuration in `folder`.

    Raises:
        CheckpointError: it is missing, damaged or not a planner's.
    """
    try:
        found = json.loads((folder / "config.json").read_text())
        if found["architecture"] != "planner":
            raise CheckpointError(f"{folder.name}: expected a planner, config.json says {found['architecture']!r}")
        known = {field.name: found[field.name] for field in fields(PlannerConfig)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{folder.name}/config.json does not describe a planner: {type(error).__name__}: {error}",
            hint="train it again with `perfuse train maze2d`",
        ) from error
    return PlannerConfig(**{**known, "centre": tuple(known["centre"]), "scale": tuple(known["scale"])})


def load_planner(folder: Path, device: str = "cpu") -> Planner:
    """The planner in `folder`, computing in fp32.

    Raises:
        CheckpointError: a file is missing, damaged or of another layout.
    """
    config = read_config(folder)
    try:
        network = PlannerNetwork(config)
        weights = load_file(folder / "model.safetensors")
        network.load_state_dict({name: weight.float() for name, weight in weights.items()})
    except (OSError, SafetensorError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{folder.name}/model.safetensors does not hold this planner: {error}",
            hint="copy the folder again, or train it again with `perfuse train maze2d`",
        ) from error
    return Planner(PlannerCalls(network.to(device)), config)


def untrained_planner(config: PlannerConfig, seed: int) -> Planner:
    """The same network with random weights, as a baseline."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Planner(PlannerCalls(PlannerNetwork(config)), config)
