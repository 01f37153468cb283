//! The file operations a store needs, as a trait: tests put a file system that fails behind it.
#![expect(unsafe_code, reason = "a mapping of files that nobody changes any more")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use arrow_buffer::{Buffer, MutableBuffer};
use memmap2::MmapOptions;

use crate::planted::{Bug, planted};

/// Bytes copied at once.
const WINDOW: usize = 1 << 20;

/// Files and directories.
pub trait Fs: Send + Sync {
    /// Creates a directory and its parents, durable on return.
    fn create_dirs(&self, path: &Path) -> io::Result<()>;
    /// Whether a file is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Opens an existing file.
    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn FsFile>>;
    /// Creates an empty file, in place of any that is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// Gives a file another name, in place of any that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory; none when it is missing.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Returns when every name made, changed or removed in the directory is on the disk.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// An open file.
pub trait FsFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// The first `length` bytes of a file that nobody changes any more, where they can be mapped without a copy.
    fn map(&self, length: usize) -> io::Result<Buffer> {
        let mut bytes = MutableBuffer::from_len_zeroed(length);
        if self.read_at(bytes.as_slice_mut(), 0)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes.into())
    }
    /// Writes all bytes at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Cuts or extends the file.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Returns when every byte written is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFs;

impl Fs for DiskFs {
    fn create_dirs(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_dirs(parent)?;
        }
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.sync_directory(parent(path)),
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(writable).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        match std::fs::read_dir(directory) {
            Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}

/// Creates a file that `write` fills: whole or not at all under its name, and durable on return.
pub(crate) fn create_durably<T>(
    fs: &dyn Fs,
    path: &Path,
    write: impl FnOnce(&dyn FsFile) -> io::Result<T>,
) -> io::Result<T> {
    let temporary = path.with_extension("new");
    let file = fs.create(&temporary)?;
    let written = write(file.as_ref())?;
    if planted(Bug::NamedBeforeSynced) {
        fs.rename(&temporary, path)?;
        fs.sync_directory(parent(path))?;
        file.sync()?;
        return Ok(written);
    }
    file.sync()?;
    fs.rename(&temporary, path)?;
    if !planted(Bug::NoDirectorySync) {
        fs.sync_directory(parent(path))?;
    }
    Ok(written)
}

/// Copies the first `length` bytes of a file to `to`, as [`create_durably`] does.
pub(crate) fn copy_durably(fs: &dyn Fs, source: &dyn FsFile, to: &Path, length: u64) -> io::Result<()> {
    create_durably(fs, to, |file| {
        let (mut at, mut window) = (0, vec![0; WINDOW]);
        while at < length {
            let wanted = usize::try_from(length - at).unwrap_or(WINDOW).min(WINDOW);
            let count = source.read_at(&mut window[..wanted], at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_at(&window[..count], at)?;
            at += count as u64;
        }
        Ok(())
    })
}

/// The directory a file is in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl FsFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn map(&self, length: usize) -> io::Result<Buffer> {
        if self.length()? < length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: a segment that has its name is never written or cut, only removed, and then its bytes stay mapped.
        let map = unsafe { MmapOptions::new().len(length).map(self)? };
        let start = NonNull::from(&map[..]).cast();
        // SAFETY: the mapping is `length` bytes long, is not moved with its handle, and lives as long as the buffer.
        Ok(unsafe { Buffer::from_custom_allocation(start, length, Arc::new(map)) })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
