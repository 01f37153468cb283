//! Exact nearest vectors: every row is looked at, nothing is approximated.
//!
//! Scores are "greater is nearer" inside ([`Metric::Euclidean`] negates the squared distance) and are turned into the
//! metric's own number at the end. Equal scores rank by row number, so a search has one answer. Where a block has
//! [`Codes`], its rows are scored by them first, which reads a quarter of the bytes, and in float32 only where the codes
//! cannot tell; the answer is the same bit for bit.

use std::sync::atomic::{AtomicUsize, Ordering};

mod codes;
mod metric;
mod shortlist;
mod top;

pub use codes::Codes;
pub use metric::{Metric, VectorError};

use metric::Query;
use shortlist::{Place, Shortlist};
use top::TopK;

/// Rows scored between two visits of the heap: their scores, and codes of 384 bytes, stay in L1.
const STRIDE: usize = 64;
/// Strides that a thread takes at once: some 20 µs. Threads take turns, so one that starts late only takes fewer.
const TURN: usize = 32;
/// Multiplications from which on another thread is worth starting (some 20 µs).
const WORTH_A_THREAD: usize = 1 << 22;

/// Consecutive rows of one width, and which of them take part.
pub struct Block<'a> {
    /// Row-major floats.
    pub vectors: &'a [f32],
    /// Length of each row, as [`Metric::length`] gives it.
    pub lengths: &'a [f32],
    /// The rows in int8, if they were made.
    pub codes: Option<&'a Codes>,
    /// Number of the first row; later rows count on.
    pub first: u64,
    /// Whether row `first + i` takes part; `None` = all of them. Asked of rows that may be among the best.
    pub alive: Option<&'a (dyn Fn(usize) -> bool + Sync)>,
}

/// A row found: its number and its score in the metric's own terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Row number.
    pub row: u64,
    /// Cosine, inner product or Euclidean distance.
    pub score: f32,
}

/// The `k` best rows of `blocks` for each query (row-major, `width` wide), best first, by at most `threads` threads.
///
/// Blocks are the outer loop, so a block is read from memory once for all queries.
pub fn nearest<'a>(
    metric: Metric,
    width: usize,
    queries: &[f32],
    k: usize,
    blocks: impl IntoIterator<Item = Block<'a>>,
    threads: usize,
) -> Result<Vec<Vec<Found>>, VectorError> {
    if width == 0 || !queries.len().is_multiple_of(width) {
        return Err(VectorError::Width { expected: width, came: queries.len() });
    }
    let prepared: Vec<Query<'_>> = queries
        .chunks_exact(width)
        .enumerate()
        .map(|(row, values)| metric.query(values).map_err(|problem| VectorError::Value { row, problem }))
        .collect::<Result<_, _>>()?;
    let blocks: Vec<Block<'a>> = blocks.into_iter().collect();
    let strides: Vec<Place> = (0..blocks.len()).flat_map(|block| strides_of(block, &blocks[block])).collect();
    let rows: usize = blocks.iter().map(|block| block.lengths.len()).sum();
    let worth = (rows * width * prepared.len() / WORTH_A_THREAD).clamp(1, threads.max(1));
    let turn = AtomicUsize::new(0);
    let turns = || std::iter::from_fn(|| strides.chunks(TURN).nth(turn.fetch_add(1, Ordering::Relaxed)));
    let search = || shortlist::of(&prepared, width, k, &blocks, turns().flatten().copied());
    let parts: Vec<Vec<Shortlist>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..worth).map(|_| scope.spawn(search)).collect();
        let mut parts = vec![search()];
        for other in others {
            parts.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        parts
    });
    let mut lists: Vec<Vec<Shortlist>> = prepared.iter().map(|_| Vec::new()).collect();
    for part in parts {
        for (lists, list) in lists.iter_mut().zip(part) {
            lists.push(list);
        }
    }
    let found = |(query, lists): (&Query<'_>, Vec<Shortlist>)| {
        best(query, width, k, &blocks, lists)
            .into_sorted()
            .map(|(score, row)| Found { row, score: metric.outward(score) })
            .collect()
    };
    Ok(prepared.iter().zip(lists).map(found).collect())
}

fn strides_of(block: usize, rows: &Block<'_>) -> impl Iterator<Item = Place> {
    (0..rows.lengths.len()).step_by(STRIDE).map(move |row| Place { block, row })
}

/// Scores in float32 what is on the shortlists and could still be among the best of all of them.
fn best(query: &Query<'_>, width: usize, k: usize, blocks: &[Block<'_>], lists: Vec<Shortlist>) -> TopK {
    let floor = lists.iter().map(Shortlist::floor).fold(f32::NEG_INFINITY, f32::max);
    let mut top = TopK::new(k);
    for place in lists.into_iter().flat_map(|list| list.reaching(floor)) {
        let block = &blocks[place.block];
        let mut score = [0.0];
        let vector = &block.vectors[place.row * width..][..width];
        query.score(vector, &block.lengths[place.row..=place.row], &mut score);
        top.push(score[0], block.first + place.row as u64);
    }
    top
}

#[cfg(test)]
mod tests;
