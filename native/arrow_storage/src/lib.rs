//! Crash-safe tables of Arrow rows: one owner process writes, any number of processes read.
//!
//! A commit is one record of the write-ahead log, synced to disk before it is acknowledged; then the commit page tells
//! readers how far they may go. Rows are kept in memory with the sequence number (LSN) that wrote and the one that
//! replaced them, so a [`Snapshot`] is a number and costs nothing. [`ArrowStorage::compact`] writes the rows that are
//! there into segments and begins a new log, so that what was replaced or deleted leaves the disk.

mod backup;
mod base;
mod codec;
mod compact;
mod error;
mod filter;
mod follow;
mod fs;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod import;
mod ipc;
mod layout;
mod lock;
mod manifest;
mod page;
mod planted;
mod repair;
mod schema;
mod segment;
mod snapshot;
mod store;
mod table;
mod wal;
mod writer;

pub use codec::Change;
pub use compact::Compacted;
pub use error::{Error, Result};
pub use filter::{Scalar, Where};
pub use fs::{DiskFs, Fs, FsFile};
pub use import::{import, import_stream, import_type};
pub use page::Page;
#[cfg(feature = "planted-bugs")]
pub use planted::{Bug, plant};
pub use repair::{Repaired, repair};
pub use schema::{Key, TableDefinition, canonical_schema, fingerprint};
pub use snapshot::{Rows, Snapshot};
pub use store::{ArrowStorage, Mode, Stats, TableStats, Verified};

pub use perfuse_vector_search::Metric;
