"""Blocks: one row trains every block of its text, and no block sees what the sampler could not show it."""

from __future__ import annotations

import itertools

import torch

from perfuse.diffusion.blocks import FULLY_MASKED, NEVER, SIZES, Places, attends, cut_blocks, mask_blocks


def places(given: int, span: int, padding: int, rows: int = 1) -> Places:
    index = torch.cat((torch.full((given,), -1), torch.arange(span), torch.arange(span), torch.full((padding,), -1)))
    copy = torch.zeros(len(index), dtype=torch.bool)
    copy[given + span : given + 2 * span] = True
    keys = torch.ones(len(index), dtype=torch.bool)
    keys[len(index) - padding :] = False
    return Places(index.expand(rows, -1), copy.expand(rows, -1), keys.expand(rows, -1))


def test_settled_text_sees_what_is_before_it_and_a_window_sees_itself_too() -> None:
    seen = attends(torch.tensor([[0, 0, 1, 2, 3, 3, NEVER]]))[0]
    assert seen[0].tolist() == [True, True, False, False, False, False, False]
    assert seen[2].tolist() == [True, True, True, False, False, False, False]
    assert seen[4].tolist() == [True, True, True, True, True, True, False]


def test_in_training_each_copy_sees_what_the_sampler_would_show_it() -> None:
    made = places(3, 10, 2)
    starts = torch.where(made.index >= 6, 6, torch.where(made.index >= 4, 4, 0))
    seen = made.sees(starts)[0]
    given, settled, copied = slice(0, 3), slice(3, 13), slice(13, 23)
    for place in range(10):
        start = int(starts[0, 3 + place])
        ahead = [at == place or at < place for at in range(10)]
        assert seen[3 + place, given].all()
        assert seen[3 + place, settled].tolist() == ahead
        assert not seen[3 + place, copied].any()
        assert seen[13 + place, given].all()
        assert seen[13 + place, settled].tolist() == [at < start for at in range(10)]
        assert seen[13 + place, copied].tolist() == [int(starts[0, 3 + at]) == start for at in range(10)]
    assert not seen[:23, 23:].any()
    assert not seen[given, 3:].any()


def test_rows_are_cut_into_blocks_of_the_sizes() -> None:
    made = places(2, 60, 0, rows=50)
    starts = cut_blocks(made.index, torch.Generator().manual_seed(0))
    lengths = set()
    for row in starts[:, 2:62]:
        firsts = sorted(set(row.tolist()))
        assert firsts[0] == 0
        assert all(int(row[place]) == max(f for f in firsts if f <= place) for place in range(60))
        lengths |= {b - a for a, b in itertools.pairwise(firsts[1:])}
    assert lengths == set(SIZES)
    assert torch.equal(starts[:, 2:62], starts[:, 62:])


def test_every_block_is_entered_masked_and_a_share_of_them_is_masks_only() -> None:
    made = places(2, 32, 3, rows=2000)
    starts = torch.where(made.index >= 16, 16, 0)
    masked = mask_blocks(made, starts, torch.Generator().manual_seed(0))
    assert not (masked & ~made.copy).any()
    assert masked[made.copy & (made.index == starts)].all()
    share = masked[:, 34:50].all(dim=1).float().mean()
    assert abs(float(share) - FULLY_MASKED) < 0.07
