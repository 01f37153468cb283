//! Crash-safe tables of Arrow rows: one owner process writes, any number of processes read.
//!
//! A commit is one record of the write-ahead log, synced to disk before it is acknowledged; then the commit page tells
//! readers how far they may go. Rows are kept in memory with the sequence number (LSN) that wrote and the one that
//! replaced them, so a [`Snapshot`] is a number and costs nothing. [`ArrowStorage::compact`] writes the rows that are
//! there into segments and begins a new log, so that what was replaced or deleted leaves the disk.

mod base;
mod codec;
mod compact;
mod error;
mod filter;
mod follow;
mod fs;
mod layout;
mod lock;
mod manifest;
mod page;
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
pub use page::Page;
pub use schema::{Key, TableDefinition, canonical_schema, fingerprint};
pub use snapshot::{Rows, Snapshot};
pub use store::{ArrowStorage, Mode, Stats, TableStats, Verified};

pub use perfuse_vector_search::Metric;
