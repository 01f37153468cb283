//! The commit page: how far readers may go, one memory read away.
//!
//! ```text
//!  0  magic "PFSPAGE\0"   8  version u32   12  crc32c of bytes 0..12 and 16..32   16  store id, 16 bytes
//! 32  epoch u64          40  committed LSN u64          48  manifest number u64 (0: none)          4096 bytes in all
//! ```
//! The numbers are little-endian. The owner writes the committed LSN after the log is synced and the manifest number
//! after the manifest is, so the page never runs ahead of them. The page itself is not synced: after a power cut it may
//! be behind, and the newest manifest and its log decide.
#![expect(unsafe_code, reason = "a shared memory mapping, read and written as atomics only")]

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::error::{Error, Result};
use crate::fs::{Fs, create_durably};
use crate::wal::StoreId;

const MAGIC: &[u8; 8] = b"PFSPAGE\0";
const VERSION: u32 = 1;
const SIZE: usize = 4096;
const EPOCH: usize = 32;
const LSN: usize = 40;
const MANIFEST: usize = 48;

/// A mapped commit page.
pub struct Page {
    map: MmapRaw,
    store: StoreId,
}

impl Page {
    /// Creates the page of a store that has none.
    pub(crate) fn create(fs: &dyn Fs, path: &Path, store: StoreId) -> Result<()> {
        let mut bytes = vec![0; SIZE];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&store.0);
        let crc = checksum(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        create_durably(fs, path, |file| file.write_at(&bytes, 0)).map_err(|error| Error::io("create", path, &error))
    }

    /// Maps an existing page.
    pub(crate) fn open(path: &Path, writable: bool) -> Result<Self> {
        let failed = |error: std::io::Error| Error::io("map", path, &error);
        let file = OpenOptions::new().read(true).write(writable).open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let corrupt = |what: String| Error::Corrupt(format!("{}: {what}", path.display()));
        if length != SIZE as u64 {
            return Err(corrupt(format!("expected a commit page of {SIZE} bytes, came {length}")));
        }
        let mut options = MmapOptions::new();
        options.len(SIZE);
        let map = if writable { options.map_raw(&file) } else { options.map_raw_read_only(&file) }.map_err(failed)?;
        let mut fixed = [0; 32];
        // SAFETY: the mapping is SIZE ≥ 32 bytes long, and nobody writes the first 32 after the page was created.
        unsafe { std::ptr::copy_nonoverlapping(map.as_ptr(), fixed.as_mut_ptr(), 32) };
        let word = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        if &fixed[..8] != MAGIC || word(12) != checksum(&fixed) {
            return Err(corrupt("the commit page fails its checksum".into()));
        }
        if word(8) != VERSION {
            return Err(corrupt(format!("expected commit page version {VERSION}, came {}", word(8))));
        }
        let mut store = StoreId::default();
        store.0.copy_from_slice(&fixed[16..32]);
        Ok(Self { map, store })
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the mapping lives as long as `self`, `at` is a multiple of 8 inside it, and every process touches
        // these words as atomics only. Readers map them read-only and only load.
        unsafe { AtomicU64::from_ptr(self.map.as_ptr().add(at).cast_mut().cast()) }
    }

    /// The store the page belongs to.
    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    /// Number of times an owner has opened the store.
    pub fn epoch(&self) -> u64 {
        u64::from_le(self.word(EPOCH).load(Ordering::Acquire))
    }

    /// The last LSN readers may see.
    pub fn lsn(&self) -> u64 {
        u64::from_le(self.word(LSN).load(Ordering::Acquire))
    }

    /// Number of the newest manifest; 0 before there is one.
    pub fn manifest(&self) -> u64 {
        u64::from_le(self.word(MANIFEST).load(Ordering::Acquire))
    }

    /// Sends readers to a manifest; every commit up to its LSN has been published.
    pub(crate) fn publish_manifest(&self, number: u64) {
        self.word(MANIFEST).store(number.to_le(), Ordering::Release);
    }

    pub(crate) fn publish(&self, lsn: u64) {
        self.word(LSN).store(lsn.to_le(), Ordering::Release);
    }

    pub(crate) fn next_epoch(&self) {
        self.word(EPOCH).store((self.epoch() + 1).to_le(), Ordering::Release);
    }
}

fn checksum(page: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&page[..12]), &page[16..32])
}
