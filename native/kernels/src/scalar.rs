//! The scalar twins: the definition of every result.

use crate::{LANES, Sum};

pub(crate) fn scan(sum: Sum, query: &[f32], rows: &[f32], out: &mut [f32]) {
    match sum {
        Sum::Product => each_row(query, rows, out, |q, x| q * x),
        Sum::SquaredDifference => each_row(query, rows, out, |q, x| (q - x) * (q - x)),
    }
}

fn each_row(query: &[f32], rows: &[f32], out: &mut [f32], term: impl Fn(f32, f32) -> f32 + Copy) {
    for (row, score) in rows.chunks_exact(query.len().max(1)).zip(out) {
        let mut lanes = [0.0_f32; LANES];
        let (q, x) = (query.chunks_exact(LANES), row.chunks_exact(LANES));
        let (q_rest, x_rest) = (q.remainder(), x.remainder());
        for (q, x) in q.zip(x) {
            for lane in 0..LANES {
                lanes[lane] += term(q[lane], x[lane]);
            }
        }
        *score = finish(lanes, q_rest, x_rest, term);
    }
}

/// Adds the elements left over to the first lanes and folds the lanes by halves.
#[inline(always)]
#[expect(clippy::inline_always, reason = "shared by the SIMD kernels, whose features it must inherit")]
pub(crate) fn finish(mut lanes: [f32; LANES], q: &[f32], x: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    for (lane, (&q, &x)) in lanes.iter_mut().zip(q.iter().zip(x)) {
        *lane += term(q, x);
    }
    fold::<16>(&mut lanes);
    fold::<8>(&mut lanes);
    fold::<4>(&mut lanes);
    fold::<2>(&mut lanes);
    fold::<1>(&mut lanes);
    lanes[0]
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "as for `finish`")]
fn fold<const HALF: usize>(lanes: &mut [f32; LANES]) {
    for lane in 0..HALF {
        lanes[lane] += lanes[lane + HALF];
    }
}
