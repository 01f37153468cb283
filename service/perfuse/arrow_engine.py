"""The library's front door: the pipelines of the server in this process, without a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from perfuse.errors import InvalidRequest
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.shipped import Loaded, load
from perfuse.requests import (
    Goal,
    Preview,
    Refinement,
    Request,
    Result,
    SamplerOptions,
    SyntaxMode,
    TextRequest,
    TextResult,
    TrajectoryRequest,
    TrajectoryResult,
)

MODALITIES = ("text",)
_DEFAULTS = SamplerOptions()


class ArrowEngine:
    """Fills text and plans trajectories with the models at hand.

    Needs torch, numpy, tokenizers and safetensors; nothing of the server. One request at a time: for many at once
    start `perfuse serve`.

    Args:
        models: model folders; the shipped ones if empty.
        device: "auto", "cpu" or "cuda".
        dtype: what text models compute in: "bf16", "f32", or "auto" for bf16 where the device multiplies it natively.

    Raises:
        CheckpointError: a model file is missing, damaged or of another layout.
    """

    def __init__(self, models: Sequence[Path] = (), *, device: str = "auto", dtype: str = "auto") -> None:
        self._loaded: Loaded = load(models, device, dtype)

    @property
    def models(self) -> list[str]:
        """Names of the loaded models."""
        return [model.name for model in self._loaded.models]

    def diffuse(
        self,
        *,
        modality: str = "text",
        prompt: str = "",
        prefix: str = "",
        suffix: str = "",
        template: str | None = None,
        length: int | None = None,
        language: str = "python",
        model: str | None = None,
        sampler: str = "auto",
        steps: int | None = None,
        temperature: float = 0.0,
        guidance: float = 1.0,
        guidance_ramp: float = 0.0,
        sampler_options: SamplerOptions = _DEFAULTS,
        seed: int = 0,
        n: int = 1,
        schema: Mapping[str, object] | None = None,
        regex: str | None = None,
        syntax: SyntaxMode = "auto",
        refine: Refinement | None = None,
        reproducible: bool = False,
        on_preview: Callable[[Preview], None] | None = None,
    ) -> TextResult:
        """Fill text; the fields are those of `POST /diffuse`.

        Example:
            result = ArrowEngine().diffuse(prompt="Write a function that doubles every number of a list.")
            result.outputs[0].text

        Raises:
            InvalidRequest: a field is out of range, or `schema` or `regex` is not supported; says what was expected.
        """
        if modality not in MODALITIES:
            raise InvalidRequest(
                f"modality {modality!r} is not served; expected one of {', '.join(MODALITIES)}", field="/modality"
            )
        request = TextRequest(
            prompt=prompt,
            prefix=prefix,
            suffix=suffix,
            template=template,
            length=length,
            language=language,
            model=model,
            sampler=sampler,
            steps=steps,
            temperature=temperature,
            guidance=guidance,
            guidance_ramp=guidance_ramp,
            sampler_options=sampler_options,
            seed=seed,
            n=n,
            reproducible=reproducible,
            schema=None if schema is None else json.dumps(schema),
            regex=regex,
            syntax=syntax,
            refine=refine,
        )
        result = self._run("text", request, on_preview)
        assert isinstance(result, TextResult)
        return result

    def plan(
        self,
        *,
        environment: str,
        state: Sequence[float],
        goal: Sequence[float],
        tolerance: float = 0.5,
        candidates: int = 16,
        steps: int = 8,
        model: str | None = None,
        seed: int = 0,
        reproducible: bool = False,
    ) -> TrajectoryResult:
        """Plan a trajectory from `state` (x, y, vx, vy) to the position `goal`; the fields of `POST /plan`.

        Raises:
            InvalidRequest: a field is out of range; says what was expected.
        """
        request = TrajectoryRequest(
            environment=environment,
            state=tuple(state),
            goal=Goal(position=tuple(goal), tolerance=tolerance),
            candidates=candidates,
            steps=steps,
            model=model,
            seed=seed,
            reproducible=reproducible,
        )
        result = self._run("trajectory", request, None)
        assert isinstance(result, TrajectoryResult)
        return result

    def _run(self, modality: str, request: Request, on_preview: Callable[[Preview], None] | None) -> Result:
        if (pipeline := self._loaded.pipelines.get(modality)) is None:
            raise InvalidRequest(
                f"no model of modality {modality!r} is loaded; loaded are {', '.join(self.models) or 'none'}",
                field="/model",
                hint="pass the folder of such a model, or leave `models` empty for the shipped ones",
            )
        run = AloneRun(request.seed, reproducible=request.reproducible, on_preview=on_preview)
        result: Result = run_alone(pipeline, request, run=run)
        return result
