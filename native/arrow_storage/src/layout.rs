//! What lies where in the directory of a store, and what of it may go.
//!
//! ```text
//! LOCK                                     held by the owner (flock)
//! commit                                   the commit page
//! manifest/00000000000000000007.manifest   what the store was made of at one LSN
//! seg/00000000000000000007-0000.arrow      the rows of a table at that LSN
//! wal/00000000000000000008.wal             the log of all commits after it
//! *.new                                    being written; means nothing
//! ```
//! Manifest `n` goes with the segments of its number and with log `n + 1`; a store that was never compacted has no
//! manifest and log 1. What belongs to the newest manifest and to the one before stays; all else may go at any time.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::Fs;

const DIGITS: usize = 20;

pub(crate) fn page_path(store: &Path) -> PathBuf {
    store.join("commit")
}

pub(crate) fn log_directory(store: &Path) -> PathBuf {
    store.join("wal")
}

pub(crate) fn manifest_directory(store: &Path) -> PathBuf {
    store.join("manifest")
}

pub(crate) fn segment_directory(store: &Path) -> PathBuf {
    store.join("seg")
}

/// The log of the commits after manifest `number` (0: of all commits).
pub(crate) fn log_path(store: &Path, number: u64) -> PathBuf {
    log_directory(store).join(format!("{:0DIGITS$}.wal", number + 1))
}

pub(crate) fn manifest_path(store: &Path, number: u64) -> PathBuf {
    manifest_directory(store).join(format!("{number:0DIGITS$}.manifest"))
}

/// The segment of the table at `index` in manifest `number`.
pub(crate) fn segment_path(store: &Path, number: u64, index: usize) -> PathBuf {
    segment_directory(store).join(format!("{number:0DIGITS$}-{index:04}.arrow"))
}

/// The number a file's name starts with.
fn number(name: &str) -> Option<u64> {
    name.get(..DIGITS).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|there| there == extension)
}

fn list(fs: &dyn Fs, directory: &Path) -> Result<Vec<String>> {
    fs.list(directory).map_err(|error| Error::io("list", directory, &error))
}

/// Number of the newest manifest; 0 when there is none.
pub(crate) fn newest_manifest(fs: &dyn Fs, store: &Path) -> Result<u64> {
    let names = list(fs, &manifest_directory(store))?;
    let whole = names.iter().filter(|name| has_extension(name, "manifest"));
    Ok(whole.filter_map(|name| number(name)).max().unwrap_or(0))
}

/// Removes all that belongs neither to manifest `newest` nor to the one before it.
pub(crate) fn sweep(fs: &dyn Fs, store: &Path, newest: u64) -> Result<()> {
    let directories = [(log_directory(store), 1), (segment_directory(store), 0), (manifest_directory(store), 0)];
    for (directory, ahead) in directories {
        let mut removed = false;
        for name in list(fs, &directory)? {
            let Some(number) = number(&name) else { continue };
            let kept = newest.saturating_sub(1) + ahead..=newest + ahead;
            if kept.contains(&number) && !has_extension(&name, "new") {
                continue;
            }
            let path = directory.join(&name);
            fs.remove(&path).map_err(|error| Error::io("remove", &path, &error))?;
            removed = true;
        }
        if removed {
            fs.sync_directory(&directory).map_err(|error| Error::io("sync", &directory, &error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::DiskFs;

    #[test]
    fn a_sweep_keeps_the_last_two_manifests_with_their_files_and_what_is_not_of_the_store() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = directory.path();
        for made in [log_directory(store), manifest_directory(store), segment_directory(store)] {
            std::fs::create_dir(made).expect("new");
        }
        let all = |number| [log_path(store, number), manifest_path(store, number), segment_path(store, number, 3)];
        let (kept, goes) = ([all(7), all(8)].concat(), [all(6), all(9)].concat());
        let stale: Vec<PathBuf> = kept.iter().map(|path| path.with_extension("new")).collect();
        let foreign = log_directory(store).join("note.txt");
        for path in kept.iter().chain(&goes).chain(&stale).chain([&foreign]) {
            std::fs::write(path, b"").expect("written");
        }
        assert_eq!(newest_manifest(&DiskFs, store), Ok(9));
        sweep(&DiskFs, store, 8).expect("swept");
        assert!(kept.iter().chain([&foreign]).all(|path| path.exists()));
        assert!(!goes.iter().chain(&stale).any(|path| path.exists()));
        assert_eq!(newest_manifest(&DiskFs, store), Ok(8));
    }
}
