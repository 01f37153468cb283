//! Exact nearest vectors in float32: every row is scored, nothing is approximated.
//!
//! Scores are "greater is nearer" inside ([`Metric::Euclidean`] negates the squared distance) and are turned into the
//! metric's own number at the end. Equal scores rank by row number, so a search has one answer.

mod metric;
mod top;

pub use metric::{Metric, VectorError};

use metric::Query;
use top::TopK;

/// Rows scored between two visits of the heap: 256 scores stay in L1.
const STRIDE: usize = 256;

/// Consecutive rows of one width, with a flag per row that says whether it takes part.
pub struct Block<'a> {
    /// Row-major floats.
    pub vectors: &'a [f32],
    /// Length of each row, as [`Metric::length`] gives it.
    pub lengths: &'a [f32],
    /// Number of the first row; later rows count on.
    pub first: u64,
    /// Whether row `first + i` takes part; `None` = all of them.
    pub alive: Option<&'a [bool]>,
}

/// A row found: its number and its score in the metric's own terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Row number.
    pub row: u64,
    /// Cosine, inner product or Euclidean distance.
    pub score: f32,
}

/// The `k` best rows of `blocks` for each query (row-major, `width` wide), best first.
///
/// Blocks are the outer loop, so a block is read from memory once for all queries.
pub fn nearest<'a>(
    metric: Metric,
    width: usize,
    queries: &[f32],
    k: usize,
    blocks: impl IntoIterator<Item = Block<'a>>,
) -> Result<Vec<Vec<Found>>, VectorError> {
    if width == 0 || !queries.len().is_multiple_of(width) {
        return Err(VectorError::Width { expected: width, came: queries.len() });
    }
    let prepared: Vec<Query<'_>> = queries
        .chunks_exact(width)
        .enumerate()
        .map(|(row, values)| metric.query(values).map_err(|problem| VectorError::Value { row, problem }))
        .collect::<Result<_, _>>()?;
    let mut tops: Vec<TopK> = prepared.iter().map(|_| TopK::new(k)).collect();
    let mut scores = [0.0_f32; STRIDE];
    for block in blocks {
        for (start, rows) in (0..).step_by(STRIDE).zip(block.vectors.chunks(STRIDE * width)) {
            let scores = &mut scores[..rows.len() / width];
            for (query, top) in prepared.iter().zip(&mut tops) {
                query.score(rows, &block.lengths[start..start + scores.len()], scores);
                for (offset, &score) in scores.iter().enumerate() {
                    if score >= top.floor() && block.alive.is_none_or(|alive| alive[start + offset]) {
                        top.push(score, block.first + (start + offset) as u64);
                    }
                }
            }
        }
    }
    Ok(tops
        .into_iter()
        .map(|top| top.into_sorted().map(|(score, row)| Found { row, score: metric.outward(score) }).collect())
        .collect())
}

#[cfg(test)]
mod tests;
