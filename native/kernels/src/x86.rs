//! AVX2 and AVX-512 versions of the scans.
#![expect(unsafe_code, reason = "vector loads and calls of functions compiled for a CPU feature")]

use std::arch::x86_64::{
    _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    _mm256_sub_ps, _mm512_add_ps, _mm512_loadu_ps, _mm512_mul_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

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
