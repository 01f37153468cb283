//! Giving up what cannot be read, on somebody's word: a damaged store is otherwise refused.

use std::path::{Path, PathBuf};

use crate::base::open_newest;
use crate::codec::decode;
use crate::error::{Error, Result};
use crate::fs::{DiskFs, Fs, copy_durably};
use crate::layout::{log_path, newest_manifest, page_path};
use crate::lock::take_lock;
use crate::page::Page;
use crate::store::{ArrowStorage, Mode};

/// What a repair has given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The last commit that is left.
    pub kept: u64,
    /// The last commit that had been acknowledged, as far as that is known.
    pub acknowledged: u64,
    /// The log as it was, if it was cut.
    pub aside: Option<PathBuf>,
}

/// Cuts the log of the store in `path` before its first damaged record and makes the commit page anew; the log as it was
/// stays beside it. `None`: nothing is damaged and nothing was done.
///
/// Every commit from the damaged one on is given up, because later ones may rest on it. Damage of the manifest or of a
/// segment cannot be repaired.
pub fn repair(path: &Path) -> Result<Option<Repaired>> {
    let fs = DiskFs;
    let page_path = page_path(path);
    let exists = |path: &Path| fs.exists(path).map_err(|error| Error::io("look for", path, &error));
    let has_page = exists(&page_path)?;
    if !has_page && newest_manifest(&fs, path)? == 0 && !exists(&log_path(path, 0))? {
        return Err(Error::NotFound(format!("there is no store in {}", path.display())));
    }
    let lock = take_lock(path)?;
    let page = if has_page { Page::open(&page_path, true).ok() } else { None };
    let (published, store) = page.as_ref().map_or((0, None), |page| (page.manifest(), Some(page.store())));
    let (_, log) = open_newest(&fs, path, published, store, true)?;
    let mut scanner = log.scanner();
    let (mut length, mut kept) = (scanner.offset, log.lsn);
    while let Some(record) = scanner.next()? {
        if decode(&record.payload).is_err() {
            break;
        }
        (length, kept) = (scanner.offset, record.lsn);
    }
    let acknowledged = page.as_ref().map_or(kept, |page| page.lsn().max(kept));
    let cut = acknowledged > kept || scanner.next_lsn - 1 > kept || scanner.check_tail().is_err();
    if !cut && page.is_some() == has_page {
        return Ok(None);
    }
    let aside = cut.then(|| log.path.with_extension("damaged"));
    if let Some(aside) = &aside {
        let failed = |error| Error::io("keep", aside, &error);
        let whole = log.file.length().map_err(failed)?;
        copy_durably(&fs, log.file.as_ref(), aside, whole).map_err(failed)?;
        let failed = |error| Error::io("cut", &log.path, &error);
        log.file.set_length(length).map_err(failed)?;
        log.file.sync().map_err(failed)?;
    }
    if has_page {
        let failed = |error| Error::io("remove", &page_path, &error);
        fs.remove(&page_path).map_err(failed)?;
        fs.sync_directory(path).map_err(failed)?;
    }
    drop(lock);
    ArrowStorage::open(path, Mode::Owner)?; // makes the page, without which readers find no store
    Ok(Some(Repaired { kept, acknowledged, aside }))
}
