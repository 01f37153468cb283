use perfuse_arrow_storage::Rows;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::capsule;

/// Rows of a table, for any Arrow consumer: `pyarrow.table(rows)`, `polars.DataFrame(rows)`.
#[pyclass(frozen, name = "Rows", module = "perfuse._native")]
pub(crate) struct PyRows(pub(crate) Rows);

#[pymethods]
impl PyRows {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("Rows({} rows of {} columns)", self.0.len(), self.0.schema.fields().len())
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsule::export_schema(py, &self.0.schema)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // A consumer's wish for other types may be ignored; it casts for itself.
        drop(requested_schema);
        capsule::export(py, &self.0.schema, self.0.batches.clone())
    }
}
