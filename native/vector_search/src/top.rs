use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A scored row; greater = better: the higher score, then the lower row number.
#[derive(PartialEq)]
struct Ranked {
    score: f32,
    row: u64,
}

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.row.cmp(&self.row))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The `k` best of what was pushed; the worst of them on top of the heap.
pub(crate) struct TopK {
    k: usize,
    heap: BinaryHeap<Reverse<Ranked>>,
}

impl TopK {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    /// Scores below this cannot enter any more.
    pub(crate) fn floor(&self) -> f32 {
        if self.k == 0 {
            f32::INFINITY
        } else if self.heap.len() < self.k {
            f32::NEG_INFINITY
        } else {
            self.heap.peek().map_or(f32::NEG_INFINITY, |worst| worst.0.score)
        }
    }

    pub(crate) fn push(&mut self, score: f32, row: u64) {
        let score = score + 0.0; // −0 and +0 are one score
        if self.heap.len() < self.k {
            self.heap.push(Reverse(Ranked { score, row }));
        } else if let Some(mut worst) = self.heap.peek_mut() {
            let candidate = Ranked { score, row };
            if candidate > worst.0 {
                *worst = Reverse(candidate);
            }
        }
    }

    /// Best first.
    pub(crate) fn into_sorted(self) -> impl Iterator<Item = (f32, u64)> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(ranked)| (ranked.score, ranked.row))
    }
}
