"""A span that may change again: what opens with a null that is taken back, and what is said to last."""

from __future__ import annotations

import torch

from perfuse.diffusion.samplers import Guess
from perfuse.models.tokenizer import MASK, NULL
from perfuse.pipelines.filling import Fill


def guess(*tokens: int) -> Guess:
    sure = torch.full((len(tokens),), 0.5)
    return Guess(torch.tensor(tokens), sure, sure)


def at(*positions: int) -> torch.Tensor:
    return torch.tensor(positions)


def ended() -> Fill:
    """Two tokens, a mask, the null that ends the text, and what follows from it."""
    fill = Fill.empty(0, 6)
    fill.settle(at(0, 1, 3), guess(7, 8, NULL))
    return fill


def test_a_text_ends_with_its_first_null() -> None:
    fill = ended()
    assert fill.tokens.tolist() == [7, 8, MASK, NULL, NULL, NULL]
    assert fill.told_to() == 4
    assert fill.certainty.tolist() == [0.5, 0.5, 0.0, 0.5, 0.0, 0.0]
    fill.settle(at(2), guess(NULL))
    assert fill.told_to() == 3


def test_what_is_settled_behind_an_earlier_null_is_dropped() -> None:
    fill = Fill.empty(0, 4)
    fill.settle(at(0, 1, 3), guess(7, NULL, 9))
    assert fill.tokens.tolist() == [7, NULL, NULL, NULL]
    assert not fill.open


def test_taking_back_a_token_opens_nothing_else() -> None:
    fill = ended()
    fill.reopen(at(1))
    assert fill.tokens.tolist() == [7, MASK, MASK, NULL, NULL, NULL]
    assert fill.certainty.tolist() == [0.5, 0.0, 0.0, 0.5, 0.0, 0.0]


def test_taking_back_the_null_that_ended_the_text_opens_what_is_behind_it() -> None:
    fill = ended()
    fill.reopen(at(0, 3))
    assert fill.tokens.tolist() == [MASK, 8, MASK, MASK, MASK, MASK]
    assert fill.told_to() == 6


def test_replacing_the_null_opens_what_is_behind_it_and_a_new_null_closes_it() -> None:
    fill = ended()
    fill.settle(at(3), guess(9))
    assert fill.tokens.tolist() == [7, 8, MASK, 9, MASK, MASK]
    fill.settle(at(1), guess(NULL))
    assert fill.tokens.tolist() == [7, NULL, NULL, NULL, NULL, NULL]


def test_what_may_change_is_not_said_to_last_until_all_is_done() -> None:
    fill = ended()
    assert fill.lasting().tolist() == fill.tokens.tolist()
    fill.firm = 1
    assert fill.lasting().tolist() == [7, *[MASK] * 5]
    fill.settle(at(2), guess(9))
    assert fill.lasting().tolist() == [7, 8, 9, NULL, NULL, NULL]
    fill.unfinished = True
    assert fill.lasting().tolist() == [7, *[MASK] * 5]
