//! Compaction: the rows that are there move into segments, the log begins anew, what was replaced or deleted goes.
//!
//! Order: segments, log, manifest, each synced with its name before the next; the name of the manifest is the moment
//! from which the store is made of the new files. A crash before leaves files that nothing names, a crash after leaves
//! files that nothing names any more; the next owner removes both. Commits wait meanwhile, readers do not.

use crate::base::{Log, load};
use crate::error::{Error, Result};
use crate::fs::create_durably;
use crate::layout::{log_path, manifest_directory, manifest_path, segment_directory, segment_path, sweep};
use crate::manifest::Manifest;
use crate::segment;
use crate::snapshot::Catalog;
use crate::store::{ArrowStorage, Role};
use crate::wal::{HEADER, Identity};
use crate::writer::Writer;

/// Dead bytes below which a compaction is not due.
const WORTHWHILE: u64 = 16 << 20;

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

impl ArrowStorage {
    /// Writes all rows that are there into segments and goes on with an empty log.
    ///
    /// Rows, generations, LSN and order stay. The files before are kept for readers that come late until the next
    /// compaction, so after two of them no byte of what was deleted before the first is in the store's directory.
    pub fn compact(&self) -> Result<Compacted> {
        let Role::Owner { writer, .. } = &self.role else {
            return Err(Error::Invalid(format!("{} was opened to read; only its owner compacts", self.path.display())));
        };
        writer.alone(|log| {
            let before = log.base.bytes + log.length;
            let made = match self.write_segments(log) {
                Ok(made) => made,
                Err(error) => {
                    // What was written only takes room; where it cannot be removed now, the next owner does it.
                    let _ = sweep(self.fs.as_ref(), &self.path, log.base.manifest);
                    return Err(error);
                }
            };
            self.publish(writer, log, made, before)
        })
    }

    /// Whether more than half of log and segments, and more than 16 MiB, are not rows that are there.
    pub fn compaction_due(&self) -> bool {
        let (base, log_bytes) = self.extent();
        let all = base.bytes + log_bytes;
        all > WORTHWHILE && {
            let dead = all.saturating_sub(self.snapshot().live_bytes());
            dead > WORTHWHILE && dead > all / 2
        }
    }

    /// Writes segments and log of the next manifest and reads the segments back.
    fn write_segments(&self, log: &Log) -> Result<(Manifest, Catalog, Log)> {
        let (fs, number) = (self.fs.as_ref(), log.base.manifest + 1);
        for directory in [segment_directory(&self.path), manifest_directory(&self.path)] {
            fs.create_dirs(&directory).map_err(|error| Error::io("create", &directory, &error))?;
        }
        fs.sync_directory(&self.path).map_err(|error| Error::io("sync", &self.path, &error))?;
        let snapshot = self.snapshot();
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
        Ok((manifest, catalog, Log::open(fs, &self.path, base, true)?))
    }

    /// Names the new files in a manifest and goes on with them.
    fn publish(
        &self,
        writer: &Writer,
        log: &mut Log,
        (manifest, catalog, next): (Manifest, Catalog, Log),
        before: u64,
    ) -> Result<Compacted> {
        let path = manifest_path(&self.path, manifest.number);
        let bytes = manifest.encode();
        if let Err(error) = create_durably(self.fs.as_ref(), &path, |file| file.write_at(&bytes, 0)) {
            let error = Error::io("write", &path, &error);
            if matches!(self.fs.exists(&path), Ok(false)) {
                let _ = sweep(self.fs.as_ref(), &self.path, log.base.manifest);
                return Err(error);
            }
            // It has its name, but maybe not on the disk: commits would go into a log that the next owner ignores.
            let error = Error::Failed(format!(
                "{error}; which files the store is made of is unknown, so it takes no more until it is reopened"
            ));
            writer.stop(error.clone());
            return Err(error);
        }
        *log = next;
        self.tables.replace(catalog, manifest.lsn);
        self.page.publish_manifest(manifest.number);
        sweep(self.fs.as_ref(), &self.path, manifest.number)?;
        Ok(Compacted {
            manifest: manifest.number,
            lsn: manifest.lsn,
            rows: manifest.tables.iter().map(|table| table.rows).sum(),
            before,
            after: log.base.bytes + HEADER as u64,
        })
    }
}
