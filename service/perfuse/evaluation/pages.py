"""Sections of a page of results that a measurement rewrites: what stands between two marks."""

from __future__ import annotations


def replaced(page: str, start: str, end: str, content: str) -> str:
    """The page with what stands between the marks `start` and `end` replaced.

    Raises:
        ValueError: the marks are not there.
    """
    before, first, rest = page.partition(start)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"the page has no place for the table; expected {start!r} and {end!r}")
    return f"{before}{start}\n\n{content}\n\n{end}{after}"
