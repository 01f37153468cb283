use perfuse_kernels::{Sum, scan};

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
        Ok(Query { metric: self, values, length: self.length(values)? })
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
}
