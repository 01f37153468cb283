use perfuse_arrow_storage::{Rows, Snapshot};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{into_python, invalid};
use crate::rows::PyRows;
use crate::values;

/// What a store holds at one LSN, for ever.
#[pyclass(frozen, name = "Snapshot", module = "perfuse._native")]
pub(crate) struct PySnapshot(pub(crate) Snapshot);

#[pymethods]
impl PySnapshot {
    /// The last commit it holds.
    #[getter]
    fn lsn(&self) -> u64 {
        self.0.lsn()
    }

    fn __repr__(&self) -> String {
        format!("Snapshot(lsn={})", self.0.lsn())
    }

    /// Names of the tables.
    fn tables(&self) -> Vec<String> {
        self.0.tables().map(|(name, _)| name.to_owned()).collect()
    }

    /// Fingerprint of a table's definition.
    fn fingerprint(&self, table: &str) -> PyResult<String> {
        Ok(self.0.definition(table).map_err(into_python)?.fingerprint().to_owned())
    }

    /// Number of rows of a table.
    fn count(&self, py: Python<'_>, table: &str) -> PyResult<usize> {
        py.detach(|| self.0.count(table)).map_err(into_python)
    }

    /// The row with `key`, or `None`.
    pub(crate) fn get(&self, table: &str, key: &Bound<'_, PyAny>) -> PyResult<Option<PyRows>> {
        let row = self.0.get(table, &values::key(key)?).map_err(into_python)?;
        Ok(row.map(|row| PyRows(Rows { schema: row.schema(), batches: vec![row] })))
    }

    /// LSN of the commit that wrote the row with `key`; 0 when there is none.
    fn generation(&self, table: &str, key: &Bound<'_, PyAny>) -> PyResult<u64> {
        self.0.generation(table, &values::key(key)?).map_err(into_python)
    }

    /// The rows whose columns equal `filter`.
    #[pyo3(signature = (table, filter=None, columns=None))]
    pub(crate) fn scan(
        &self,
        py: Python<'_>,
        table: &str,
        filter: Option<&Bound<'_, PyDict>>,
        columns: Option<Vec<String>>,
    ) -> PyResult<PyRows> {
        let wanted = values::filter(filter)?;
        py.detach(|| self.0.scan(table, &wanted, columns.as_deref())).map(PyRows).map_err(into_python)
    }

    /// The `k` rows nearest to each query, exact, best first.
    #[pyo3(signature = (table, queries, k, r#where=None, columns=None))]
    pub(crate) fn search(
        &self,
        py: Python<'_>,
        table: &str,
        queries: &Bound<'_, PyAny>,
        k: usize,
        r#where: Option<&Bound<'_, PyDict>>,
        columns: Option<Vec<String>>,
    ) -> PyResult<PyRows> {
        let (queries, width) = values::vectors(queries)?;
        let wanted = values::filter(r#where)?;
        if let Some(expected) = self.0.width(table).map_err(into_python)?
            && expected != width
        {
            return Err(invalid(format!("queries of table {table:?}: expected {expected} floats each, came {width}")));
        }
        let found =
            py.detach(|| self.0.search(table, &queries, k, &wanted, columns.as_deref())).map_err(into_python)?;
        Ok(PyRows(Rows { schema: found.schema(), batches: vec![found] }))
    }
}
