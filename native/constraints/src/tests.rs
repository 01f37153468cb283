#![expect(clippy::cast_precision_loss, reason = "the numbers of the tests are small")]

mod languages;
mod paths;
mod schemas;

use std::sync::Arc;

use crate::{Language, Structure, Vocabulary};

/// A vocabulary of one token per byte in front of these, and the end mark as 0.
fn vocabulary(words: &[&str]) -> Arc<Vocabulary> {
    let bytes = (0..=255_u8).map(|byte| vec![byte]);
    let words = words.iter().map(|word| word.as_bytes().to_vec());
    Arc::new(Vocabulary::new(std::iter::once(Vec::new()).chain(bytes).chain(words).collect(), 0).unwrap())
}

fn structure(schema: &str, words: &[&str]) -> Structure {
    Structure::new(Language::of_schema(schema).unwrap(), vocabulary(words)).unwrap()
}
