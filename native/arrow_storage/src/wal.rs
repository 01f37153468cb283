//! The write-ahead log. All numbers are little-endian.
//!
//! ```text
//! header   0 magic "PFUSEWAL"   8 version u32   12 zero u32   16 store id   32 sequence u64   40 first LSN u64
//!         48 crc32c of bytes 0..48   52 zero, to 64
//! record   0 length of the payload u32   4 kind u8, three zeros   8 LSN u64   16 durable LSN u64
//!         24 crc32c u32   28 zero u32   32 payload, zero-padded to a multiple of 8
//! ```
//! A record's checksum covers store id, sequence, its first 24 bytes and the padded payload, so a record of another
//! store or file never passes. LSNs are dense. *Durable LSN* is the last one known to be on disk when the record was
//! written: a bad record with LSN b before a good one whose durable LSN is ≥ b had been acknowledged, so the file is
//! damaged; otherwise both are unsynced leftovers of a crash, which nobody was promised.

use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::FsFile;
use crate::planted::{Bug, planted};

/// Random identity of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreId(pub(crate) [u8; 16]);

/// The only kind so far: changes of tables that take effect together.
const COMMIT: u8 = 1;
const MAGIC: &[u8; 8] = b"PFUSEWAL";
const VERSION: u32 = 1;
/// Bytes before the first record.
pub(crate) const HEADER: usize = 64;
/// Bytes before a payload.
pub(crate) const RECORD: usize = 32;
/// Largest payload.
pub(crate) const LARGEST: usize = 1 << 30;
/// Largest LSN or number of a file that is read; what follows it can still be counted.
pub(crate) const LAST: u64 = 1 << 62;
const WINDOW: usize = 1 << 20;

/// What a record's checksum starts from.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    pub(crate) sequence: u64,
}

impl Identity {
    fn checksum(self, head: &[u8], body: &[u8]) -> u32 {
        let seed = crc32c::crc32c_append(crc32c::crc32c(&self.store.0), &self.sequence.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(seed, &head[..24]), body)
    }

    /// The file header of this log.
    pub(crate) fn header(self, first_lsn: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store.0);
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&first_lsn.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..48]);
        bytes[48..52].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Appends a record to `out`.
    pub(crate) fn encode(self, out: &mut Vec<u8>, lsn: u64, durable: u64, payload: &[u8]) {
        let start = out.len();
        out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&[COMMIT, 0, 0, 0]);
        out.extend_from_slice(&lsn.to_le_bytes());
        out.extend_from_slice(&durable.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(payload);
        out.resize(start + RECORD + padded(payload.len()), 0);
        let crc = self.checksum(&out[start..start + RECORD], &out[start + RECORD..]);
        out[start + 24..start + 28].copy_from_slice(&crc.to_le_bytes());
    }
}

/// `length` rounded up to a multiple of 8.
pub(crate) fn padded(length: usize) -> usize {
    length.next_multiple_of(8)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Reads the file header: identity and first LSN.
pub(crate) fn read_header(file: &dyn FsFile, path: &Path) -> Result<(Identity, u64)> {
    let mut bytes = [0; HEADER];
    let count = file.read_at(&mut bytes, 0).map_err(|error| Error::io("read", path, &error))?;
    let corrupt = |what: String| Err(Error::Corrupt(format!("{}: {what}", path.display())));
    if count < HEADER || &bytes[..8] != MAGIC || u32_at(&bytes, 48) != crc32c::crc32c(&bytes[..48]) {
        return corrupt("the log's header fails its checksum".into());
    }
    if u32_at(&bytes, 8) != VERSION {
        return corrupt(format!("expected log version {VERSION}, came {}", u32_at(&bytes, 8)));
    }
    let (sequence, first_lsn) = (u64_at(&bytes, 32), u64_at(&bytes, 40));
    if !(1..=LAST).contains(&sequence) || !(1..=LAST).contains(&first_lsn) {
        return corrupt("the log's header is odd, though its checksum holds".into());
    }
    let mut store = StoreId::default();
    store.0.copy_from_slice(&bytes[16..32]);
    Ok((Identity { store, sequence }, first_lsn))
}

/// A record that passed its checksum.
pub(crate) struct Record {
    pub(crate) lsn: u64,
    durable: u64,
    pub(crate) payload: Vec<u8>,
}

/// Reads records in order, through a window of 1 MiB.
pub(crate) struct Scanner<'a> {
    file: &'a dyn FsFile,
    path: &'a Path,
    identity: Identity,
    window: Vec<u8>,
    window_start: u64,
    /// Where the next record starts.
    pub(crate) offset: u64,
    /// The LSN it must have.
    pub(crate) next_lsn: u64,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(
        file: &'a dyn FsFile,
        path: &'a Path,
        identity: Identity,
        offset: u64,
        next_lsn: u64,
    ) -> Scanner<'a> {
        Scanner { file, path, identity, window: Vec::new(), window_start: 0, offset, next_lsn }
    }

    /// The next record; `None` at the first that is missing, torn or out of order.
    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        let Some(record) = self.at(self.offset, self.next_lsn..=self.next_lsn)? else { return Ok(None) };
        self.offset += (RECORD + padded(record.payload.len())) as u64;
        self.next_lsn += 1;
        Ok(Some(record))
    }

    /// Refuses a log in which a record that was on disk is bad, looking behind the first invalid one.
    pub(crate) fn check_tail(&mut self) -> Result<()> {
        if planted(Bug::BadTailAccepted) {
            return Ok(());
        }
        let end = self.file.length().map_err(|error| Error::io("read", self.path, &error))?;
        let mut offset = self.offset + 8;
        while offset + RECORD as u64 <= end {
            if let Some(later) = self.at(offset, self.next_lsn..=self.next_lsn + (end - self.offset) / RECORD as u64)?
                && later.durable >= self.next_lsn
            {
                return Err(Error::Corrupt(format!(
                    "{}: the record of LSN {} at byte {} is damaged, but the later LSN {} at byte {offset} is whole; \
                     restore the store from a copy, or give up these commits with `perfuse store repair`",
                    self.path.display(),
                    self.next_lsn,
                    self.offset,
                    later.lsn,
                )));
            }
            offset += 8;
        }
        Ok(())
    }

    /// Why a record up to the acknowledged `committed` could not be read: the damage, where it can be told.
    pub(crate) fn missing(&mut self, committed: u64) -> Error {
        if let Err(error) = self.check_tail() {
            return error;
        }
        Error::Corrupt(format!(
            "{}: LSN {committed} was acknowledged, but the log is whole only up to LSN {} at byte {}; \
             restore the store from a copy, or give up these commits with `perfuse store repair`",
            self.path.display(),
            self.next_lsn - 1,
            self.offset,
        ))
    }

    fn at(&mut self, offset: u64, lsns: std::ops::RangeInclusive<u64>) -> Result<Option<Record>> {
        let identity = self.identity;
        let Some(head) = self.bytes(offset, RECORD)? else { return Ok(None) };
        let (length, kind, lsn, durable) =
            (u32_at(head, 0) as usize, u32_at(head, 4), u64_at(head, 8), u64_at(head, 16));
        if kind != u32::from(COMMIT) || u32_at(head, 28) != 0 || length > LARGEST {
            return Ok(None);
        }
        if !lsns.contains(&lsn) && !planted(Bug::LsnIgnored) {
            return Ok(None);
        }
        let Some(record) = self.bytes(offset, RECORD + padded(length))? else { return Ok(None) };
        let sound = u32_at(record, 24) == identity.checksum(&record[..RECORD], &record[RECORD..]);
        if !sound && !planted(Bug::NoChecksum) {
            return Ok(None);
        }
        Ok(Some(Record { lsn, durable, payload: record[RECORD..RECORD + length].to_vec() }))
    }

    /// `length` bytes at `offset`, or `None` when the file ends before.
    fn bytes(&mut self, offset: u64, length: usize) -> Result<Option<&[u8]>> {
        let held = self.window_start..self.window_start + self.window.len() as u64;
        if !(held.contains(&offset) && offset + length as u64 <= held.end) {
            let end = self.file.length().map_err(|error| Error::io("read", self.path, &error))?;
            if offset + length as u64 > end {
                return Ok(None);
            }
            let rest = usize::try_from(end - offset).unwrap_or(usize::MAX);
            self.window.resize(length.max(WINDOW).min(rest), 0);
            let count =
                self.file.read_at(&mut self.window, offset).map_err(|error| Error::io("read", self.path, &error))?;
            self.window.truncate(count);
            self.window_start = offset;
            if count < length {
                return Ok(None);
            }
        }
        let start = usize::try_from(offset - self.window_start).expect("inside the window");
        Ok(Some(&self.window[start..start + length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::Memory;

    #[test]
    fn a_log_that_begins_before_1_or_where_counting_ends_is_refused() {
        let read = |sequence, first_lsn| {
            let header = Identity { store: StoreId([7; 16]), sequence }.header(first_lsn);
            read_header(&Memory(&header), Path::new("l")).map(|(_, first_lsn)| first_lsn)
        };
        assert_eq!(read(1, LAST), Ok(LAST));
        let odd = Error::Corrupt("l: the log's header is odd, though its checksum holds".into());
        for (sequence, first_lsn) in [(0, 1), (1, 0), (1, LAST + 1), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(read(sequence, first_lsn), Err(odd.clone()), "log {sequence} from LSN {first_lsn}");
        }
    }
}
