//! The rows that may be among the best, as far as what is known of them tells.

use crate::metric::{Known, Query};
use crate::top::TopK;
use crate::{Block, STRIDE};

/// A row, by the number of its block and its own number there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) block: usize,
    pub(crate) row: usize,
}

/// For one query: the best scores that are certain, and every row whose own may reach them.
pub(crate) struct Shortlist {
    certain: TopK,
    rows: Vec<(f32, Place)>,
}

impl Shortlist {
    fn new(k: usize) -> Self {
        Self { certain: TopK::new(k), rows: Vec::new() }
    }

    /// Rows with no chance of this score are none of the best.
    pub(crate) fn floor(&self) -> f32 {
        self.certain.floor()
    }

    /// The rows with a chance of this score.
    pub(crate) fn reaching(self, floor: f32) -> impl Iterator<Item = Place> {
        self.rows.into_iter().filter(move |(most, _)| *most >= floor).map(|(_, place)| place)
    }

    /// Takes the rows from `first` on: each has the given score, or one that is off by less than its slack.
    fn add(&mut self, first: Place, block: &Block<'_>, scores: &[f32], slacks: &[f32]) {
        let mut floor = self.floor();
        for (offset, (&score, &slack)) in scores.iter().zip(slacks).enumerate() {
            let place = Place { row: first.row + offset, ..first };
            if score + slack >= floor && block.alive.is_none_or(|alive| alive(place.row)) {
                self.rows.push((score + slack, place));
                self.certain.push(score - slack, block.first + place.row as u64);
                floor = self.floor();
            }
        }
    }
}

/// The shortlist of each query over `STRIDE` rows from each of `strides`.
pub(crate) fn of(
    queries: &[Query<'_>],
    width: usize,
    k: usize,
    blocks: &[Block<'_>],
    strides: impl Iterator<Item = Place>,
) -> Vec<Shortlist> {
    let mut lists: Vec<Shortlist> = queries.iter().map(|_| Shortlist::new(k)).collect();
    let codes: Vec<_> = queries.iter().flat_map(|query| query.coded.codes.iter().copied()).collect();
    let mut products = vec![0; queries.len() * STRIDE];
    let (mut scores, mut slacks) = ([0.0; STRIDE], [0.0; STRIDE]);
    for first in strides {
        let block = &blocks[first.block];
        let count = STRIDE.min(block.lengths.len() - first.row);
        let (scores, slacks) = (&mut scores[..count], &mut slacks[..count]);
        let lengths = &block.lengths[first.row..][..count];
        if let Some(coded) = block.codes {
            let products = &mut products[..queries.len() * count];
            perfuse_kernels::products(&codes, coded.rows(first.row, count), products);
            for ((query, list), products) in queries.iter().zip(&mut lists).zip(products.chunks_exact(count)) {
                let scales = coded.scales(first.row, count);
                let residuals = coded.residuals(first.row, count);
                query.estimate(&Known { products, scales, residuals, lengths }, scores, slacks);
                list.add(first, block, scores, slacks);
            }
        } else {
            slacks.fill(0.0);
            let vectors = &block.vectors[first.row * width..][..count * width];
            for (query, list) in queries.iter().zip(&mut lists) {
                query.score(vectors, lengths, scores);
                list.add(first, block, scores, slacks);
            }
        }
    }
    lists
}
