//! Vectors in int8 beside their float32 originals, with what a score from the codes can be off by.
//!
//! A row is x ≈ s·c with c from −127 to 127 and residual norm r = |x − s·c|. For a query q ≈ t·d with residual norm u,
//! |q·x − t·s·(d·c)| ≤ |t·d|·r + u·|x|, because q·x − q̂·x̂ = q̂·(x − x̂) + (q − q̂)·x. Rows whose upper bound stays below
//! the k-th best lower bound cannot be among the k nearest; the rest is scored in float32, so nothing is approximated.

#![expect(clippy::cast_precision_loss, reason = "the bounds make up for every rounding")]

use perfuse_kernels::{CHUNK, Chunk, CodeRows, LANES, LONGEST};

/// Scores of float32 sums, of estimates from codes and of the bounds themselves are rounded; this many units in the last
/// place besides those of the sum's own depth (`width / LANES`) are more than all of that together.
const ROUNDINGS: usize = 32;
/// Absolute error where products fall below the smallest float32.
const SMALLEST: f32 = 1e-35;
/// Added to f32, it leaves the nearest integer in the low bits: 1.5 · 2^23.
const INTEGER: f32 = 12_582_912.0;

/// The int8 copy of consecutive rows.
pub struct Codes {
    chunks: usize,
    values: Vec<Chunk>,
    sums: Vec<i32>,
    scales: Vec<f32>,
    residuals: Vec<f32>,
}

impl Codes {
    /// Copies `vectors` (row-major, `width` wide); `None` where rows are too long for sums of 32 bits.
    pub fn of(width: usize, vectors: &[f32]) -> Option<Self> {
        let chunks = width.div_ceil(CHUNK);
        if width == 0 || chunks * CHUNK > LONGEST {
            return None;
        }
        let rows = vectors.len() / width;
        let mut made = Self {
            chunks,
            values: vec![Chunk::ZERO; rows * chunks],
            sums: Vec::with_capacity(rows),
            scales: Vec::with_capacity(rows),
            residuals: Vec::with_capacity(rows),
        };
        for (vector, codes) in vectors.chunks_exact(width).zip(made.values.chunks_exact_mut(chunks)) {
            let row = coded(vector, codes);
            made.sums.push(row.sum);
            made.scales.push(row.scale);
            made.residuals.push(row.residual);
        }
        Some(made)
    }

    pub(crate) fn rows(&self, start: usize, count: usize) -> CodeRows<'_> {
        CodeRows {
            codes: &self.values[start * self.chunks..][..count * self.chunks],
            sums: &self.sums[start..][..count],
            chunks: self.chunks,
        }
    }

    pub(crate) fn scales(&self, start: usize, count: usize) -> &[f32] {
        &self.scales[start..][..count]
    }

    pub(crate) fn residuals(&self, start: usize, count: usize) -> &[f32] {
        &self.residuals[start..][..count]
    }
}

struct Row {
    scale: f32,
    residual: f32,
    sum: i32,
}

/// Writes the codes of a vector; padding stays zero.
fn coded(vector: &[f32], codes: &mut [Chunk]) -> Row {
    let largest = vector.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = largest / 127.0;
    if !scale.is_normal() {
        return Row { scale: 0.0, residual: largest * (vector.len() as f32).sqrt(), sum: 0 };
    }
    let inverse = 127.0 / largest;
    // In units of the scale, so that squares of the smallest vectors do not vanish.
    let (mut squared, mut sum) = (0.0_f32, 0);
    for (values, chunk) in vector.chunks(CHUNK).zip(codes) {
        for (&value, code) in values.iter().zip(&mut chunk.0) {
            let exact = value * inverse;
            let nearest = (exact + INTEGER) - INTEGER;
            squared += (exact - nearest) * (exact - nearest);
            *code = nearest as i8;
            sum += i32::from(*code);
        }
    }
    Row { scale, residual: scale * squared.sqrt() * grown(vector.len()), sum }
}

/// What makes up for the rounding of a sum of squares of this many numbers.
fn grown(width: usize) -> f32 {
    1.0 + (width + ROUNDINGS) as f32 * f32::EPSILON
}

/// A query in int8, with the factors of its bound: a score is off by at most `of_residual · r + of_length · |x| + rest`.
pub(crate) struct CodedQuery {
    pub(crate) codes: Vec<Chunk>,
    pub(crate) scale: f32,
    pub(crate) of_residual: f32,
    pub(crate) of_length: f32,
    /// Rounding error of a float32 score, as a share of the product of both lengths.
    pub(crate) rounding: f32,
}

impl CodedQuery {
    pub(crate) const REST: f32 = SMALLEST;

    pub(crate) fn of(values: &[f32], length: f32) -> Self {
        let mut codes = vec![Chunk::ZERO; values.len().div_ceil(CHUNK)];
        let row = coded(values, &mut codes);
        let rounding = (values.len() / LANES + ROUNDINGS) as f32 * f32::EPSILON;
        let size = (length + row.residual) * (1.0 + rounding);
        Self { codes, scale: row.scale, of_residual: size, of_length: row.residual + rounding * size, rounding }
    }
}
