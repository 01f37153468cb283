"""Records are told in words and written as JSON."""

from __future__ import annotations

import json
from itertools import islice
from random import Random

from perfuse.training.corpus.records import NAMES, records, told


def test_every_text_is_json_whose_fields_the_sentence_tells() -> None:
    for prompt, text in islice(records(Random(0)), 300):
        record = json.loads(text)
        assert record
        assert set(record) <= set(NAMES)
        assert told(record) in prompt or text.strip() in prompt


def test_fields_are_told_with_their_values_as_json() -> None:
    assert told({"age": 3, "name": "Ann", "ok": True, "at": None}) == 'age is 3, name is "Ann", ok is true, at is null'
