"""perfuse: a diffusion model server that learns from the agents that use it."""

from __future__ import annotations

__version__ = "0.1.0"
