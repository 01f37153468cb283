"""`python -m perfuse`."""

from __future__ import annotations

from perfuse.cli import main

main()
