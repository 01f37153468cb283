//! One owner at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Locks `LOCK` in the directory of a store, until the file is dropped or the process ends.
pub(crate) fn take_lock(store: &Path) -> Result<File> {
    let path = store.join("LOCK");
    let failed = |error: std::io::Error| Error::io("lock", &path, &error);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            file.read_to_string(&mut owner).map_err(failed)?;
            let owner = if owner.is_empty() { "another process".into() } else { format!("process {}", owner.trim()) };
            return Err(Error::Locked(format!("the store in {} is owned by {owner}", store.display())));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // The number only helps a reader of the message above; a full disk must not keep a store closed.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}
