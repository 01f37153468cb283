use std::io;
use std::path::Path;

/// What a store operation can end in.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The caller asked for something the store does not do.
    #[error("{0}")]
    Invalid(String),
    /// No such store or table.
    #[error("{0}")]
    NotFound(String),
    /// The bytes on disk contradict their checksums or each other.
    #[error("{0}")]
    Corrupt(String),
    /// Another process owns the store.
    #[error("{0}")]
    Locked(String),
    /// The disk is full; nothing acknowledged was lost.
    #[error("{0}")]
    Full(String),
    /// The operating system refused, or the store has stopped writing.
    #[error("{0}")]
    Failed(String),
}

/// Result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An I/O error while `doing` something with `path`.
    pub(crate) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let message = format!("could not {doing} {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(message),
            io::ErrorKind::NotFound => Self::NotFound(message),
            _ => Self::Failed(message),
        }
    }
}
