"""Where code does not parse, where an error message points, and what around that place is written anew. No torch."""

from __future__ import annotations
