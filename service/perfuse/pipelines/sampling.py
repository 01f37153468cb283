"""What a text request says about sampling: the rule, its constants, and how many steps and forwards it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, cast, get_args

from perfuse import plugins
from perfuse.diffusion.core import POST_STEPS
from perfuse.diffusion.samplers import DRAWN, OPTIONS, REVISING, RULES, Chooser, DiscreteSampler
from perfuse.diffusion.schedules import Kind
from perfuse.errors import InvalidRequest
from perfuse.requests import AUTO, TextRequest

OPTION_RANGES: Mapping[str, tuple[float, float]] = {
    "window": (1, 256),
    "bound": (0.0, 1000.0),
    "level": (0.0, 1.0),
    "low_level": (0.0, 1.0),
    "factor": (0.001, 1000.0),
    "edit_level": (0.5, 1.0),
    "eta": (0.0, 1.0),
    "order_temperature": (0.0, 100.0),
    "stop_entropy": (0.0, 100.0),
}
SCHEDULES = get_args(Kind)
STEPS_PER_TOKEN = 16
"""Finer a schedule is not cut: steps that change nothing cost no forward, but time of the engine's thread."""
_SAMPLERS = (AUTO, *RULES)
UNSTRUCTURED = (*REVISING, "margin")
"""What takes tokens back may take what the rest was completed by; margins are of tokens that a structure may forbid."""


def check(request: TextRequest) -> None:
    """Whether there is such a sampler, with these options, that can keep what is asked.

    Raises:
        InvalidRequest: says what was expected.
    """
    installed = () if request.sampler in _SAMPLERS else plugins.samplers()
    if request.sampler not in _SAMPLERS and request.sampler not in installed:
        raise InvalidRequest(
            f"no sampler is named {request.sampler!r}; expected one of {', '.join((*_SAMPLERS, *installed))}",
            field="/sampler",
            hint="leave out `sampler` for the default",
        )
    if request.sampler == "verified" and (request.steps is not None or request.guidance_ramp > 0):
        name = "guidance_ramp" if request.steps is None else "steps"
        raise InvalidRequest(
            f"{name} is {getattr(request, name)} with the sampler 'verified', which takes as many steps as it needs",
            field=f"/{name}",
            hint=f"leave out `{name}`, or choose another sampler",
        )
    _check_options(request)
    _check_structure(request)


def _check_structure(request: TextRequest) -> None:
    if request.schema is not None and request.regex is not None:
        raise InvalidRequest(
            "a schema came together with a regex; expected one or the other",
            field="/regex",
            hint="write it as `pattern` of a string in the schema",
        )
    rule = rule_of(request)
    if (request.schema is not None or request.regex is not None) and rule in UNSTRUCTURED:
        able = ", ".join(known for known in _SAMPLERS if known not in UNSTRUCTURED)
        raise InvalidRequest(
            f"the sampler {rule!r} cannot keep a structure; expected one of {able}",
            field="/sampler",
            hint="leave out `sampler` for the default",
        )


def _check_options(request: TextRequest) -> None:
    rule = rule_of(request)
    read = ("window", *OPTIONS.get(rule, ()))
    for name, value in _options(request).items():
        field = f"/sampler_options/{name}"
        if name not in read:
            raise InvalidRequest(
                f"the sampler {rule!r} has no option {name!r}; its options are {', '.join(read)}",
                field=field,
                hint=f"leave out `{name}`, or choose another sampler",
            )
        if name == "schedule":
            if value not in SCHEDULES:
                raise InvalidRequest(
                    f"no schedule is named {value!r}; expected one of {', '.join(SCHEDULES)}", field=field
                )
            continue
        least, most = OPTION_RANGES[name]
        if not least <= value <= most:
            raise InvalidRequest(
                f"{name} is {value}; expected a number from {least:g} to {most:g}",
                field=field,
                hint=f"leave out `{name}` for its default",
            )


def _options(request: TextRequest) -> dict[str, Any]:
    """What was asked for besides the sampler's defaults."""
    return {name: value for name, value in asdict(request.sampler_options).items() if value is not None}


def rule_of(request: TextRequest) -> str:
    """Verified unless something is asked for that only the others can keep: a budget of steps, or a ramp."""
    if request.sampler != AUTO:
        return request.sampler
    return "verified" if request.steps is None and request.guidance_ramp == 0.0 else "entropy"


def most_steps(request: TextRequest, length: int) -> int:
    """A step commits at least one position, so more are never needed but where it may commit none or look again."""
    rule = rule_of(request)
    if request.steps is None:
        return length + (POST_STEPS if rule == "editing" else 0)
    if rule == "editing":
        return request.steps
    return min(request.steps, STEPS_PER_TOKEN * length if rule in DRAWN else length)


def most_forwards(request: TextRequest, length: int) -> int:
    """As many as steps; where only what changes is asked about and nothing is taken back, no more than positions."""
    most = most_steps(request, length)
    return min(most, length) if rule_of(request) == "ancestral" else most


def sampler_of(request: TextRequest, bound: float, draft_bound: float) -> DiscreteSampler:
    """The sampler asked for.

    Args:
        request: a valid one.
        bound: nats of entropy that a step of "entropy" commits, if the request does not say.
        draft_bound: nats up to which "verified" drafts, if the request does not say.
    """
    rule = rule_of(request)
    chooser = None if rule in RULES else cast("Chooser", plugins.sampler(rule))
    usual = draft_bound if rule == "verified" else bound
    sampler = DiscreteSampler(rule, bound=usual, temperature=request.temperature, chooser=chooser)
    return replace(sampler, **{name: value for name, value in _options(request).items() if name != "window"})
