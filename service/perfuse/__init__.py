"""perfuse: a diffusion model server that learns from the agents that use it.

Public names are imported when first used, so `import perfuse` costs no torch.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "ArrowEngine": "perfuse.arrow_engine",
    "ArrowStorage": "perfuse._native",
    "DiffusionConfig": "perfuse.models.unified",
    "DiffusionCore": "perfuse.diffusion.core",
    "DiscreteSampler": "perfuse.diffusion.samplers",
    "NoiseScheduler": "perfuse.diffusion.schedules",
    "SCHEMA_REGISTRY": "perfuse.store.tables",
    "SharedTransformer": "perfuse.models.unified",
    "TextProjectionHead": "perfuse.models.heads",
    "UnifiedScoreNetwork": "perfuse.models.unified",
    "VectorSearch": "perfuse._native",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 (names resolved by __getattr__)


def __getattr__(name: str) -> object:
    if (module := _PUBLIC.get(name)) is None:
        msg = f"module 'perfuse' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}"
        raise AttributeError(msg)
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
