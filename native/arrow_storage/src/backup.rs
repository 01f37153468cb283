//! A copy of a store as it is at one LSN, made while its owner goes on.

use std::path::Path;

use crate::base::{Base, read_manifest};
use crate::error::{Error, Result};
use crate::fs::{DiskFs, Fs, copy_durably};
use crate::layout::{log_directory, log_path, manifest_directory, manifest_path, segment_directory, segment_path};
use crate::store::{ArrowStorage, Mode, Verified};

impl ArrowStorage {
    /// Copies the store into the directory `target`, which must not be there; gives what the copy was found to hold.
    ///
    /// Owner or reader may do it, and nobody waits. All that was committed when it began is in the copy. Until it is
    /// whole it has the extension `new`.
    pub fn backup(&self, target: &Path) -> Result<Verified> {
        if DiskFs.exists(target).map_err(|error| Error::io("look for", target, &error))? {
            return Err(Error::Invalid(format!("{} is there already; expected a new directory", target.display())));
        }
        let making = target.with_extension("new");
        let copied = self.copy_to(&making).and_then(|()| Self::open(&making, Mode::Owner)?.verify());
        if copied.is_err() {
            let _ = std::fs::remove_dir_all(&making);
            return copied;
        }
        let failed = |error| Error::io("name", target, &error);
        DiskFs.rename(&making, target).map_err(failed)?;
        DiskFs.sync_directory(target.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        copied
    }

    fn copy_to(&self, target: &Path) -> Result<()> {
        loop {
            self.refresh()?;
            let (base, length) = self.extent();
            match self.copy(target, base, length) {
                // Two compactions have taken the files away.
                Err(Error::NotFound(_)) if self.refresh().is_ok() && self.extent().0 != base => {}
                outcome => return outcome,
            }
        }
    }

    /// The manifest comes last: without it the copy is no store.
    fn copy(&self, target: &Path, base: Base, log_bytes: u64) -> Result<()> {
        for directory in [log_directory(target), segment_directory(target), manifest_directory(target)] {
            DiskFs.create_dirs(&directory).map_err(|error| Error::io("create", &directory, &error))?;
        }
        let number = base.manifest;
        if number > 0 {
            let manifest = read_manifest(self.fs.as_ref(), &self.path, number)?;
            for (index, table) in manifest.tables.iter().enumerate() {
                let from = segment_path(&self.path, number, index);
                self.copy_file(&from, &segment_path(target, number, index), table.length)?;
            }
        }
        self.copy_file(&log_path(&self.path, number), &log_path(target, number), log_bytes)?;
        if number > 0 {
            let from = manifest_path(&self.path, number);
            let file = self.fs.open(&from, false).map_err(|error| Error::io("open", &from, &error))?;
            let length = file.length().map_err(|error| Error::io("read", &from, &error))?;
            self.copy_file(&from, &manifest_path(target, number), length)?;
        }
        Ok(())
    }

    /// Copies the first `length` bytes of a file.
    fn copy_file(&self, from: &Path, to: &Path, length: u64) -> Result<()> {
        let source = self.fs.open(from, false).map_err(|error| Error::io("open", from, &error))?;
        copy_durably(&DiskFs, source.as_ref(), to, length).map_err(|error| Error::io("copy", from, &error))
    }
}
