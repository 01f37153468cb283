/// Why a schema or pattern is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// It says something that is not of the subset.
    #[error("{message}")]
    Unsupported {
        /// JSON pointer into the schema, ending in the keyword; empty for a pattern.
        pointer: String,
        /// What came and what was expected.
        message: String,
        /// What to write instead.
        hint: &'static str,
    },
    /// It is no schema or no pattern at all, or nothing can satisfy it.
    #[error("{message}")]
    Invalid {
        /// JSON pointer into the schema; empty for a pattern.
        pointer: String,
        /// What is wrong.
        message: String,
    },
    /// Its automaton would exceed a bound.
    #[error("{0}")]
    TooLarge(String),
}

impl ConstraintError {
    pub(crate) fn unsupported(pointer: impl Into<String>, message: impl Into<String>, hint: &'static str) -> Self {
        Self::Unsupported { pointer: pointer.into(), message: message.into(), hint }
    }

    pub(crate) fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { pointer: pointer.into(), message: message.into() }
    }
}
