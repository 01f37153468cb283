use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, RecordBatch, UInt32Array, UInt64Array};
use perfuse_arrow_storage::{Metric, Rows};
use perfuse_vector_search::{Block, Codes, nearest};
use pyo3::prelude::*;

use crate::error::invalid;
use crate::rows::PyRows;
use crate::storage::named;
use crate::values;

/// Exact nearest vectors among a fixed set in memory.
#[pyclass(frozen, name = "VectorSearch", module = "perfuse._native")]
pub(crate) struct PyVectorSearch {
    vectors: Vec<f32>,
    lengths: Vec<f32>,
    codes: Option<Codes>,
    width: usize,
    metric: Metric,
}

#[pymethods]
impl PyVectorSearch {
    #[new]
    #[pyo3(signature = (vectors, metric="cosine"))]
    fn new(py: Python<'_>, vectors: &Bound<'_, PyAny>, metric: &str) -> PyResult<Self> {
        let metric = named(metric)?;
        let (vectors, width) = values::vectors(vectors)?;
        let known = py.detach(|| {
            let rows = vectors.chunks_exact(width).enumerate();
            let lengths = rows
                .map(|(row, vector)| metric.length(vector).map_err(|problem| format!("vector {row} {problem}")))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((lengths, Codes::of(width, &vectors)))
        });
        let (lengths, codes) = known.map_err(|error: String| invalid(error))?;
        Ok(Self { vectors, lengths, codes, width, metric })
    }

    fn __len__(&self) -> usize {
        self.lengths.len()
    }

    /// The `k` nearest vectors of each query, best first: columns `_query`, `row`, `_score`.
    #[pyo3(signature = (queries, k, threads=1))]
    fn search(&self, py: Python<'_>, queries: &Bound<'_, PyAny>, k: usize, threads: usize) -> PyResult<PyRows> {
        let (queries, width) = values::vectors(queries)?;
        if width != self.width {
            return Err(invalid(format!("queries: expected {} floats each, came {width}", self.width)));
        }
        let codes = self.codes.as_ref();
        let block = Block { vectors: &self.vectors, lengths: &self.lengths, codes, first: 0, alive: None };
        let found = py
            .detach(|| nearest(self.metric, width, &queries, k, [block], threads))
            .map_err(|error| invalid(format!("queries: {error}")))?;
        let hits = || (0_u32..).zip(&found).flat_map(|(query, hits)| hits.iter().map(move |hit| (query, hit)));
        let columns: [(&str, ArrayRef); 3] = [
            ("_query", Arc::new(hits().map(|(query, _)| query).collect::<UInt32Array>())),
            ("row", Arc::new(hits().map(|(_, hit)| hit.row).collect::<UInt64Array>())),
            ("_score", Arc::new(hits().map(|(_, hit)| hit.score).collect::<Float32Array>())),
        ];
        let batch = RecordBatch::try_from_iter(columns).map_err(|error| invalid(error.to_string()))?;
        Ok(PyRows(Rows { schema: batch.schema(), batches: vec![batch] }))
    }
}
