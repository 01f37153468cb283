//! Errors of the crates become classes of `perfuse.errors`.

use perfuse_arrow_storage::Error;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception of `perfuse.errors` for `error`.
pub(crate) fn into_python(error: Error) -> PyErr {
    let (class, hint, message) = match error {
        Error::Invalid(message) => ("InvalidRequest", None, message),
        Error::NotFound(message) => ("NotFound", None, message),
        Error::Corrupt(message) => ("StoreCorrupt", None, message),
        Error::Locked(message) => ("StoreLocked", Some("stop the other process or use another directory"), message),
        Error::Full(message) => ("StoreFull", Some("free some space and try again"), message),
        Error::Failed(message) => ("StoreError", None, message),
    };
    refused(class, &message, hint, None)
}

/// An exception of `perfuse.errors`; `field` is the JSON pointer of what is refused.
pub(crate) fn refused(class: &str, message: &str, hint: Option<&str>, field: Option<&str>) -> PyErr {
    Python::attach(|py| raise(py, class, message, hint, field).unwrap_or_else(|failed| failed))
}

fn raise(py: Python<'_>, class: &str, message: &str, hint: Option<&str>, field: Option<&str>) -> PyResult<PyErr> {
    let keywords = PyDict::new(py);
    keywords.set_item("hint", hint)?;
    keywords.set_item("field", field)?;
    let exception = py.import("perfuse.errors")?.getattr(class)?.call((message,), Some(&keywords))?;
    Ok(PyErr::from_value(exception))
}

/// A refusal of what the caller passed.
pub(crate) fn invalid(message: impl Into<String>) -> PyErr {
    into_python(Error::Invalid(message.into()))
}
