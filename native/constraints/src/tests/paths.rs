use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::structure;
use crate::{Canvas, ConstraintError, Language, OPEN, Path, Structure, Vocabulary};

/// The end mark, a mark that no text holds, and some words, of which one is there twice.
const WORDS: [&str; 7] = ["", "", "a", "b", "ab", "ba", "a"];

fn of(pattern: &str) -> Structure {
    let vocabulary = Vocabulary::new(WORDS.iter().map(|word| word.as_bytes().to_vec()).collect(), 0).unwrap();
    Structure::new(Language::of_regex(pattern).unwrap(), Arc::new(vocabulary)).unwrap()
}

/// Every accepted row of the canvas with its log-probability: what stands behind the first end mark is free.
fn all(structure: &Structure, canvas: Canvas<'_>) -> Vec<(Vec<u32>, f64)> {
    let length = canvas.tokens.len();
    let mut rows = vec![Vec::new()];
    for position in 0..length {
        let words = match canvas.tokens[position] {
            OPEN => (0..WORDS.len() as u32).collect(),
            settled => vec![settled],
        };
        rows = rows.iter().flat_map(|row| words.iter().map(|word| [row.as_slice(), &[*word]].concat())).collect();
    }
    let accepted = |row: &Vec<u32>| {
        let said = row.iter().position(|&token| token == 0).unwrap_or(length);
        let text: String = row[..said].iter().map(|&token| WORDS[token as usize]).collect();
        row[said..].iter().all(|&token| token == 0) && !row.contains(&1) && structure.accepts(text.as_bytes())
    };
    let score = |row: &Vec<u32>| {
        let said = row.iter().position(|&token| token == 0).map_or(length, |end| end + 1);
        let of = |position: usize| {
            let open = canvas.tokens[position] == OPEN;
            let row = (position - canvas.first) * WORDS.len() + row[position] as usize;
            if open { f64::from(canvas.scores[row]) } else { 0.0 }
        };
        (0..said).map(of).sum()
    };
    rows.into_iter().filter(accepted).map(|row| (row.clone(), score(&row))).collect()
}

fn normalised(scores: &[f32]) -> Vec<f32> {
    let row = |row: &[f32]| {
        let sum: f32 = row.iter().map(|score| score.exp()).sum();
        row.iter().map(|score| score - sum.ln()).collect::<Vec<_>>()
    };
    scores.chunks(WORDS.len()).flat_map(row).collect()
}

const PATTERNS: [&str; 6] = ["(ab)*", "a{2,5}", "(a|b)*abb?", "b|a(ba)+", "", "(aa|b){1,3}"];

fn canvases() -> impl Strategy<Value = (usize, Vec<u32>, Vec<f32>)> {
    (0..PATTERNS.len(), 1_usize..5).prop_flat_map(|(pattern, length)| {
        let token = prop_oneof![3 => Just(OPEN), 1 => 0..WORDS.len() as u32];
        let scores = prop::collection::vec(-6.0_f32..0.0, length * WORDS.len());
        (Just(pattern), prop::collection::vec(token, length), scores)
    })
}

proptest! {
    #[test]
    fn the_best_text_is_the_best_of_all_accepted_ones((pattern, tokens, scores) in canvases()) {
        let (structure, scores) = (of(PATTERNS[pattern]), normalised(&scores));
        let canvas = Canvas { tokens: &tokens, first: 0, scores: &scores };
        let rows = all(&structure, canvas);
        let most = rows.iter().map(|row| row.1).fold(f64::NEG_INFINITY, f64::max);
        match structure.best(canvas) {
            Ok(path) => {
                let found = rows.iter().find(|row| row.0 == path.tokens);
                prop_assert!(found.is_some_and(|found| (found.1 - most).abs() < 1e-4), "{:?} {:?}", path, rows);
            }
            Err(error) => prop_assert!(rows.is_empty(), "{}", error),
        }
        prop_assert_eq!(structure.draw(canvas, &vec![0.5; tokens.len()]).is_err(), rows.is_empty());
    }

    #[test]
    fn rows_that_are_missing_leave_the_rest_completable(
        (pattern, tokens, scores) in canvases(), rows in 0_usize..4, uniform in 0.0_f64..1.0,
    ) {
        let structure = of(PATTERNS[pattern]);
        let canvas = Canvas { tokens: &tokens, first: 0, scores: &scores };
        let short = Canvas { scores: &scores[..rows.min(tokens.len()) * WORDS.len()], ..canvas };
        let accepted = all(&structure, canvas);
        for path in [structure.best(short), structure.draw(short, &vec![uniform; tokens.len()])] {
            match path {
                Ok(path) => prop_assert!(accepted.iter().any(|row| row.0 == path.tokens)),
                Err(error) => prop_assert!(accepted.is_empty(), "{}", error),
            }
        }
    }
}

#[test]
fn texts_are_drawn_with_their_probability() {
    for (pattern, seed) in [("(a|b)*abb?", 1_u64), ("(aa|b){1,3}", 2), ("(ab)*", 3)] {
        let structure = of(pattern);
        let mut state = seed;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let scores = normalised(&(0..4 * WORDS.len()).map(|_| uniform() as f32 * -3.0).collect::<Vec<_>>());
        let canvas = Canvas { tokens: &[OPEN; 4], first: 0, scores: &scores };
        let rows = all(&structure, canvas);
        let sum: f64 = rows.iter().map(|row| row.1.exp()).sum();
        let draws = 40_000;
        let mut counts: HashMap<Vec<u32>, f64> = HashMap::new();
        for _ in 0..draws {
            let uniforms: Vec<f64> = (0..4).map(|_| uniform()).collect();
            *counts.entry(structure.draw(canvas, &uniforms).unwrap().tokens).or_default() += 1.0;
        }
        let square = |row: &(Vec<u32>, f64)| {
            let expected = f64::from(draws) * row.1.exp() / sum;
            (counts.get(&row.0).copied().unwrap_or(0.0) - expected).powi(2) / expected
        };
        let chi: f64 = rows.iter().map(square).sum();
        let freedom = (rows.len() - 1) as f64;
        // Wilson and Hilferty: the 99.9 % quantile of chi-square.
        let quantile = freedom * (1.0 - 2.0 / (9.0 * freedom) + 3.09 * (2.0 / (9.0 * freedom)).sqrt()).powi(3);
        assert!(chi < quantile, "{pattern}: {chi} with {freedom} degrees of freedom, expected below {quantile}");
    }
}

#[test]
fn what_is_forced_is_certain() {
    let structure =
        structure(r#"{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}"#, &[]);
    let width = 257;
    let scores = vec![-(width as f32).ln(); 20 * width];
    let path = structure.best(Canvas { tokens: &[OPEN; 20], first: 0, scores: &scores }).unwrap();
    assert_eq!(&path.confidence[..7], &[1.0; 7]);
    assert_eq!(&path.entropy[..7], &[0.0; 7]);
    assert!((path.confidence[7] - 0.5).abs() < 1e-6);
    assert!((path.entropy[7] - std::f32::consts::LN_2).abs() < 1e-6);
    assert_eq!(structure.needed(), 12);
}

#[test]
fn no_text_is_found_where_none_fits() {
    let structure = of("abab");
    assert_eq!(structure.needed(), 2);
    let path = |tokens: &[u32]| structure.best(Canvas { tokens, first: 0, scores: &[] });
    let tokens = |path: Path| path.tokens;
    assert_eq!(path(&[OPEN, OPEN]).map(tokens).unwrap(), [4, 4]);
    assert_eq!(path(&[OPEN, OPEN, OPEN, 0]).map(tokens).unwrap().len(), 4);
    let message = |message: &str| ConstraintError::Invalid { pointer: String::new(), message: message.to_owned() };
    assert_eq!(path(&[OPEN]).unwrap_err(), message("no accepted text that fits into the canvas holds what is settled"));
    assert_eq!(
        path(&[3, OPEN, OPEN]).unwrap_err(),
        message("no accepted text that fits into the canvas holds what is settled")
    );
    assert_eq!(
        path(&[OPEN, OPEN, 3, 1]).unwrap_err(),
        message("no accepted text that fits into the canvas holds what is settled")
    );
    let scored = structure.best(Canvas { tokens: &[OPEN], first: 0, scores: &[0.0; 3] });
    assert_eq!(scored.unwrap_err(), message("expected 7 columns, came 3"));
    let drawn = structure.draw(Canvas { tokens: &[OPEN; 2], first: 0, scores: &[] }, &[0.5]);
    assert_eq!(drawn.unwrap_err(), message("expected 2 uniforms, came 1"));
}

#[test]
fn a_vocabulary_must_be_able_to_write_the_text() {
    let message = |message: &str| ConstraintError::Invalid { pointer: String::new(), message: message.to_owned() };
    let vocabulary = Vocabulary::new(vec![Vec::new(), b"a".to_vec()], 0).unwrap();
    let structure = Structure::new(Language::of_regex("ab").unwrap(), Arc::new(vocabulary));
    assert_eq!(structure.unwrap_err(), message("the vocabulary cannot write any text that is allowed"));
    let without = Vocabulary::new(vec![b"a".to_vec()], 0);
    assert_eq!(without.unwrap_err(), message("the end 0 is a text or no token; expected an id whose text is empty"));
}

#[test]
fn tokens_are_drawn_in_the_order_of_their_ids() {
    let structure = of("[ab]");
    let scores = normalised(&[0.0; WORDS.len()]);
    let canvas = Canvas { tokens: &[OPEN], first: 0, scores: &scores };
    let drawn = |uniform: f64| structure.draw(canvas, &[uniform]).unwrap().tokens[0];
    assert_eq!([0.0, 0.3, 0.34, 0.6, 0.7, 0.999].map(drawn), [2, 2, 3, 3, 6, 6]);
    let path = structure.best(canvas).unwrap();
    assert_eq!(path.tokens, [2]);
}
