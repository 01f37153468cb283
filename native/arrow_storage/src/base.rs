//! Opening what the newest manifest names: the tables of its segments and the log behind them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{Fs, FsFile};
use crate::layout::{log_path, manifest_path, newest_manifest, page_path, segment_path};
use crate::manifest::Manifest;
use crate::segment;
use crate::snapshot::Catalog;
use crate::wal::{HEADER, Identity, Scanner, StoreId, read_header};

/// An open log, what it goes on from, and how far it is known.
pub(crate) struct Log {
    pub(crate) file: Box<dyn FsFile>,
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) base: Base,
    /// Bytes up to the last record known.
    pub(crate) length: u64,
    /// Bytes of the file, as far as its owner has extended it with zeros.
    pub(crate) allocated: u64,
    /// LSN of the last record known.
    pub(crate) lsn: u64,
}

/// What a log goes on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base {
    /// Number of the manifest; 0 when there is none.
    pub(crate) manifest: u64,
    /// The last commit in its segments.
    pub(crate) lsn: u64,
    pub(crate) segments: u64,
    /// Bytes of its segments.
    pub(crate) bytes: u64,
}

impl Log {
    /// Opens the log that goes on from `base`.
    pub(crate) fn open(fs: &dyn Fs, store: &Path, base: Base, writable: bool) -> Result<Self> {
        let path = log_path(store, base.manifest);
        let file = fs.open(&path, writable).map_err(|error| Error::io("open", &path, &error))?;
        let (identity, first_lsn) = read_header(file.as_ref(), &path)?;
        if (identity.sequence, first_lsn) != (base.manifest + 1, base.lsn + 1) {
            return Err(Error::Corrupt(format!(
                "{}: expected log {} from LSN {}, came log {} from LSN {first_lsn}; restore the store from a copy",
                path.display(),
                base.manifest + 1,
                base.lsn + 1,
                identity.sequence,
            )));
        }
        Ok(Self { file, path, identity, base, length: HEADER as u64, allocated: HEADER as u64, lsn: base.lsn })
    }

    /// Reads the records behind the last one known.
    pub(crate) fn scanner(&self) -> Scanner<'_> {
        Scanner::new(self.file.as_ref(), &self.path, self.identity, self.length, self.lsn + 1)
    }
}

/// The tables of a manifest's segments, and what it is for the log.
pub(crate) fn load(fs: &dyn Fs, store: &Path, manifest: &Manifest) -> Result<(Catalog, Base)> {
    let mut catalog = Catalog::new();
    let segments = manifest.tables.len() as u64;
    let mut base = Base { manifest: manifest.number, lsn: manifest.lsn, segments, bytes: 0 };
    for (index, entry) in manifest.tables.iter().enumerate() {
        let path = segment_path(store, manifest.number, index);
        let file = fs.open(&path, false).map_err(|error| Error::io("open", &path, &error))?;
        catalog.insert(entry.name.clone(), Arc::new(segment::read(file.as_ref(), &path, entry)?));
        base.bytes += entry.length;
    }
    Ok((catalog, base))
}

/// Manifest `number` of a store.
pub(crate) fn read_manifest(fs: &dyn Fs, store: &Path, number: u64) -> Result<Manifest> {
    let path = manifest_path(store, number);
    let failed = |error| Error::io("read", &path, &error);
    let file = fs.open(&path, false).map_err(failed)?;
    let length = file.length().map_err(failed)?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let count = file.read_at(&mut bytes, 0).map_err(failed)?;
    let manifest = Manifest::decode(&bytes[..count], &path)?;
    if manifest.number != number {
        return Err(Error::Corrupt(format!("{}: it says that it is manifest {}", path.display(), manifest.number)));
    }
    Ok(manifest)
}

fn open_numbered(fs: &dyn Fs, store: &Path, number: u64, writable: bool) -> Result<(Catalog, Log)> {
    if number == 0 {
        return Ok((Catalog::new(), Log::open(fs, store, Base::default(), writable)?));
    }
    let manifest = read_manifest(fs, store, number)?;
    let (catalog, base) = load(fs, store, &manifest)?;
    let log = Log::open(fs, store, base, writable)?;
    if log.identity.store != manifest.store {
        return Err(belongs_elsewhere(&log.path, &manifest_path(store, number)));
    }
    Ok((catalog, log))
}

/// Two files of different stores.
pub(crate) fn belongs_elsewhere(path: &Path, than: &Path) -> Error {
    Error::Corrupt(format!("{} belongs to another store than {}", path.display(), than.display()))
}

/// Opens the newest manifest, at least `published`, and its log; `store_id` as the commit page says, where there is one.
///
/// An owner that compacts twice meanwhile removes files under a reader's hands; then there is a newer manifest.
pub(crate) fn open_newest(
    fs: &dyn Fs,
    store: &Path,
    published: u64,
    store_id: Option<StoreId>,
    writable: bool,
) -> Result<(Catalog, Log)> {
    let newest = || Ok(newest_manifest(fs, store)?.max(published));
    let mut number = newest()?;
    loop {
        match open_numbered(fs, store, number, writable) {
            Err(Error::NotFound(message)) => {
                let now = newest()?;
                if now == number {
                    return Err(missing(store, number, store_id.is_some(), &message));
                }
                number = now;
            }
            Ok((_, log)) if store_id.is_some_and(|id| id != log.identity.store) => {
                return Err(belongs_elsewhere(&page_path(store), &log.path));
            }
            outcome => return outcome,
        }
    }
}

/// A file that somebody took away, or no store at all.
fn missing(store: &Path, number: u64, has_page: bool, message: &str) -> Error {
    if number > 0 {
        return Error::Corrupt(format!(
            "{message}; it belongs to manifest {number} of the store; restore the store from a copy"
        ));
    }
    if has_page {
        return Error::Corrupt(format!(
            "{} is missing, but {} says that there was a store; restore the store from a copy",
            log_path(store, 0).display(),
            page_path(store).display()
        ));
    }
    Error::NotFound(format!("there is no store in {}; its owner creates it", store.display()))
}
