//! AVX2 and AVX-512 versions of the scans.
#![expect(unsafe_code, reason = "vector loads and calls of functions compiled for a CPU feature")]

use std::arch::x86_64::{
    __m256, __m512, _mm256_add_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm256_sub_ps,
    _mm512_add_ps, _mm512_loadu_ps, _mm512_mul_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

use crate::scalar::finish;
use crate::{LANES, Sum};

/// One kernel: `$registers` accumulators of `$width` floats are the 32 lanes of the scalar twin.
macro_rules! kernel {
    ($name:ident, $checked:ident, $feature:tt, $vector:ty, $width:literal, $zero:ident, $load:ident, $store:ident,
     $add:ident, $sub:ident, $mul:ident) => {
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
            const REGISTERS: usize = LANES / $width;
            for (row, score) in rows.chunks_exact(query.len().max(1)).zip(out) {
                let mut sums: [$vector; REGISTERS] = [$zero(); REGISTERS];
                let (q_blocks, x_blocks) = (query.chunks_exact(LANES), row.chunks_exact(LANES));
                let (q_rest, x_rest) = (q_blocks.remainder(), x_blocks.remainder());
                for (q, x) in q_blocks.zip(x_blocks) {
                    for (register, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: both blocks hold LANES floats and register × width + width ≤ LANES.
                        let (q, x) = unsafe {
                            ($load(q.as_ptr().add(register * $width)), $load(x.as_ptr().add(register * $width)))
                        };
                        let term = if DIFFERENCE { $mul($sub(q, x), $sub(q, x)) } else { $mul(q, x) };
                        *sum = $add(*sum, term);
                    }
                }
                let mut lanes = [0.0_f32; LANES];
                for (register, sum) in sums.iter().enumerate() {
                    // SAFETY: `lanes` holds LANES floats and register × width + width ≤ LANES.
                    unsafe { $store(lanes.as_mut_ptr().add(register * $width), *sum) };
                }
                *score = finish(lanes, q_rest, x_rest, |q, x| if DIFFERENCE { (q - x) * (q - x) } else { q * x });
            }
        }
    };
}

kernel!(
    avx2,
    scan_avx2,
    "avx2",
    __m256,
    8,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps
);
kernel!(
    avx512,
    scan_avx512,
    "avx512f",
    __m512,
    16,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps
);
