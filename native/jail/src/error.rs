use std::io;

use thiserror::Error;

/// Why a process could not be confined. The caller must not run untrusted code after any of these.
#[derive(Debug, Error)]
pub enum JailError {
    /// Landlock and the uid are set per thread, so other threads would stay free.
    #[error("confine needs a process with one thread; this one has {0}")]
    Threads(usize),
    /// The parent died before its death signal was armed.
    #[error("expected parent {expected}, found {found}: the parent is gone")]
    Orphaned {
        /// Pid that the policy names.
        expected: i32,
        /// Pid of the present parent.
        found: i32,
    },
    /// A system call failed.
    #[error("{step}: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel lacks a layer.
    #[error("this kernel does not enforce {0}")]
    NotEnforced(&'static str),
    /// Landlock refused the rules.
    #[error("Landlock: {0}")]
    Landlock(String),
    /// The filter could not be built or installed.
    #[error("seccomp: {0}")]
    Seccomp(String),
    /// Everything was installed and a forbidden call still succeeded.
    #[error("the jail leaks: {0} succeeded after confinement")]
    Leaks(&'static str),
}
