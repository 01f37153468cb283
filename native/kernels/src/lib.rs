//! SIMD kernels, each with a scalar twin that gives the same bits.
//!
//! A sum runs over 32 lanes: lane `j` adds the terms of the elements `j, j + 32, j + 64, …`, the rest of a row goes to
//! the first lanes, and the lanes fold by halves (32 → 16 → … → 1). Products are rounded before they are added (no fused
//! multiply-add), so AVX-512, AVX2 and plain code agree bit for bit and a search ranks alike on every CPU.

mod codes;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use codes::{CHUNK, Chunk, CodeRows, LONGEST, products, products_at};

/// Lanes of every sum.
pub const LANES: usize = 32;

/// What is summed over the elements of two vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Σ qᵢ·xᵢ
    Product,
    /// Σ (qᵢ − xᵢ)²
    SquaredDifference,
}

/// The instructions a scan runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Plain Rust.
    Scalar,
    /// 256-bit registers.
    Avx2,
    /// 512-bit registers.
    Avx512,
}

/// Every level this CPU has, slowest first.
pub fn levels() -> Vec<Level> {
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "only x86-64 has more levels"))]
    let mut found = vec![Level::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            found.push(Level::Avx2);
        }
        if is_x86_feature_detected!("avx512f") {
            found.push(Level::Avx512);
        }
    }
    found
}

/// Writes the sum of `query` and each row of `rows` (row-major, `query.len()` wide) to `out`, on the best level.
///
/// # Panics
/// When `rows` does not hold `out.len()` rows.
pub fn scan(sum: Sum, query: &[f32], rows: &[f32], out: &mut [f32]) {
    scan_at(best(), sum, query, rows, out);
}

fn best() -> Level {
    use std::sync::OnceLock;
    static BEST: OnceLock<Level> = OnceLock::new();
    *BEST.get_or_init(|| levels().pop().unwrap_or(Level::Scalar))
}

/// [`scan`] on a chosen level.
///
/// # Panics
/// When `rows` does not hold `out.len()` rows, or this CPU lacks the level.
pub fn scan_at(level: Level, sum: Sum, query: &[f32], rows: &[f32], out: &mut [f32]) {
    assert_eq!(rows.len(), query.len() * out.len(), "rows × width must match the scores asked for");
    match level {
        Level::Scalar => scalar::scan(sum, query, rows, out),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => x86::scan_avx2(sum, query, rows, out),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => x86::scan_avx512(sum, query, rows, out),
        #[cfg(not(target_arch = "x86_64"))]
        _ => panic!("this CPU has no {level:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(sum: Sum, query: &[f32], row: &[f32]) -> f64 {
        let terms = query.iter().zip(row).map(|(&q, &x)| (f64::from(q), f64::from(x)));
        match sum {
            Sum::Product => terms.map(|(q, x)| q * x).sum(),
            Sum::SquaredDifference => terms.map(|(q, x)| (q - x) * (q - x)).sum(),
        }
    }

    proptest! {
        #[test]
        fn every_level_gives_the_bits_of_the_scalar_twin(
            width in 1_usize..150,
            seed in prop::collection::vec(-4.0_f32..4.0, 600),
        ) {
            let count = seed.len() / width - 1;
            let (query, rows) = (&seed[..width], &seed[width..width * (count + 1)]);
            for sum in [Sum::Product, Sum::SquaredDifference] {
                let mut expected = vec![0.0; count];
                scan_at(Level::Scalar, sum, query, rows, &mut expected);
                for (row, &score) in rows.chunks_exact(width).zip(&expected) {
                    let exact = reference(sum, query, row);
                    prop_assert!((f64::from(score) - exact).abs() <= 1e-5 * (1.0 + exact.abs()) * 20.0);
                }
                for level in levels() {
                    let mut scores = vec![0.0; count];
                    scan_at(level, sum, query, rows, &mut scores);
                    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    prop_assert_eq!(bits(&scores), bits(&expected), "{:?} {:?}", level, sum);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "rows × width must match the scores asked for")]
    fn a_row_too_few_is_refused() {
        scan(Sum::Product, &[1.0, 2.0], &[1.0, 2.0], &mut [0.0, 0.0]);
    }
}
