//! Products of int8 codes: exact integers, so every level gives the same ones.

use crate::{Level, best};

/// Codes of a row are padded with zeros to a multiple of this: one 512-bit register.
pub const CHUNK: usize = 64;
/// The longest row whose product of u8 and i8 fits an i32: `LONGEST * 255 * 127 < 2^31`.
pub const LONGEST: usize = 1 << 16;

/// `CHUNK` codes at an address that is a multiple of `CHUNK`, so that no load touches two cache lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Chunk(pub [i8; CHUNK]);

impl Chunk {
    /// All zeros.
    pub const ZERO: Self = Self([0; CHUNK]);
}

/// Rows of codes from -127 to 127, each `chunks` long.
#[derive(Clone, Copy, Debug)]
pub struct CodeRows<'a> {
    /// The codes, row after row.
    pub codes: &'a [Chunk],
    /// Sum of each row's codes.
    pub sums: &'a [i32],
    /// Chunks of a row.
    pub chunks: usize,
}

/// Writes Σ qᵢ·cᵢ of each query and each row to `out[query * rows + row]`, on the best level.
///
/// # Panics
/// When the lengths of `queries`, `rows` and `out` contradict each other, or rows are longer than [`LONGEST`].
pub fn products(queries: &[Chunk], rows: CodeRows<'_>, out: &mut [i32]) {
    products_at(best(), queries, rows, out);
}

/// [`products`] on a chosen level.
///
/// # Panics
/// As [`products`], or when this CPU lacks the level.
pub fn products_at(level: Level, queries: &[Chunk], rows: CodeRows<'_>, out: &mut [i32]) {
    let CodeRows { codes, sums, chunks } = rows;
    assert!(chunks > 0 && chunks * CHUNK <= LONGEST, "rows must have 1 to {LONGEST} codes");
    assert_eq!(codes.len(), chunks * sums.len(), "rows × chunks must match the sums");
    assert!(queries.len().is_multiple_of(chunks), "queries must be as long as the rows");
    assert_eq!(out.len(), queries.len() / chunks * sums.len(), "one product for each query and row");
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") => {
            crate::x86::products_avx512(queries, rows, out);
        }
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx2 => crate::x86::products_avx2(queries, rows, out),
        _ => scalar(queries, rows, out),
    }
}

/// The scalar twin.
fn scalar(queries: &[Chunk], rows: CodeRows<'_>, out: &mut [i32]) {
    let count = rows.sums.len();
    for (query, out) in queries.chunks_exact(rows.chunks).zip(out.chunks_exact_mut(count.max(1))) {
        for (row, product) in rows.codes.chunks_exact(rows.chunks).zip(out) {
            let pairs = query.iter().zip(row).flat_map(|(q, c)| q.0.iter().zip(&c.0));
            *product = pairs.map(|(&q, &c)| i32::from(q) * i32::from(c)).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::levels;

    fn chunks(values: &[i8]) -> Vec<Chunk> {
        let chunk = |part: &[i8]| {
            let mut chunk = Chunk::ZERO;
            chunk.0[..part.len()].copy_from_slice(part);
            chunk
        };
        values.chunks(CHUNK).map(chunk).collect()
    }

    fn sums(codes: &[Chunk], chunks: usize) -> Vec<i32> {
        codes.chunks_exact(chunks).map(|row| row.iter().flat_map(|c| c.0).map(i32::from).sum()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_level_gives_the_integers_of_the_definition(
            per_row in 1_usize..8,
            query_count in 0_usize..11,
            values in prop::collection::vec(prop_oneof![Just(-127_i8), Just(127), -127_i8..=127], 64 * 90),
        ) {
            let all = chunks(&values);
            let (queries, rest) = all.split_at(query_count * per_row);
            let codes = &rest[..rest.len() / per_row * per_row];
            let sums = sums(codes, per_row);
            let rows = CodeRows { codes, sums: &sums, chunks: per_row };
            let mut expected = vec![0; query_count * sums.len()];
            products_at(Level::Scalar, queries, rows, &mut expected);
            for (at, &found) in expected.iter().enumerate() {
                let (query, row) = (at / sums.len(), at % sums.len());
                let both = queries[query * per_row..][..per_row].iter().zip(&codes[row * per_row..]);
                let defined: i64 = both.flat_map(|(q, c)| q.0.into_iter().zip(c.0))
                    .map(|(q, c)| i64::from(q) * i64::from(c)).sum();
                prop_assert_eq!(i64::from(found), defined);
            }
            for level in levels() {
                let mut found = vec![0; expected.len()];
                products_at(level, queries, rows, &mut found);
                prop_assert_eq!(&found, &expected, "{:?}", level);
            }
        }
    }

    #[test]
    fn the_longest_row_does_not_overflow() {
        let codes = vec![Chunk([127; CHUNK]); LONGEST / CHUNK];
        let sums = sums(&codes, codes.len());
        for level in levels() {
            let mut found = [0];
            products_at(level, &codes, CodeRows { codes: &codes, sums: &sums, chunks: codes.len() }, &mut found);
            assert_eq!(found, [127 * 127 * (1 << 16)], "{level:?}");
        }
    }

    #[test]
    #[should_panic(expected = "rows × chunks must match the sums")]
    fn a_row_too_few_is_refused() {
        products(&[Chunk::ZERO], CodeRows { codes: &[Chunk::ZERO], sums: &[0, 0], chunks: 1 }, &mut [0, 0]);
    }
}
