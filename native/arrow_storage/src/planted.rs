//! Mistakes that tests plant, to see whether the proofs notice them. Without the feature `planted-bugs` there are none.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "public for those who plant"))]
pub enum Bug {
    /// A commit is written and acknowledged, and never synced.
    NoSync,
    /// Names of new files are never synced.
    NoDirectorySync,
    /// A commit is acknowledged, and synced with the next one.
    AcknowledgedBeforeSync,
    /// A file gets its name before its bytes are synced.
    NamedBeforeSynced,
    /// Checksums of records are not compared.
    NoChecksum,
    /// A record may have any LSN.
    LsnIgnored,
    /// A damaged record before a whole one is taken for the end of the log.
    BadTailAccepted,
    /// A compaction takes deleted rows with it.
    TombstoneLost,
    /// A reader reads the log to its end.
    ReaderAhead,
    /// What was committed during a compaction is not taken over into the new log.
    BesideLost,
    /// It is taken over, and never synced.
    BesideUnsynced,
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Makes the stores of this thread have `bug` from now on.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Plants the mistake of this thread in the one that calls what comes back.
    pub(crate) fn carried() -> impl FnOnce() + Send {
        let bug = PLANTED.get();
        move || PLANTED.set(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::plant;
#[cfg(feature = "planted-bugs")]
pub(crate) use switch::{carried, planted};

/// Whether the mistake is made.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}

/// There is nothing to carry into another thread.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn carried() -> impl FnOnce() + Send {
    || {}
}
