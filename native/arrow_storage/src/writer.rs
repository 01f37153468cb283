//! The owner's side of the log: group commit, and what happens when the disk does not play along.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::base::{Base, Log};
use crate::codec::Named;
use crate::error::{Error, Result};
use crate::planted::{Bug, planted};
use crate::schema::Key;
use crate::wal::{RECORD, padded};

/// Bytes of one group of commits; more wait for the next sync.
const GROUP: usize = 8 << 20;
/// Bytes from which on a log is extended before it is written: by its own size, at most by `MOST_EXTENDED`.
const EXTEND_FROM: u64 = 16 << 10;
const MOST_EXTENDED: u64 = 1 << 20;

/// What must hold when a commit gets its LSN.
pub(crate) enum Expect {
    /// Nothing.
    Anything,
    /// The row's generation (0: no row).
    Generation { table: String, key: Key, generation: u64 },
    /// No table of that name.
    NewTable(String),
    /// The table's version.
    Version { table: String, version: u32 },
}

/// A commit that waits for its LSN.
pub(crate) struct Request {
    pub(crate) changes: Vec<Named>,
    pub(crate) payload: Vec<u8>,
    pub(crate) expect: Expect,
}

/// How a commit ended: its LSN, or `None` when what it expected does not hold.
pub(crate) type Outcome = Result<Option<u64>>;

/// The tables, seen from the writer.
pub(crate) trait Target {
    /// Whether `expect` holds at the last commit.
    fn holds(&self, expect: &Expect) -> Result<bool>;
    /// Makes commits visible; they are durable.
    fn apply(&self, commits: Vec<(u64, Vec<Named>)>) -> Result<()>;
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(u64, Request)>,
    outcomes: HashMap<u64, Outcome>,
    tickets: u64,
    writing: bool,
    /// Why nothing is written any more.
    stopped: Option<Error>,
}

/// The end of the log.
pub(crate) struct Writer {
    queue: Mutex<Queue>,
    log: Mutex<Log>,
    done: Condvar,
    process: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    pub(crate) fn new(log: Log) -> Self {
        Self { queue: Mutex::default(), log: Mutex::new(log), done: Condvar::new(), process: std::process::id() }
    }

    /// What the log goes on from, and its bytes.
    pub(crate) fn extent(&self) -> (Base, u64) {
        let log = lock(&self.log);
        (log.base, log.length)
    }

    fn check_process(&self) -> Result<()> {
        if std::process::id() == self.process {
            return Ok(());
        }
        Err(Error::Failed("the store was opened before this process was forked; open it again".into()))
    }

    /// Runs `work` on the log while no commit is written; those that come wait.
    pub(crate) fn alone<T>(&self, work: impl FnOnce(&mut Log) -> Result<T>) -> Result<T> {
        self.check_process()?;
        let mut queue = lock(&self.queue);
        while queue.writing {
            queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(error) = &queue.stopped {
            return Err(error.clone());
        }
        queue.writing = true;
        drop(queue);
        let turn = Turn { writer: self };
        let outcome = work(&mut lock(&self.log));
        lock(&self.queue).writing = false;
        std::mem::forget(turn);
        self.done.notify_all();
        outcome
    }

    /// Returns when `request` is on disk and visible. One of the waiting threads writes and syncs for all of them.
    pub(crate) fn commit(&self, target: &dyn Target, request: Request) -> Outcome {
        self.check_process()?;
        let mut queue = lock(&self.queue);
        let ticket = queue.tickets;
        queue.tickets += 1;
        queue.waiting.push_back((ticket, request));
        loop {
            if let Some(outcome) = queue.outcomes.remove(&ticket) {
                return outcome;
            }
            if queue.writing {
                queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let group = next_group(&mut queue.waiting);
            let stopped = queue.stopped.clone();
            queue.writing = true;
            drop(queue);
            let turn = Turn { writer: self };
            let tickets: Vec<u64> = group.iter().map(|(ticket, _)| *ticket).collect();
            let outcomes = match stopped {
                Some(error) => vec![Err(error); tickets.len()],
                None => self.write(target, group.into_iter().map(|(_, request)| request).collect()),
            };
            queue = lock(&self.queue);
            queue.outcomes.extend(tickets.into_iter().zip(outcomes));
            queue.writing = false;
            std::mem::forget(turn);
            self.done.notify_all();
        }
    }

    /// Writes one group. Only its first request may expect something, so what it expects is checked against all
    /// commits before it.
    fn write(&self, target: &dyn Target, group: Vec<Request>) -> Vec<Outcome> {
        let count = group.len();
        if let Some(first) = group.first() {
            match target.holds(&first.expect) {
                Ok(true) => {}
                Ok(false) => return self.write_after(Ok(None), target, group),
                Err(error) => return self.write_after(Err(error), target, group),
            }
        }
        let (identity, first_lsn) = {
            let log = lock(&self.log);
            (log.identity, log.lsn + 1)
        };
        let length = group.iter().map(|request| RECORD + padded(request.payload.len())).sum();
        let (mut bytes, mut commits) = (Vec::with_capacity(length), Vec::with_capacity(count));
        for (lsn, request) in (first_lsn..).zip(group) {
            identity.encode(&mut bytes, lsn, first_lsn - 1, &request.payload);
            commits.push((lsn, request.changes));
        }
        let written = self
            .append(&bytes, count as u64)
            .and_then(|()| target.apply(commits).inspect_err(|error| self.stop(error.clone())));
        match written {
            Ok(()) => (first_lsn..first_lsn + count as u64).map(|lsn| Ok(Some(lsn))).collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    /// Settles the first request of a group and writes the others.
    fn write_after(&self, first: Outcome, target: &dyn Target, mut group: Vec<Request>) -> Vec<Outcome> {
        group.remove(0);
        let mut outcomes = vec![first];
        if !group.is_empty() {
            outcomes.extend(self.write(target, group));
        }
        outcomes
    }

    /// Appends records and syncs them.
    fn append(&self, bytes: &[u8], count: u64) -> Result<()> {
        let mut log = lock(&self.log);
        if planted(Bug::AcknowledgedBeforeSync) {
            let _ = log.file.sync();
        }
        extend(&mut log, bytes.len() as u64);
        if let Err(error) = log.file.write_at(bytes, log.length) {
            let error = Error::io("write", &log.path, &error);
            log.allocated = log.length;
            if let Err(cut) = log.file.set_length(log.length) {
                self.stop(Error::Failed(format!("{error}; then {}", Error::io("cut", &log.path, &cut))));
            }
            return Err(error);
        }
        if planted(Bug::NoSync) || planted(Bug::AcknowledgedBeforeSync) {
            // The commit is only written.
        } else if let Err(error) = log.file.sync() {
            // The kernel may have dropped the pages and would report success next time: nothing may follow.
            let message = format!(
                "{}; whether the last commits are on disk is unknown, so the store takes no more until it is reopened",
                Error::io("sync", &log.path, &error)
            );
            let error = Error::Failed(message);
            self.stop(error.clone());
            return Err(error);
        }
        log.length += bytes.len() as u64;
        log.allocated = log.allocated.max(log.length);
        log.lsn += count;
        Ok(())
    }

    /// Takes no commit any more, for this reason.
    pub(crate) fn stop(&self, error: Error) {
        lock(&self.queue).stopped.get_or_insert(error);
    }
}

/// Makes room for `more` bytes, unless they are many, and some later ones with zeros, which end a log like the end of its file: a sync that
/// finds the file's size unchanged writes the data alone. Where there is no room, the commit may still have enough.
fn extend(log: &mut Log, more: u64) {
    let end = log.length + more;
    if end <= log.allocated || end < EXTEND_FROM || more > MOST_EXTENDED / 16 {
        return;
    }
    let zeros = vec![0; usize::try_from(end.min(MOST_EXTENDED)).unwrap_or_default()];
    if log.file.write_at(&zeros, end).is_ok() {
        log.allocated = end + zeros.len() as u64;
    } else {
        let _ = log.file.set_length(log.length);
        log.allocated = log.length;
    }
}

fn next_group(waiting: &mut VecDeque<(u64, Request)>) -> Vec<(u64, Request)> {
    let mut group = Vec::new();
    let mut size = 0;
    while let Some((_, request)) = waiting.front() {
        if !group.is_empty() && (size > GROUP || !matches!(request.expect, Expect::Anything)) {
            break;
        }
        size += request.payload.len();
        group.extend(waiting.pop_front());
    }
    group
}

/// Held while a thread writes; dropped only when it panics, so that the others do not wait for ever.
struct Turn<'a> {
    writer: &'a Writer,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.writer.stop(Error::Failed("a thread panicked while it wrote the log; reopen the store".into()));
        let mut queue = lock(&self.writer.queue);
        queue.writing = false;
        self.writer.done.notify_all();
    }
}
