#![expect(clippy::cast_precision_loss, reason = "the bounds of codes make up for every rounding")]

use perfuse_kernels::{Sum, scan};

use crate::codes::CodedQuery;

/// How near two vectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// q·x / (|q||x|); greater is nearer.
    Cosine,
    /// q·x; greater is nearer.
    InnerProduct,
    /// |q − x|; smaller is nearer.
    Euclidean,
}

/// Vectors that cannot be searched.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum VectorError {
    /// The floats do not divide into rows.
    #[error("expected vectors of {expected} floats, came {came} floats in all")]
    Width {
        /// Floats per row.
        expected: usize,
        /// Floats that came.
        came: usize,
    },
    /// A row holds a value without a place in the order.
    #[error("vector {row} {problem}")]
    Value {
        /// Number of the row.
        row: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Squared lengths above this could overflow a squared distance; below its inverse a direction is rounding noise.
const LONGEST_SQUARED: f64 = 1e37;
const SHORTEST_SQUARED: f64 = 1e-30;

impl Metric {
    /// The metric of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "cosine" => Some(Self::Cosine),
            "inner_product" => Some(Self::InnerProduct),
            "l2" => Some(Self::Euclidean),
            _ => None,
        }
    }

    /// Its name in the API and on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::InnerProduct => "inner_product",
            Self::Euclidean => "l2",
        }
    }

    /// The vector's length, or what makes it unfit for this metric.
    pub fn length(self, vector: &[f32]) -> Result<f32, &'static str> {
        let squared: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        if !squared.is_finite() {
            Err("holds NaN or infinity")
        } else if squared > LONGEST_SQUARED {
            Err("is longer than 3e18, so float32 sums over it would overflow")
        } else if self == Self::Cosine && squared < SHORTEST_SQUARED {
            Err("is shorter than 1e-15, so it has no direction to compare")
        } else {
            Ok(squared.sqrt() as f32)
        }
    }

    pub(crate) fn query(self, values: &[f32]) -> Result<Query<'_>, &'static str> {
        let length = self.length(values)?;
        Ok(Query { metric: self, values, length, coded: CodedQuery::of(values, length) })
    }

    /// From "greater is nearer" to the metric's own number.
    pub(crate) fn outward(self, score: f32) -> f32 {
        match self {
            Self::Cosine | Self::InnerProduct => score,
            Self::Euclidean => (-score).max(0.0).sqrt(),
        }
    }
}

/// A query vector, checked.
pub(crate) struct Query<'a> {
    metric: Metric,
    values: &'a [f32],
    length: f32,
    pub(crate) coded: CodedQuery,
}

/// What is known of rows from their codes, in the order of the rows.
pub(crate) struct Known<'a> {
    /// Products of the query's codes and theirs.
    pub(crate) products: &'a [i32],
    pub(crate) scales: &'a [f32],
    pub(crate) residuals: &'a [f32],
    pub(crate) lengths: &'a [f32],
}

impl Query<'_> {
    /// Scores of consecutive rows, greater is nearer.
    pub(crate) fn score(&self, rows: &[f32], lengths: &[f32], out: &mut [f32]) {
        match self.metric {
            Metric::InnerProduct => scan(Sum::Product, self.values, rows, out),
            Metric::Cosine => {
                scan(Sum::Product, self.values, rows, out);
                for (score, &length) in out.iter_mut().zip(lengths) {
                    *score = *score / self.length / length;
                }
            }
            Metric::Euclidean => {
                scan(Sum::SquaredDifference, self.values, rows, out);
                for score in out {
                    *score = -*score;
                }
            }
        }
    }

    /// Scores by the codes, greater is nearer, and how far each can be from what [`Self::score`] gives.
    pub(crate) fn estimate(&self, known: &Known<'_>, scores: &mut [f32], slacks: &mut [f32]) {
        let CodedQuery { scale, of_residual, of_length, rounding, .. } = self.coded;
        let rows = known.products.iter().zip(known.scales).zip(known.residuals).zip(known.lengths);
        let out = scores.iter_mut().zip(slacks);
        let dot = |product: i32, row_scale: f32| product as f32 * (scale * row_scale);
        let off = |residual: f32, length: f32| of_residual * residual + of_length * length + CodedQuery::REST;
        match self.metric {
            Metric::InnerProduct => {
                for ((((&product, &row_scale), &residual), &length), (score, slack)) in rows.zip(out) {
                    *score = dot(product, row_scale);
                    *slack = off(residual, length);
                }
            }
            Metric::Cosine => {
                for ((((&product, &row_scale), &residual), &length), (score, slack)) in rows.zip(out) {
                    let inverse = 1.0 / (self.length * length);
                    *score = dot(product, row_scale) * inverse;
                    *slack = off(residual, length) * inverse + rounding;
                }
            }
            Metric::Euclidean => {
                let own = self.length * self.length;
                for ((((&product, &row_scale), &residual), &length), (score, slack)) in rows.zip(out) {
                    let both = self.length + length;
                    *score = 2.0 * dot(product, row_scale) - (own + length * length);
                    *slack = 2.0 * off(residual, length) + rounding * (both * both);
                }
            }
        }
    }
}
