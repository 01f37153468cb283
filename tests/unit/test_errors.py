"""The tree of errors: stable codes, the standard class each replaces, picklable."""

from __future__ import annotations

import pickle

import pytest

from perfuse import errors
from perfuse.wire import error_classes


def test_errors_survive_pickling() -> None:
    error = errors.CanvasTooLong("512 tokens came, 256 fit", field="/length", hint="ask for less", retry_after=1.0)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is errors.CanvasTooLong
    assert (str(back), back.field, back.hint, back.retry_after) == (
        "512 tokens came, 256 fit",
        "/length",
        "ask for less",
        1.0,
    )


def test_codes_are_unique_and_statuses_are_http_errors() -> None:
    kinds = error_classes()
    assert len({kind.code for kind in kinds.values()}) == len(kinds)
    assert all(400 <= kind.status < 600 for kind in kinds.values())


@pytest.mark.parametrize("name", [n for n in dir(errors) if isinstance(getattr(errors, n), type)])
def test_the_module_draws_every_class_it_has(name: str) -> None:
    assert errors.__doc__ is not None
    assert name in errors.__doc__
