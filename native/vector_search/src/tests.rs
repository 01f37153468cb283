use proptest::prelude::*;

use crate::{Block, Codes, Found, Metric, VectorError, nearest};

fn lengths(metric: Metric, width: usize, vectors: &[f32]) -> Vec<f32> {
    vectors.chunks_exact(width).map(|row| metric.length(row).expect("finite")).collect()
}

fn exact(metric: Metric, query: &[f32], row: &[f32]) -> f64 {
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let (q, x) = (wide(query), wide(row));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    match metric {
        Metric::InnerProduct => dot(&q, &x),
        Metric::Cosine => dot(&q, &x) / dot(&q, &q).sqrt() / dot(&x, &x).sqrt(),
        Metric::Euclidean => q.iter().zip(&x).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
    }
}

proptest! {
    #[test]
    fn the_k_best_are_those_of_a_sort_in_float64_up_to_ties(
        width in 1_usize..40,
        values in prop::collection::vec(prop_oneof![(-3_i8..=3).prop_map(f32::from), -2.0_f32..2.0], 900),
        k in 1_usize..12,
        split in 0_usize..500,
    ) {
        let values: Vec<f32> = values.into_iter().map(|v| if v == 0.0 { 0.5 } else { v }).collect();
        let (query, vectors) = values.split_at(width);
        let count = vectors.len() / width;
        let vectors = &vectors[..count * width];
        let alive: Vec<bool> = (0..count).map(|row| row % 3 != 1).collect();
        let split = split.min(count);
        for metric in [Metric::Cosine, Metric::InnerProduct, Metric::Euclidean] {
            let lengths = lengths(metric, width, vectors);
            let (low, high) = vectors.split_at(split * width);
            let found = nearest(metric, width, query, k, [
                Block { vectors: low, lengths: &lengths[..split], codes: None, first: 0, alive: Some(&|row| alive[row]) },
                Block {
                    vectors: high,
                    lengths: &lengths[split..],
                    codes: Codes::of(width, high).as_ref(),
                    first: split as u64,
                    alive: Some(&|row| alive[split + row]),
                },
            ], 1).expect("finite vectors").remove(0);
            let mut expected: Vec<f64> = (0..count).filter(|&row| alive[row])
                .map(|row| exact(metric, query, &vectors[row * width..][..width])).collect();
            expected.sort_by(f64::total_cmp);
            if metric != Metric::Euclidean { expected.reverse(); }
            expected.truncate(k);
            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                let row = usize::try_from(found.row).expect("small");
                prop_assert!(alive[row]);
                let own = exact(metric, query, &vectors[row * width..][..width]);
                prop_assert!((own - expected).abs() <= 1e-3, "{metric:?}: {own} instead of {expected}");
                prop_assert!((own - f64::from(found.score)).abs() <= 1e-3);
            }
        }
    }
}

/// Vectors that make the bounds work: alike, far from the origin, tiny, huge, with zeros, on a grid of ties.
fn awkward() -> impl Strategy<Value = (usize, Vec<f32>)> {
    let value = prop_oneof![
        4 => -1.0_f32..1.0,
        2 => (-2_i8..=2).prop_map(f32::from),
        1 => Just(0.0_f32),
        1 => Just(1e-20_f32),
        1 => Just(f32::MIN_POSITIVE / 8.0),
    ];
    let scale = prop_oneof![Just(1.0_f32), Just(1e-18), Just(1e15), Just(1e-3)];
    let rows = prop::collection::vec((prop::collection::vec(value, 150), scale, 0.0_f32..2.0, any::<bool>()), 1..90);
    (1_usize..150, rows).prop_map(|(width, rows)| {
        let mut all: Vec<f32> = Vec::new();
        for (values, scale, shift, again) in rows {
            let row: Vec<f32> = values[..width].iter().map(|value| (value + shift.floor() * 50.0) * scale).collect();
            let before = all.len().checked_sub(width).filter(|_| again).map(|start| all[start..].to_vec());
            all.extend(before.unwrap_or(row));
        }
        (width, all)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn codes_change_no_bit_of_any_answer((width, values) in awkward(), k in 1_usize..12, split in 0_usize..60) {
        for metric in [Metric::Cosine, Metric::InnerProduct, Metric::Euclidean] {
            let fit: Vec<f32> = values.chunks_exact(width).filter(|row| metric.length(row).is_ok())
                .flatten().copied().collect();
            let lengths = lengths(metric, width, &fit);
            let (split, queries) = (split.min(lengths.len()), &fit[..fit.len().min(5 * width)]);
            let (low, high) = fit.split_at(split * width);
            let plain = Block { vectors: &fit, lengths: &lengths, codes: None, first: 0, alive: None };
            let expected = nearest(metric, width, queries, k, [plain], 1).expect("fit");
            let (low_codes, high_codes) = (Codes::of(width, low), Codes::of(width, high));
            let coded = [
                Block { vectors: low, lengths: &lengths[..split], codes: low_codes.as_ref(), first: 0, alive: None },
                Block {
                    vectors: high, lengths: &lengths[split..], codes: high_codes.as_ref(), first: split as u64, alive: None,
                },
            ];
            let found = nearest(metric, width, queries, k, coded, 1).expect("fit");
            let bits = |found: &[Vec<Found>]| -> Vec<Vec<(u64, u32)>> {
                found.iter().map(|hits| hits.iter().map(|hit| (hit.row, hit.score.to_bits())).collect()).collect()
            };
            prop_assert_eq!(bits(&found), bits(&expected), "{:?}", metric);
        }
    }
}

/// Numbers that look random: the high bits of a linear congruential generator, as -1..1.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((state >> 16) as u16) / 32768.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn threads_change_no_bit_of_any_answer() {
    let (width, rows) = (96, 20_000);
    let vectors = noise(3, width * rows);
    let queries = noise(5, width * 7);
    for metric in [Metric::Cosine, Metric::InnerProduct, Metric::Euclidean] {
        let lengths = lengths(metric, width, &vectors);
        let codes = Codes::of(width, &vectors);
        let search = |codes: Option<&Codes>, threads: usize| {
            let block = Block { vectors: &vectors, lengths: &lengths, codes, first: 0, alive: None };
            nearest(metric, width, &queries, 10, [block], threads).expect("finite")
        };
        let expected = search(None, 1);
        for threads in [1, 2, 5] {
            assert_eq!(search(codes.as_ref(), threads), expected);
            assert_eq!(search(None, threads), expected);
        }
    }
}

#[test]
fn rows_too_long_for_sums_of_32_bits_have_no_codes() {
    assert!(Codes::of(1 << 16, &vec![0.5; 1 << 16]).is_some());
    assert!(Codes::of((1 << 16) + 1, &vec![0.5; (1 << 16) + 1]).is_none());
}

#[test]
fn equal_scores_rank_by_row_number() {
    let vectors = [1.0_f32; 6];
    let lengths = lengths(Metric::InnerProduct, 1, &vectors);
    let block = Block { vectors: &vectors, lengths: &lengths, codes: None, first: 10, alive: None };
    let found = nearest(Metric::InnerProduct, 1, &[2.0], 3, [block], 1).expect("finite").remove(0);
    assert_eq!(found.iter().map(|hit| hit.row).collect::<Vec<_>>(), [10, 11, 12]);
}

#[test]
fn asking_for_no_rows_finds_none() {
    let block = Block { vectors: &[1.0], lengths: &[1.0], codes: None, first: 0, alive: None };
    assert_eq!(nearest(Metric::Cosine, 1, &[1.0], 0, [block], 1), Ok(vec![vec![]]));
}

#[test]
fn a_query_without_a_place_in_the_order_is_refused() {
    for (value, problem) in [
        (f32::NAN, "holds NaN or infinity"),
        (f32::INFINITY, "holds NaN or infinity"),
        (1e30, "is longer than 3e18, so float32 sums over it would overflow"),
        (0.0, "is shorter than 1e-15, so it has no direction to compare"),
    ] {
        let refused = nearest(Metric::Cosine, 2, &[1.0, 1.0, value, 0.0], 1, [], 1);
        assert_eq!(refused, Err(VectorError::Value { row: 1, problem }));
    }
}

#[test]
fn floats_that_do_not_divide_into_queries_are_refused() {
    let refused = nearest(Metric::Cosine, 2, &[1.0, 1.0, 1.0], 1, [], 1);
    assert_eq!(refused, Err(VectorError::Width { expected: 2, came: 3 }));
}
