//! Compaction: the rows that are there move into segments, the log begins anew, what was replaced or deleted goes.
//!
//! Order: segments, log, manifest, each synced with its name before the next; the name of the manifest is the moment
//! from which the store is made of the new files. A crash before leaves files that nothing names, a crash after leaves
//! files that nothing names any more; the next owner removes both.
//!
//! Nobody waits while the segments are written: they hold the rows as of one LSN, and commits go on into the old log.
//! What they wrote is copied into the new log, the last of it while commits wait for as long as naming a file takes.

use std::sync::PoisonError;

use rustix::process::setpriority_process;

use crate::base::{Log, load};
use crate::codec::decode;
use crate::error::{Error, Result};
use crate::fs::create_durably;
use crate::layout::{log_path, manifest_directory, manifest_path, segment_directory, segment_path, sweep};
use crate::manifest::Manifest;
use crate::planted::{Bug, carried, planted};
use crate::segment;
use crate::snapshot::Snapshot;
use crate::store::{ArrowStorage, Role, Tables};
use crate::wal::{Identity, Scanner};
use crate::writer::Writer;

/// Dead bytes below which a compaction is not due.
const WORTHWHILE: u64 = 16 << 20;
/// Commits in a log up to which it is read quickly by who opens the store: 10,000 of one row take 0.2 s (a Xeon with AMX).
const MANY: u64 = 2_000;
/// Commits that may be left to copy when those that come have to wait.
const FEW: u64 = 16;
/// Bytes after which copied records are written.
const COPIED: usize = 1 << 20;
/// What a compaction adds to its niceness: answers come first where cores are few.
const NICE: i32 = 10;

/// What a compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Number of the manifest it made.
    pub manifest: u64,
    /// The last commit in the segments.
    pub lsn: u64,
    /// Rows in the segments.
    pub rows: u64,
    /// Bytes of log and segments before.
    pub before: u64,
    /// Bytes of log and segments after.
    pub after: u64,
}

/// What a store is about to be made of.
struct Next {
    manifest: Manifest,
    tables: Tables,
    log: Log,
    /// Where the first record that is not copied begins in the log before.
    copied: u64,
}

impl Next {
    /// Takes over the commits up to `committed` from the log before; not synced.
    fn take_over(&mut self, before: &Log, committed: u64) -> Result<()> {
        let mut scanner =
            Scanner::new(before.file.as_ref(), &before.path, before.identity, self.copied, self.log.lsn + 1);
        let mut bytes = Vec::new();
        while self.log.lsn < committed {
            let Some(record) = scanner.next()? else { return Err(scanner.missing(committed)) };
            // Its predecessors are on the disk before the manifest that makes this log count.
            self.log.identity.encode(&mut bytes, record.lsn, record.lsn - 1, &record.payload);
            self.tables.take(record.lsn, decode(&record.payload)?)?;
            self.log.lsn = record.lsn;
            if bytes.len() >= COPIED || record.lsn == committed {
                let failed = |error| Error::io("write", &self.log.path, &error);
                if !planted(Bug::BesideLost) {
                    self.log.file.write_at(&bytes, self.log.length).map_err(failed)?;
                }
                self.log.length += bytes.len() as u64;
                bytes.clear();
            }
        }
        self.log.allocated = self.log.length;
        self.copied = scanner.offset;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        if planted(Bug::BesideUnsynced) {
            return Ok(());
        }
        self.log.file.sync().map_err(|error| Error::io("sync", &self.log.path, &error))
    }
}

impl ArrowStorage {
    /// Writes all rows that are there into segments and goes on with a log of what was committed meanwhile.
    ///
    /// Rows, generations, LSN and order stay. The files before are kept for readers that come late until the next
    /// compaction, so after two of them no byte of what was deleted before the first is in the store's directory.
    pub fn compact(&self) -> Result<Compacted> {
        let Role::Owner { writer, compacting, .. } = &self.role else {
            return Err(Error::Invalid(format!("{} was opened to read; only its owner compacts", self.path.display())));
        };
        let _one = compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let (snapshot, base, copied) = writer.alone(|log| Ok((self.snapshot(), log.base, log.length)))?;
        let number = base.manifest + 1;
        let made = quietly(|| {
            let mut next = self.write_segments(&snapshot, base.manifest, copied)?;
            let before = Log::open(self.fs.as_ref(), &self.path, base, false)?;
            loop {
                let committed = self.tables.lsn();
                next.take_over(&before, committed)?;
                next.sync()?;
                if self.tables.lsn() - committed <= FEW {
                    return Ok(next);
                }
            }
        });
        let done = made.and_then(|next| writer.alone(|log| self.publish(writer, log, next)));
        if done.is_err() && matches!(self.fs.exists(&manifest_path(&self.path, number)), Ok(false)) {
            // What was written only takes room; where it cannot be removed now, the next owner does it.
            let _ = sweep(self.fs.as_ref(), &self.path, base.manifest);
        }
        let done = done?;
        sweep(self.fs.as_ref(), &self.path, number)?;
        Ok(done)
    }

    /// Whether more than half of log and segments, and more than 16 MiB, are not rows that are there; or the log holds more
    /// than 2,000 commits and is more than half as large as the segments, so that a byte is not copied again and again.
    pub fn compaction_due(&self) -> bool {
        let (base, log_bytes) = self.extent();
        if self.tables.lsn().saturating_sub(base.lsn) > MANY && log_bytes > base.bytes / 2 {
            return true;
        }
        let all = base.bytes + log_bytes;
        all > WORTHWHILE && {
            let dead = all.saturating_sub(self.snapshot().live_bytes());
            dead > WORTHWHILE && dead > all / 2
        }
    }

    /// Writes segments and an empty log of the manifest after `newest` and reads the segments back.
    fn write_segments(&self, snapshot: &Snapshot, newest: u64, copied: u64) -> Result<Next> {
        let (fs, number) = (self.fs.as_ref(), newest + 1);
        for directory in [segment_directory(&self.path), manifest_directory(&self.path)] {
            fs.create_dirs(&directory).map_err(|error| Error::io("create", &directory, &error))?;
        }
        fs.sync_directory(&self.path).map_err(|error| Error::io("sync", &self.path, &error))?;
        let mut manifest = Manifest { store: self.id, number, lsn: snapshot.lsn(), tables: Vec::new() };
        for (index, (name, table)) in snapshot.entries().enumerate() {
            let path = segment_path(&self.path, number, index);
            manifest.tables.push(segment::write(fs, &path, name, table, snapshot.lsn())?);
        }
        let path = log_path(&self.path, number);
        let identity = Identity { store: self.id, sequence: number + 1 };
        create_durably(fs, &path, |file| file.write_at(&identity.header(snapshot.lsn() + 1), 0))
            .map_err(|error| Error::io("create", &path, &error))?;
        let (catalog, base) = load(fs, &self.path, &manifest)?;
        for (name, before) in snapshot.entries() {
            if let Some(table) = catalog.get(name) {
                table.make_codes_as(before);
            }
        }
        let log = Log::open(fs, &self.path, base, true)?;
        Ok(Next { tables: Tables::new(catalog, manifest.lsn), manifest, log, copied })
    }

    /// Copies what is left, names the new files in a manifest and goes on with them.
    fn publish(&self, writer: &Writer, log: &mut Log, mut next: Next) -> Result<Compacted> {
        if next.log.lsn < log.lsn {
            next.take_over(log, log.lsn)?;
            next.sync()?;
        }
        let Next { manifest, tables, log: following, .. } = next;
        let path = manifest_path(&self.path, manifest.number);
        let bytes = manifest.encode();
        if let Err(error) = create_durably(self.fs.as_ref(), &path, |file| file.write_at(&bytes, 0)) {
            let error = Error::io("write", &path, &error);
            if matches!(self.fs.exists(&path), Ok(false)) {
                return Err(error);
            }
            // It has its name, but maybe not on the disk: commits would go into a log that the next owner ignores.
            let error = Error::Failed(format!(
                "{error}; which files the store is made of is unknown, so it takes no more until it is reopened"
            ));
            writer.stop(error.clone());
            return Err(error);
        }
        let before = log.base.bytes + log.length;
        *log = following;
        self.tables.replace(&tables);
        self.page.publish_manifest(manifest.number);
        Ok(Compacted {
            manifest: manifest.number,
            lsn: manifest.lsn,
            rows: manifest.tables.iter().map(|table| table.rows).sum(),
            before,
            after: log.base.bytes + log.length,
        })
    }
}

/// Runs `work` in a thread that gives way to others.
fn quietly<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let carry = carried();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("compaction".into()).spawn_scoped(scope, || {
            // Of this thread alone: Linux takes "this process" as the calling thread. Where it is refused, it is not nice.
            let _ = setpriority_process(None, NICE);
            carry();
            work()
        });
        let thread = thread.map_err(|error| Error::Failed(format!("could not start a thread to compact: {error}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
