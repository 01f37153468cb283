//! A reader's side of the log: reads what was committed since the last look.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::codec::{Named, decode};
use crate::error::{Error, Result};
use crate::fs::FsFile;
use crate::wal::{Identity, Scanner};

struct Seen {
    offset: u64,
    lsn: u64,
}

/// How far a reader has come in a log that another process writes.
pub(crate) struct Follower {
    file: Box<dyn FsFile>,
    path: PathBuf,
    identity: Identity,
    seen: Mutex<Seen>,
}

impl Follower {
    pub(crate) fn new(file: Box<dyn FsFile>, path: PathBuf, identity: Identity, offset: u64, lsn: u64) -> Self {
        Self { file, path, identity, seen: Mutex::new(Seen { offset, lsn }) }
    }

    /// Reads the records up to `committed`, hands each to `apply`, and never looks at one behind it.
    pub(crate) fn advance(&self, committed: u64, mut apply: impl FnMut(u64, Vec<Named>) -> Result<()>) -> Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if committed < seen.lsn {
            return Err(Error::Corrupt(format!(
                "{}: the store went back from LSN {} to {committed}; it was replaced by an older copy",
                self.path.display(),
                seen.lsn
            )));
        }
        let mut scanner = Scanner::new(self.file.as_ref(), &self.path, self.identity, seen.offset, seen.lsn + 1);
        while seen.lsn < committed {
            let Some(record) = scanner.next()? else {
                return Err(scanner.missing(committed));
            };
            apply(record.lsn, decode(&record.payload)?)?;
            (seen.offset, seen.lsn) = (scanner.offset, record.lsn);
        }
        Ok(())
    }

    /// Bytes of the log read so far.
    pub(crate) fn length(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).offset
    }
}
