use proptest::prelude::*;

use crate::{Block, Metric, VectorError, nearest};

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
                Block { vectors: low, lengths: &lengths[..split], first: 0, alive: Some(&alive[..split]) },
                Block { vectors: high, lengths: &lengths[split..], first: split as u64, alive: Some(&alive[split..]) },
            ]).expect("finite vectors").remove(0);
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

#[test]
fn equal_scores_rank_by_row_number() {
    let vectors = [1.0_f32; 6];
    let lengths = lengths(Metric::InnerProduct, 1, &vectors);
    let block = Block { vectors: &vectors, lengths: &lengths, first: 10, alive: None };
    let found = nearest(Metric::InnerProduct, 1, &[2.0], 3, [block]).expect("finite").remove(0);
    assert_eq!(found.iter().map(|hit| hit.row).collect::<Vec<_>>(), [10, 11, 12]);
}

#[test]
fn asking_for_no_rows_finds_none() {
    let block = Block { vectors: &[1.0], lengths: &[1.0], first: 0, alive: None };
    assert_eq!(nearest(Metric::Cosine, 1, &[1.0], 0, [block]), Ok(vec![vec![]]));
}

#[test]
fn a_query_without_a_place_in_the_order_is_refused() {
    for (value, problem) in [
        (f32::NAN, "holds NaN or infinity"),
        (f32::INFINITY, "holds NaN or infinity"),
        (1e30, "is longer than 3e18, so float32 sums over it would overflow"),
        (0.0, "is shorter than 1e-15, so it has no direction to compare"),
    ] {
        let refused = nearest(Metric::Cosine, 2, &[1.0, 1.0, value, 0.0], 1, []);
        assert_eq!(refused, Err(VectorError::Value { row: 1, problem }));
    }
}

#[test]
fn floats_that_do_not_divide_into_queries_are_refused() {
    let refused = nearest(Metric::Cosine, 2, &[1.0, 1.0, 1.0], 1, []);
    assert_eq!(refused, Err(VectorError::Width { expected: 2, came: 3 }));
}
