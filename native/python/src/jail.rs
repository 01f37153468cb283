//! `perfuse._native.confine` and `jail_support`: the jail of `perfuse.sandbox`.

use std::path::PathBuf;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Confines the calling process for good; see docs/explanation/sandbox.md.
///
/// Returns what is in force: `landlock_abi`, `uid`, `threads`. `OSError` names the step that failed, and
/// the process must then exit.
#[pyfunction]
#[pyo3(signature = (*, readable, hidden, writable, memory_bytes, cpu_seconds, file_bytes, open_files, threads, keep, parent, programs=vec![], processes=0))]
#[expect(clippy::too_many_arguments, reason = "keyword-only in Python, one for each field of the policy")]
pub(crate) fn confine(
    py: Python<'_>,
    readable: Vec<PathBuf>,
    hidden: Vec<PathBuf>,
    writable: Option<PathBuf>,
    memory_bytes: u64,
    cpu_seconds: u64,
    file_bytes: u64,
    open_files: u64,
    threads: u64,
    keep: Vec<i32>,
    parent: i32,
    programs: Vec<PathBuf>,
    processes: u64,
) -> PyResult<Py<PyDict>> {
    let policy = jail::Policy {
        readable,
        hidden,
        writable,
        programs,
        processes,
        memory_bytes,
        cpu_seconds,
        file_bytes,
        open_files,
        threads,
        keep,
        parent,
    };
    let report = jail::confine(&policy).map_err(|error| PyOSError::new_err(error.to_string()))?;
    let facts = PyDict::new(py);
    facts.set_item("landlock_abi", report.landlock_abi)?;
    facts.set_item("uid", report.uid)?;
    facts.set_item("threads", report.threads)?;
    Ok(facts.unbind())
}

/// The Landlock ABI of this kernel (`None`: absent) and whether it takes seccomp filters.
#[pyfunction]
pub(crate) fn jail_support() -> (Option<u32>, bool) {
    let support = jail::support();
    (support.landlock_abi, support.seccomp)
}
