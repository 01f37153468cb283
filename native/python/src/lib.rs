//! `perfuse._native`: the Rust parts of perfuse for Python.

mod jail;

use pyo3::prelude::*;

/// The Rust parts of perfuse.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::jail::{confine, jail_support};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
