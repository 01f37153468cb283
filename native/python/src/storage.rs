use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use perfuse_arrow_storage::{ArrowStorage, Change, Error, Metric, Mode, Repaired, TableDefinition, Verified};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{into_python, invalid};
use crate::rows::PyRows;
use crate::snapshot::PySnapshot;
use crate::{capsule, values};

/// Crash-safe tables of Arrow rows: one owner process writes, any number of processes read.
#[pyclass(frozen, name = "ArrowStorage", module = "perfuse._native")]
pub(crate) struct PyArrowStorage(RwLock<Option<Arc<ArrowStorage>>>);

impl PyArrowStorage {
    fn store(&self) -> PyResult<Arc<ArrowStorage>> {
        let open = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        open.ok_or_else(|| into_python(Error::Failed("the store is closed".into())))
    }

    fn snapshot_now(&self) -> PyResult<PySnapshot> {
        Ok(PySnapshot(self.store()?.snapshot()))
    }
}

#[pymethods]
impl PyArrowStorage {
    /// Opens the store in directory `path` as its `"owner"` or a `"reader"`.
    #[staticmethod]
    #[pyo3(signature = (path, mode="owner"))]
    fn open(py: Python<'_>, path: PathBuf, mode: &str) -> PyResult<Self> {
        let mode = match mode {
            "owner" => Mode::Owner,
            "reader" => Mode::Reader,
            other => return Err(invalid(format!("expected mode \"owner\" or \"reader\", came {other:?}"))),
        };
        let store = py.detach(|| ArrowStorage::open(&path, mode)).map_err(into_python)?;
        Ok(Self(RwLock::new(Some(Arc::new(store)))))
    }

    /// Gives the store up; snapshots taken stay readable.
    fn close(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(&self, _kind: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _traceback: &Bound<'_, PyAny>) {
        self.close();
    }

    /// The last commit seen.
    #[getter]
    fn lsn(&self) -> PyResult<u64> {
        Ok(self.store()?.snapshot().lsn())
    }

    /// Creates a table; does nothing when there is one with the same definition.
    #[pyo3(signature = (name, schema, key, vector=None, metric="cosine"))]
    fn create_table(
        &self,
        py: Python<'_>,
        name: &str,
        schema: &Bound<'_, PyAny>,
        key: &str,
        vector: Option<&str>,
        metric: &str,
    ) -> PyResult<u64> {
        let (store, definition) = (self.store()?, definition(schema, key, vector, metric)?);
        py.detach(|| store.create_table(name, &definition)).map_err(into_python)
    }

    /// Adds the columns that the schema has behind those of the table, all of which may be null.
    #[pyo3(signature = (name, schema, key, vector=None, metric="cosine"))]
    fn evolve_table(
        &self,
        py: Python<'_>,
        name: &str,
        schema: &Bound<'_, PyAny>,
        key: &str,
        vector: Option<&str>,
        metric: &str,
    ) -> PyResult<u64> {
        let (store, wider) = (self.store()?, definition(schema, key, vector, metric)?);
        py.detach(|| store.evolve_table(name, &wider)).map_err(into_python)
    }

    /// Puts rows; durable when it returns their LSN.
    fn put(&self, py: Python<'_>, table: &str, rows: &Bound<'_, PyAny>) -> PyResult<u64> {
        let (store, rows) = (self.store()?, capsule::rows(rows)?);
        py.detach(|| store.put(table, rows)).map_err(into_python)
    }

    /// Removes the rows of `keys`; durable when it returns.
    fn delete(&self, py: Python<'_>, table: &str, keys: &Bound<'_, PyAny>) -> PyResult<u64> {
        let (store, keys) = (self.store()?, values::keys(keys)?);
        py.detach(|| store.commit(vec![(table.to_owned(), Change::Delete(keys))])).map_err(into_python)
    }

    /// Makes `("put", table, rows)` and `("delete", table, keys)` changes together or not at all.
    fn commit(&self, py: Python<'_>, changes: Vec<(String, String, Bound<'_, PyAny>)>) -> PyResult<u64> {
        let store = self.store()?;
        let change = |(kind, table, what): &(String, String, Bound<'_, PyAny>)| {
            let change = match kind.as_str() {
                "put" => Change::Put(capsule::rows(what)?),
                "delete" => Change::Delete(values::keys(what)?),
                other => return Err(invalid(format!("expected a change \"put\" or \"delete\", came {other:?}"))),
            };
            Ok((table.clone(), change))
        };
        let changes = changes.iter().map(change).collect::<PyResult<Vec<_>>>()?;
        py.detach(|| store.commit(changes)).map_err(into_python)
    }

    /// Puts the one row in `row` if the row with `key` has this generation (0: there is none).
    fn compare_and_swap(
        &self,
        py: Python<'_>,
        table: &str,
        key: &Bound<'_, PyAny>,
        generation: u64,
        row: &Bound<'_, PyAny>,
    ) -> PyResult<Option<u64>> {
        let (store, key, row) = (self.store()?, values::key(key)?, capsule::rows(row)?);
        py.detach(|| store.compare_and_swap(table, &key, generation, row)).map_err(into_python)
    }

    /// Takes in what was committed since; returns the LSN now seen.
    fn refresh(&self, py: Python<'_>) -> PyResult<u64> {
        let store = self.store()?;
        py.detach(|| store.refresh()).map_err(into_python)
    }

    /// The tables as they are now (a reader: as of the last refresh).
    fn snapshot(&self) -> PyResult<PySnapshot> {
        self.snapshot_now()
    }

    /// `snapshot().get(…)`.
    fn get(&self, table: &str, key: &Bound<'_, PyAny>) -> PyResult<Option<PyRows>> {
        self.snapshot_now()?.get(table, key)
    }

    /// `snapshot().scan(…)`.
    #[pyo3(signature = (table, filter=None, columns=None))]
    fn scan(
        &self,
        py: Python<'_>,
        table: &str,
        filter: Option<&Bound<'_, PyDict>>,
        columns: Option<Vec<String>>,
    ) -> PyResult<PyRows> {
        self.snapshot_now()?.scan(py, table, filter, columns)
    }

    /// `snapshot().search(…)`.
    #[pyo3(signature = (table, queries, k, r#where=None, columns=None))]
    fn search(
        &self,
        py: Python<'_>,
        table: &str,
        queries: &Bound<'_, PyAny>,
        k: usize,
        r#where: Option<&Bound<'_, PyDict>>,
        columns: Option<Vec<String>>,
    ) -> PyResult<PyRows> {
        self.snapshot_now()?.search(py, table, queries, k, r#where, columns)
    }

    /// Writes the rows that are there into segments and goes on with an empty log.
    fn compact<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let store = self.store()?;
        let compacted = py.detach(|| store.compact()).map_err(into_python)?;
        let report = PyDict::new(py);
        report.set_item("manifest", compacted.manifest)?;
        report.set_item("lsn", compacted.lsn)?;
        report.set_item("rows", compacted.rows)?;
        report.set_item("before", compacted.before)?;
        report.set_item("after", compacted.after)?;
        Ok(report)
    }

    /// Whether more than half of log and segments, and more than 16 MiB, are not rows that are there.
    fn compaction_due(&self, py: Python<'_>) -> PyResult<bool> {
        let store = self.store()?;
        Ok(py.detach(|| store.compaction_due()))
    }

    /// Reads segments and log again and checks them against their checksums.
    fn verify<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let store = self.store()?;
        verified(py, py.detach(|| store.verify()).map_err(into_python)?)
    }

    /// Copies the store into a new directory while others go on; what the copy was found to hold.
    fn backup<'py>(&self, py: Python<'py>, target: PathBuf) -> PyResult<Bound<'py, PyDict>> {
        let store = self.store()?;
        verified(py, py.detach(|| store.backup(&target)).map_err(into_python)?)
    }

    /// Gives up the commits from the first damaged one on, of a store that nobody owns; `None`: nothing is damaged.
    #[staticmethod]
    fn repair(py: Python<'_>, path: PathBuf) -> PyResult<Option<Bound<'_, PyDict>>> {
        let repaired = py.detach(|| perfuse_arrow_storage::repair(&path)).map_err(into_python)?;
        let report = |repaired: Repaired| {
            let report = PyDict::new(py);
            report.set_item("kept", repaired.kept)?;
            report.set_item("acknowledged", repaired.acknowledged)?;
            report.set_item("aside", repaired.aside.map(|path| path.to_string_lossy().into_owned()))?;
            Ok(report)
        };
        repaired.map(report).transpose()
    }

    /// Numbers about the store and its tables.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let store = self.store()?;
        let stats = py.detach(|| store.stats()).map_err(into_python)?;
        let (report, tables) = (PyDict::new(py), PyDict::new(py));
        for (name, numbers) in stats.tables {
            let table = PyDict::new(py);
            table.set_item("rows", numbers.rows)?;
            table.set_item("versions", numbers.versions)?;
            table.set_item("fingerprint", numbers.fingerprint)?;
            table.set_item("schema_version", numbers.schema_version)?;
            tables.set_item(name, table)?;
        }
        report.set_item("path", stats.path.to_string_lossy())?;
        report.set_item("store", stats.store)?;
        report.set_item("epoch", stats.epoch)?;
        report.set_item("lsn", stats.lsn)?;
        report.set_item("manifest", stats.manifest)?;
        report.set_item("segment_bytes", stats.segment_bytes)?;
        report.set_item("log_bytes", stats.log_bytes)?;
        report.set_item("live_bytes", stats.live_bytes)?;
        report.set_item("tables", tables)?;
        Ok(report)
    }
}

/// SHA-256 of a table's canonical definition, as every stored table carries it.
#[pyfunction]
#[pyo3(signature = (schema, key, vector=None, metric="cosine"))]
pub(crate) fn schema_fingerprint(
    schema: &Bound<'_, PyAny>,
    key: &str,
    vector: Option<&str>,
    metric: &str,
) -> PyResult<String> {
    Ok(definition(schema, key, vector, metric)?.fingerprint().to_owned())
}

fn definition(schema: &Bound<'_, PyAny>, key: &str, vector: Option<&str>, metric: &str) -> PyResult<TableDefinition> {
    let metric = named(metric)?;
    let vector = vector.map(|column| (column, metric));
    TableDefinition::new(&capsule::schema(schema)?, key, vector).map_err(into_python)
}

pub(crate) fn named(metric: &str) -> PyResult<Metric> {
    let expected = "expected metric \"cosine\", \"inner_product\" or \"l2\"";
    Metric::named(metric).ok_or_else(|| invalid(format!("{expected}, came {metric:?}")))
}

fn verified(py: Python<'_>, verified: Verified) -> PyResult<Bound<'_, PyDict>> {
    let report = PyDict::new(py);
    report.set_item("segments", verified.segments)?;
    report.set_item("segment_bytes", verified.segment_bytes)?;
    report.set_item("records", verified.records)?;
    report.set_item("bytes", verified.bytes)?;
    report.set_item("lsn", verified.lsn)?;
    Ok(report)
}
