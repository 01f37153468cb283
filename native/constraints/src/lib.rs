//! Texts of a given structure: a JSON Schema or a regular expression becomes an automaton over the tokens of a
//! vocabulary, and of all texts that it accepts the most probable one, or an exact sample, fills a canvas of masks.
//!
//! The way: schema or pattern → [`Language`] (bytes) → [`Structure`] (tokens) → [`Structure::best`] and
//! [`Structure::draw`], a dynamic program over states × positions. Source: DINGO, arXiv 2505.23061. Everything is
//! bounded while it is built: see [`MOST_STATES`].

mod dfa;
mod dingo;
mod error;
mod expression;
mod nfa;
mod numbers;
mod regex;
mod schema;
mod strings;
mod tokens;

pub use dfa::{Language, MOST_STATES};
pub use dingo::{Canvas, OPEN, Path};
pub use error::ConstraintError;
pub use schema::MOST_DEPTH;
pub use tokens::{Structure, Vocabulary};

#[cfg(test)]
mod tests;
