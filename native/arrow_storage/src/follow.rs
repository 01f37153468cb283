//! A reader's side of the log: reads what was committed since the last look.

use crate::base::Log;
use crate::codec::{Named, decode};
use crate::error::{Error, Result};
use crate::planted::{Bug, planted};

impl Log {
    /// Reads the records up to `committed`, hands each to `apply`, and never looks at one behind it.
    pub(crate) fn advance(
        &mut self,
        committed: u64,
        mut apply: impl FnMut(u64, Vec<Named>) -> Result<()>,
    ) -> Result<()> {
        // After a power cut the page may be behind the manifest, whose commits are on the disk.
        let committed = committed.max(self.base.lsn);
        if committed < self.lsn {
            return Err(Error::Corrupt(format!(
                "{}: the store went back from LSN {} to {committed}; it was replaced by an older copy",
                self.path.display(),
                self.lsn
            )));
        }
        let (mut length, mut lsn) = (self.length, self.lsn);
        let mut scanner = self.scanner();
        let outcome = loop {
            if lsn >= committed && !planted(Bug::ReaderAhead) {
                break Ok(());
            }
            let applied = match scanner.next() {
                Ok(Some(record)) => decode(&record.payload).and_then(|changes| apply(record.lsn, changes)),
                Ok(None) if planted(Bug::ReaderAhead) => break Ok(()),
                Ok(None) => Err(scanner.missing(committed)),
                Err(error) => Err(error),
            };
            if applied.is_err() {
                break applied;
            }
            (length, lsn) = (scanner.offset, lsn + 1);
        };
        (self.length, self.lsn) = (length, lsn);
        outcome
    }
}
