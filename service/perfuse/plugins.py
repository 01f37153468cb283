"""What other installed packages add, by the entry points of their metadata.

    [project.entry-points."perfuse.verifiers"]
    balanced = "perfuse_balanced:balanced"

Names are read from metadata alone; nothing of a package is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from perfuse.errors import ConfigError, NotFound

VERIFIERS = "perfuse.verifiers"
SAMPLERS = "perfuse.samplers"
PARSERS = "perfuse.parsers"

Verifier = Callable[[str, Mapping[str, object]], bool]
"""Whether a text is right, given the arguments that came with the feedback. It must not execute the text."""


def verifiers() -> list[str]:
    """Names of the installed verifiers."""
    return sorted(_named(VERIFIERS))


def samplers() -> list[str]:
    """Names of the installed samplers."""
    return sorted(_named(SAMPLERS))


def parsers() -> list[str]:
    """Languages that installed parsers are for."""
    return sorted(_named(PARSERS))


def verifier(name: str) -> Verifier:
    """An installed verifier.

    Raises:
        NotFound: there is none of that name.
        ConfigError: its package cannot be imported, or names something that cannot be called.
    """
    return cast("Verifier", _loaded(VERIFIERS, "verifier", name))


def sampler(name: str) -> Callable[..., object]:
    """An installed sampler, see `perfuse.diffusion.samplers.Chooser`. Raises as `verifier`."""
    return _loaded(SAMPLERS, "sampler", name)


def parser(language: str) -> Callable[..., object]:
    """The installed parser of a language, see `perfuse.syntax.fault.Parser`. Raises as `verifier`."""
    return _loaded(PARSERS, "parser", language)


@cache
def _loaded(group: str, kind: str, name: str) -> Callable[..., object]:
    there = _named(group)
    found = there.get(name)
    if found is None:
        raise NotFound(f"no {kind} is named {name!r}", hint=f"installed are {', '.join(sorted(there)) or 'none'}")
    try:
        loaded: object = found.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the {kind} {name!r} ({found.value}) cannot be loaded: {error}") from None
    if not callable(loaded):
        raise ConfigError(f"the {kind} {name!r} ({found.value}) is no function")
    return loaded


@cache
def _named(group: str) -> Mapping[str, EntryPoint]:
    return {each.name: each for each in entry_points(group=group)}
