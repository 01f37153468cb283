//! `perfuse._native`: the Rust parts of perfuse for Python.
#![expect(clippy::needless_pass_by_value, reason = "pyo3 hands over what it extracts")]

mod capsule;
mod error;
mod jail;
mod rows;
mod snapshot;
mod storage;
mod structures;
mod values;
mod vectors;

use pyo3::prelude::*;

/// The Rust parts of perfuse.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::jail::{confine, jail_support};
    #[pymodule_export]
    use crate::rows::PyRows;
    #[pymodule_export]
    use crate::snapshot::PySnapshot;
    #[pymodule_export]
    use crate::storage::{PyArrowStorage, schema_fingerprint};
    #[pymodule_export]
    use crate::structures::{PyStructure, PyVocabulary};
    #[pymodule_export]
    use crate::vectors::PyVectorSearch;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
