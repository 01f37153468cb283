"""The frozen stream: what it is made of, and that nothing of it was calibrated on or published before."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from random import Random

import pytest

from perfuse.errors import InvalidRequest
from perfuse.evaluation.streams import OCCLUDED, STREAMS, TEMPERATURE, reworded, stream
from perfuse.training.calibration import FAMILIES, RESERVED, calibration_tasks, spare_tasks
from perfuse.training.corpus.tasks import held_out_tasks


def test_no_item_was_calibrated_on_or_published() -> None:
    reserved = {task.combination for task in calibration_tasks(RESERVED)}
    published = {task.combination for task in held_out_tasks(1000)}
    for name in ("in_domain", "rare", "occluded"):
        drawn = {item.task.combination for item in stream(name, 500) if item.task}
        assert not drawn & (reserved | published)
    unseen = {item.task.combination[0].partition("/")[0] for item in stream("unseen", 120) if item.task}
    assert len(unseen) == 6
    assert not unseen & set(FAMILIES)


def test_in_domain_and_rare_share_no_task() -> None:
    first, last = ({item.task.combination for item in stream(name, 500) if item.task} for name in ("in_domain", "rare"))
    assert not first & last


def test_every_second_rare_request_is_reworded_and_the_others_are_drawn() -> None:
    items = stream("rare", 40)
    assert [item.request.temperature for item in items] == [0.0, TEMPERATURE] * 20
    assert all((item.request.prompt != item.task.prompt) == (i % 2 == 0) for i, item in enumerate(items) if item.task)


def test_occluded_items_hide_what_they_say_and_no_sentence_tells_of_it() -> None:
    for i, item in enumerate(stream("occluded", 20)):
        assert item.task is not None
        kept = len(item.request.prefix) + len(item.request.suffix)
        assert item.hidden == OCCLUDED[i % len(OCCLUDED)]
        assert 1 - kept / len(item.task.code) == pytest.approx(item.hidden, abs=0.02)
        assert item.request.prompt == ""
        assert item.task.code.startswith(item.request.prefix)
        assert item.task.code.endswith(item.request.suffix)


def test_other_requests_have_no_tests() -> None:
    items = stream("other", 120)
    assert len({item.request.prompt for item in items}) == 120
    assert all(item.task is None for item in items)


def test_rewording_is_drawn_from_five_ways() -> None:
    prompt = "Return the sum of the even numbers of a list."
    found = {reworded(prompt, Random(seed)) for seed in range(60)}
    assert "Return sum even numbers list" in found
    assert prompt.upper() in found
    assert "hey, i need some python for this: return the sum of the even numbers of a list - thanks a lot!" in found
    assert f"{prompt[:-1]}, and do nothing else. It must be in Python, and it must work." in found
    slips = [text for text in found if len(text) == len(prompt) and not text.isupper()]
    assert len(slips) > 1
    assert all(sorted(text) == sorted(prompt) for text in slips)


def test_the_stream_is_the_same_in_every_process() -> None:
    script = (
        "import hashlib; from perfuse.evaluation.streams import STREAMS, stream; "
        "print(hashlib.sha256(repr([[(i.request, i.hidden) for i in stream(n, 12)] for n in STREAMS]).encode())"
        ".hexdigest())"
    )
    here = hashlib.sha256(repr([[(i.request, i.hidden) for i in stream(n, 12)] for n in STREAMS]).encode()).hexdigest()
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert found == here


def test_numbers_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^expected at least 1 item per stream; got 0$"):
        stream("rare", 0)
    with pytest.raises(InvalidRequest, match=r"^the stream 'other' has 120 requests; 121 were asked for$"):
        stream("other", 121)
    with pytest.raises(
        InvalidRequest, match=r"^the corpus has \d{4} tasks beside those for calibration; 99999 were asked for$"
    ):
        spare_tasks(99_999)
    with pytest.raises(InvalidRequest, match=r"^items is 1601; expected a number from 1 to 1600$"):
        calibration_tasks(1601)
