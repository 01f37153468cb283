"""Kills of an owner that writes and compacts at once lose nothing, and its readers see whole commits only."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.store_storm import Report, storm


def check(report: Report, kills: int) -> None:
    assert (report.kills, report.lost) == (kills, 0)
    assert report.commits > kills
    assert report.compactions > kills / 2
    assert report.looks > kills
    assert all(last <= first for first, last in report.descriptors)
    assert report.megabytes < 20


def test_three_kills_under_compaction_lose_nothing(tmp_path: Path) -> None:
    check(storm(tmp_path, kills=3), 3)


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_fifty_kills_under_compaction_lose_nothing(tmp_path: Path) -> None:
    check(storm(tmp_path, kills=50), 50)
