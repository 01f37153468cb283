use std::sync::Arc;

use perfuse_constraints::{Canvas, ConstraintError, Language, OPEN, Structure, Vocabulary};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::error::{invalid, refused};

/// What the tokens of a model say, for structures.
#[pyclass(frozen, name = "Vocabulary", module = "perfuse._native")]
pub(crate) struct PyVocabulary(Arc<Vocabulary>);

#[pymethods]
impl PyVocabulary {
    /// Tokens by id as bytes, empty for marks; `end` is the mark that ends a text.
    #[new]
    fn new(py: Python<'_>, tokens: Vec<Vec<u8>>, end: u32) -> PyResult<Self> {
        let vocabulary = py.detach(|| Vocabulary::new(tokens, end)).map_err(|error| refusal(error, ""))?;
        Ok(Self(Arc::new(vocabulary)))
    }

    fn __len__(&self) -> usize {
        self.0.size()
    }
}

/// Texts of a JSON Schema or a pattern over a vocabulary; see native/constraints/README.md.
#[pyclass(frozen, name = "Structure", module = "perfuse._native")]
pub(crate) struct PyStructure(Structure);

type Path = (Vec<u32>, Vec<f32>, Vec<f32>);

#[pymethods]
impl PyStructure {
    /// The JSON texts that a schema (as JSON) allows.
    ///
    /// `UnsupportedConstraint` names a keyword that is not supported, `ConstraintTooLarge` says which bound is exceeded.
    #[staticmethod]
    fn of_schema(py: Python<'_>, schema: &str, vocabulary: &PyVocabulary) -> PyResult<Self> {
        Self::of(py, "/schema", vocabulary, || Language::of_schema(schema))
    }

    /// The texts that a pattern matches from beginning to end; raises as `of_schema`.
    #[staticmethod]
    fn of_regex(py: Python<'_>, pattern: &str, vocabulary: &PyVocabulary) -> PyResult<Self> {
        Self::of(py, "/regex", vocabulary, || Language::of_regex(pattern))
    }

    /// States of the automaton.
    #[getter]
    fn states(&self) -> usize {
        self.0.states()
    }

    /// Tokens of the shortest text.
    #[getter]
    fn needed(&self) -> u32 {
        self.0.needed()
    }

    /// Whether the whole text is one of them.
    fn accepts(&self, text: &[u8]) -> bool {
        self.0.accepts(text)
    }

    /// The most probable text that holds what is settled: tokens, and per position probability and entropy (nats).
    ///
    /// `tokens` has `open` where nothing is settled; row i of `scores` (float32, log-probabilities of all tokens) is of
    /// position `first` + i. `InvalidRequest`: no text holds what is settled.
    fn best(
        &self,
        py: Python<'_>,
        tokens: Vec<u32>,
        open: u32,
        first: usize,
        scores: &Bound<'_, PyAny>,
    ) -> PyResult<Path> {
        self.path(py, &tokens, open, first, scores, None)
    }

    /// A text drawn with its probability among those that hold what is settled, from one uniform per position.
    fn draw(
        &self,
        py: Python<'_>,
        tokens: Vec<u32>,
        open: u32,
        first: usize,
        scores: &Bound<'_, PyAny>,
        uniforms: Vec<f64>,
    ) -> PyResult<Path> {
        self.path(py, &tokens, open, first, scores, Some(&uniforms))
    }
}

impl PyStructure {
    fn of(
        py: Python<'_>,
        field: &str,
        vocabulary: &PyVocabulary,
        language: impl FnOnce() -> Result<Language, ConstraintError> + Send,
    ) -> PyResult<Self> {
        let vocabulary = Arc::clone(&vocabulary.0);
        let structure = py.detach(|| Structure::new(language()?, vocabulary));
        structure.map(Self).map_err(|error| refusal(error, field))
    }

    fn path(
        &self,
        py: Python<'_>,
        tokens: &[u32],
        open: u32,
        first: usize,
        scores: &Bound<'_, PyAny>,
        uniforms: Option<&[f64]>,
    ) -> PyResult<Path> {
        let buffer = PyBuffer::<f32>::get(scores)
            .map_err(|error| invalid(format!("scores: expected a float32 buffer: {}", error.value(py))))?;
        let scores = buffer.to_vec(py)?;
        let tokens: Vec<u32> = tokens.iter().map(|&token| if token == open { OPEN } else { token }).collect();
        let path = py.detach(|| {
            let canvas = Canvas { tokens: &tokens, first, scores: &scores };
            match uniforms {
                None => self.0.best(canvas),
                Some(uniforms) => self.0.draw(canvas, uniforms),
            }
        });
        let path = path.map_err(|error| refusal(error, ""))?;
        Ok((path.tokens, path.confidence, path.entropy))
    }
}

/// The exception of `perfuse.errors`, with a JSON pointer into the request.
fn refusal(error: ConstraintError, field: &str) -> PyErr {
    let message = error.to_string();
    let (class, pointer, hint) = match error {
        ConstraintError::Unsupported { pointer, hint, .. } => ("UnsupportedConstraint", pointer, Some(hint)),
        ConstraintError::Invalid { pointer, .. } => ("InvalidRequest", pointer, None),
        ConstraintError::TooLarge(_) => {
            let hint = "lower maxLength, maxItems and repetitions, or list fewer values";
            ("ConstraintTooLarge", String::new(), Some(hint))
        }
    };
    let field = format!("{field}{pointer}");
    refused(class, &message, hint, (!field.is_empty()).then_some(field.as_str()))
}
