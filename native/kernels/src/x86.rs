//! AVX2 and AVX-512 versions of the scans.
#![expect(unsafe_code, reason = "vector loads and calls of functions compiled for a CPU feature")]

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _MM_HINT_T0, _mm_add_epi32, _mm_loadu_si128, _mm_prefetch, _mm_slli_epi32,
    _mm_storeu_si128, _mm_sub_epi32, _mm256_abs_epi8, _mm256_add_epi32, _mm256_add_ps, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_load_si256, _mm256_loadu_ps, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi16, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_dpbusd_epi32,
    _mm512_extracti32x4_epi32, _mm512_load_si512, _mm512_loadu_ps, _mm512_mul_ps, _mm512_reduce_add_epi32,
    _mm512_set1_epi8, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps, _mm512_sub_ps, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use crate::codes::{Chunk, CodeRows};
use crate::scalar::finish;
use crate::{LANES, Sum};

/// How far ahead rows are fetched, in floats: 4 KiB, a page the hardware does not look behind.
const AHEAD: usize = 1024;

/// One kernel. Its accumulators, each named with its first lane, are the 32 lanes of the scalar twin; as an array they
/// would be spilled to the stack in every round.
macro_rules! kernel {
    ($name:ident, $checked:ident, $feature:tt, [$($sum:ident at $lane:literal),+],
     $zero:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident) => {
        pub(crate) fn $checked(sum: Sum, query: &[f32], rows: &[f32], out: &mut [f32]) {
            assert!(is_x86_feature_detected!($feature), concat!("this CPU has no ", $feature));
            match sum {
                // SAFETY: the feature was checked above.
                Sum::Product => unsafe { $name::<false>(query, rows, out) },
                // SAFETY: the feature was checked above.
                Sum::SquaredDifference => unsafe { $name::<true>(query, rows, out) },
            }
        }

        #[target_feature(enable = $feature)]
        fn $name<const DIFFERENCE: bool>(query: &[f32], rows: &[f32], out: &mut [f32]) {
            let whole = query.len() / LANES * LANES;
            let (query, query_rest) = query.split_at(whole);
            let width = whole + query_rest.len();
            for (row, score) in rows.chunks_exact(width.max(1)).zip(out) {
                let (row, row_rest) = row.split_at(whole);
                $(let mut $sum = $zero();)+
                let mut at = 0;
                while at < whole {
                    for line in [0, LANES / 2] {
                        // A hint: it may name any address, so the pointer may leave the slice.
                        _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(at + line + AHEAD).cast());
                    }
                    $(
                        // SAFETY: both slices hold `whole` floats, a multiple of LANES, and an accumulator's lanes end
                        // at LANES at the latest.
                        let (q, x) = unsafe {
                            ($load(query.as_ptr().add(at + $lane)), $load(row.as_ptr().add(at + $lane)))
                        };
                        $sum = $add($sum, if DIFFERENCE { $mul($sub(q, x), $sub(q, x)) } else { $mul(q, x) });
                    )+
                    at += LANES;
                }
                let mut lanes = [0.0_f32; LANES];
                // SAFETY: an accumulator's lanes end at LANES at the latest.
                $(unsafe { $store(lanes.as_mut_ptr().add($lane), $sum) };)+
                let term = |q, x| if DIFFERENCE { (q - x) * (q - x) } else { q * x };
                *score = finish(lanes, query_rest, row_rest, term);
            }
        }
    };
}

kernel!(
    avx2, scan_avx2, "avx2", [first at 0, second at 8, third at 16, fourth at 24],
    _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps
);
kernel!(
    avx512, scan_avx512, "avx512f", [first at 0, second at 16],
    _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps
);

/// Rows whose products with a query are summed up in one go.
const ROWS: usize = 4;
/// Queries that a loaded row is multiplied with before the next is loaded.
const QUERIES: usize = 4;
/// The same for registers of 256 bits, of which there are half as many.
const PAIR: usize = 2;
/// How far ahead codes are fetched, in chunks: 8 KiB.
const CHUNKS_AHEAD: usize = 128;

pub(crate) fn products_avx512(queries: &[Chunk], rows: CodeRows<'_>, out: &mut [i32]) {
    assert!(
        is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw"),
        "this CPU has no avx512vnni"
    );
    // SAFETY: the features were checked above.
    unsafe { all_avx512(queries, rows, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn all_avx512(queries: &[Chunk], rows: CodeRows<'_>, out: &mut [i32]) {
    let (chunks, count) = (rows.chunks, rows.sums.len());
    let whole = count / ROWS * ROWS;
    for row in (0..whole).step_by(ROWS) {
        let codes = &rows.codes[row * chunks..][..ROWS * chunks];
        let ahead = rows.codes.as_ptr().wrapping_add(row * chunks + CHUNKS_AHEAD);
        let mut left = queries.chunks_exact(QUERIES * chunks);
        let mut at = row;
        for several in &mut left {
            tile::<QUERIES>(several, codes, chunks, ahead, &rows.sums[row..], &mut out[at..], count);
            at += QUERIES * count;
        }
        for one in left.remainder().chunks_exact(chunks) {
            tile::<1>(one, codes, chunks, ahead, &rows.sums[row..], &mut out[at..], count);
            at += count;
        }
    }
    for (row, &sum) in rows.sums.iter().enumerate().skip(whole) {
        let codes = &rows.codes[row * chunks..][..chunks];
        for (query, out) in queries.chunks_exact(chunks).zip(out.chunks_exact_mut(count)) {
            out[row] = one_avx512(query, codes) - (sum << 7);
        }
    }
}

/// `Q` queries with `ROWS` rows: each row is loaded once for all queries. Queries are made unsigned by adding 128, as the
/// instruction wants; 128 times the row's sum is taken off at the end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tile<const Q: usize>(
    queries: &[Chunk],
    rows: &[Chunk],
    chunks: usize,
    ahead: *const Chunk,
    sums: &[i32],
    out: &mut [i32],
    stride: usize,
) {
    assert!(queries.len() == Q * chunks && rows.len() == ROWS * chunks && sums.len() >= ROWS);
    assert!(out.len() >= (Q - 1) * stride + ROWS);
    let flip = _mm512_set1_epi8(-128);
    let mut totals = [[_mm512_setzero_si512(); ROWS]; Q];
    for at in 0..chunks {
        let mut codes = [_mm512_setzero_si512(); ROWS];
        for (row, code) in codes.iter_mut().enumerate() {
            *code = load_512(&rows[row * chunks + at]);
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(row * chunks + at).cast());
        }
        for (query, totals) in totals.iter_mut().enumerate() {
            let query = _mm512_xor_si512(load_512(&queries[query * chunks + at]), flip);
            for (total, code) in totals.iter_mut().zip(codes) {
                *total = _mm512_dpbusd_epi32(*total, query, code);
            }
        }
    }
    // SAFETY: `sums` holds ROWS numbers, as was checked above.
    let offsets = _mm_slli_epi32::<7>(unsafe { _mm_loadu_si128(sums.as_ptr().cast()) });
    for (query, totals) in totals.into_iter().enumerate() {
        let products = _mm_sub_epi32(sums_of(totals), offsets);
        // SAFETY: `out` holds ROWS numbers from there, as was checked above.
        unsafe { _mm_storeu_si128(out[query * stride..].as_mut_ptr().cast(), products) };
    }
}

/// The sum of each of four registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn sums_of([a, b, c, d]: [__m512i; ROWS]) -> __m128i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let low = _mm_add_epi32(_mm512_extracti32x4_epi32::<0>(all), _mm512_extracti32x4_epi32::<1>(all));
    let high = _mm_add_epi32(_mm512_extracti32x4_epi32::<2>(all), _mm512_extracti32x4_epi32::<3>(all));
    _mm_add_epi32(low, high)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn one_avx512(query: &[Chunk], row: &[Chunk]) -> i32 {
    let mut total = _mm512_setzero_si512();
    for (query, row) in query.iter().zip(row) {
        let query = _mm512_xor_si512(load_512(query), _mm512_set1_epi8(-128));
        total = _mm512_dpbusd_epi32(total, query, load_512(row));
    }
    _mm512_reduce_add_epi32(total)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_512(chunk: &Chunk) -> __m512i {
    // SAFETY: a chunk is 64 bytes at a multiple of 64.
    unsafe { _mm512_load_si512(std::ptr::from_ref(chunk).cast()) }
}

pub(crate) fn products_avx2(queries: &[Chunk], rows: CodeRows<'_>, out: &mut [i32]) {
    assert!(is_x86_feature_detected!("avx2"), "this CPU has no avx2");
    // SAFETY: the feature was checked above.
    unsafe { all_avx2(queries, rows, out) }
}

#[target_feature(enable = "avx2")]
fn all_avx2(queries: &[Chunk], rows: CodeRows<'_>, out: &mut [i32]) {
    let (chunks, count) = (rows.chunks, rows.sums.len());
    let whole = count / ROWS * ROWS;
    for row in (0..whole).step_by(ROWS) {
        let codes = &rows.codes[row * chunks..][..ROWS * chunks];
        let ahead = rows.codes.as_ptr().wrapping_add(row * chunks + CHUNKS_AHEAD);
        let mut left = queries.chunks_exact(PAIR * chunks);
        let mut at = row;
        for several in &mut left {
            tile_avx2::<PAIR>(several, codes, chunks, ahead, &mut out[at..], count);
            at += PAIR * count;
        }
        for one in left.remainder().chunks_exact(chunks) {
            tile_avx2::<1>(one, codes, chunks, ahead, &mut out[at..], count);
            at += count;
        }
    }
    for row in whole..count {
        let codes = &rows.codes[row * chunks..][..chunks];
        for (query, out) in queries.chunks_exact(chunks).zip(out.chunks_exact_mut(count)) {
            out[row] = one_avx2(query, codes);
        }
    }
}

/// `Q` queries with `ROWS` rows, as `tile`, by the products of `product_avx2`.
#[inline]
#[target_feature(enable = "avx2")]
fn tile_avx2<const Q: usize>(
    queries: &[Chunk],
    rows: &[Chunk],
    chunks: usize,
    ahead: *const Chunk,
    out: &mut [i32],
    stride: usize,
) {
    assert!(queries.len() == Q * chunks && rows.len() == ROWS * chunks);
    assert!(out.len() >= (Q - 1) * stride + ROWS);
    let mut totals = [[_mm256_setzero_si256(); ROWS]; Q];
    for at in 0..chunks {
        for row in 0..ROWS {
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(row * chunks + at).cast());
            for half in 0..2 {
                let codes = load_256(&rows[row * chunks + at], half);
                for (query, totals) in totals.iter_mut().enumerate() {
                    let product = product_avx2(load_256(&queries[query * chunks + at], half), codes);
                    totals[row] = _mm256_add_epi32(totals[row], product);
                }
            }
        }
    }
    for (query, [a, b, c, d]) in totals.into_iter().enumerate() {
        let sums = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        // SAFETY: `out` holds ROWS numbers from there, as was checked above.
        unsafe { _mm_storeu_si128(out[query * stride..].as_mut_ptr().cast(), sums) };
    }
}

/// Sums of four products of q and c each: of |c| and q with the sign of c, of which two are at most 2 · 127 · 127 and fit
/// the 16 bits they are summed in.
#[inline]
#[target_feature(enable = "avx2")]
fn product_avx2(q: __m256i, c: __m256i) -> __m256i {
    _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(c), _mm256_sign_epi8(q, c)), _mm256_set1_epi16(1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn one_avx2(query: &[Chunk], row: &[Chunk]) -> i32 {
    let mut total = _mm256_setzero_si256();
    for (query, row) in query.iter().zip(row) {
        for half in 0..2 {
            total = _mm256_add_epi32(total, product_avx2(load_256(query, half), load_256(row, half)));
        }
    }
    let mut lanes = [0_i32; 8];
    // SAFETY: eight numbers of 32 bits are 256.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), total) };
    lanes.iter().sum()
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_256(chunk: &Chunk, half: usize) -> __m256i {
    // SAFETY: each half of a chunk is 32 bytes at a multiple of 32; `half` is 0 or 1, else the slicing panics.
    unsafe { _mm256_load_si256(chunk.0[half * 32..][..32].as_ptr().cast()) }
}
