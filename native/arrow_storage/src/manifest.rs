//! The manifest: what a store was made of at one LSN. All numbers are little-endian.
//!
//! ```text
//!  0 magic "PFSMANIF"   8 version u32   12 number of tables u32   16 store id   32 number u64   40 LSN u64
//! 48 per table, in the order of their names: 0 LSN of its creation u64   8 rows u64   16 bytes of its segment u64
//!       24 length of its name u32   28 zero u32   32 name, then crc32c u32 of each 64 KiB of the segment,
//!       each of the two zero-padded to a multiple of 8
//! end  crc32c of all before u32   zero u32
//! ```
//! The segments hold exactly the rows that were there at the LSN; the log that goes with the manifest begins behind it.

use std::path::Path;

use crate::error::{Error, Result};
use crate::wal::{LAST, StoreId, padded, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"PFSMANIF";
const VERSION: u32 = 1;
const HEADER: usize = 48;
const ENTRY: usize = 32;
const END: usize = 8;
/// Bytes of a segment under one checksum.
pub(crate) const BLOCK: usize = 1 << 16;

/// A table in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// LSN of its creation.
    pub(crate) born: u64,
    pub(crate) rows: u64,
    /// Bytes of its segment.
    pub(crate) length: u64,
    /// Checksum of each block of its segment.
    pub(crate) checksums: Vec<u32>,
}

/// What a store was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) store: StoreId,
    pub(crate) number: u64,
    /// The last commit that is in the segments.
    pub(crate) lsn: u64,
    pub(crate) tables: Vec<Entry>,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.tables.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.store.0);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.lsn.to_le_bytes());
        for table in &self.tables {
            for number in [table.born, table.rows, table.length, table.name.len() as u64] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(table.name.as_bytes());
            out.resize(padded(out.len()), 0);
            out.extend(table.checksums.iter().flat_map(|crc| crc.to_le_bytes()));
            out.resize(padded(out.len()), 0);
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out
    }

    /// Reads the bytes of the file at `path`.
    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let corrupt = |what: &str| Error::Corrupt(format!("{}: {what}", path.display()));
        let end = bytes.len().saturating_sub(END);
        if end < HEADER
            || &bytes[..8] != MAGIC
            || u32_at(bytes, end) != crc32c::crc32c(&bytes[..end])
            || u32_at(bytes, end + 4) != 0
        {
            return Err(corrupt("the manifest fails its checksum; restore the store from a copy"));
        }
        if u32_at(bytes, 8) != VERSION {
            return Err(corrupt(&format!("expected manifest version {VERSION}, came {}", u32_at(bytes, 8))));
        }
        let mut store = StoreId::default();
        store.0.copy_from_slice(&bytes[16..32]);
        let mut rest = &bytes[HEADER..end];
        let tables = (0..u32_at(bytes, 12)).map(|_| decode_entry(&mut rest)).collect::<Option<_>>();
        let (number, lsn) = (u64_at(bytes, 32), u64_at(bytes, 40));
        let tables = tables.filter(|_| rest.is_empty() && number <= LAST && lsn <= LAST);
        let tables = tables.ok_or_else(|| corrupt("the manifest is odd, though its checksum holds"))?;
        Ok(Self { store, number, lsn, tables })
    }
}

fn decode_entry(rest: &mut &[u8]) -> Option<Entry> {
    let head = take(rest, ENTRY)?;
    let (born, rows, length) = (u64_at(head, 0), u64_at(head, 8), u64_at(head, 16));
    let name = String::from_utf8(take(rest, u32_at(head, 24) as usize)?.to_vec()).ok()?;
    let blocks = usize::try_from(length.div_ceil(BLOCK as u64)).ok()?;
    let checksums = take(rest, blocks.checked_mul(4)?)?;
    let checksums = checksums.chunks_exact(4).map(|crc| u32_at(crc, 0)).collect();
    Some(Entry { name, born, rows, length, checksums })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length.checked_next_multiple_of(8)?)?;
    *rest = left;
    Some(&taken[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = |name: &str, blocks: u32| Entry {
            name: name.into(),
            born: 3,
            rows: 70_000,
            length: u64::from(blocks) * BLOCK as u64 - 5,
            checksums: (0..blocks).collect(),
        };
        Manifest { store: StoreId([7; 16]), number: 4, lsn: 99, tables: vec![entry("a", 3), entry("tables", 1)] }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        assert_eq!(Manifest::decode(&manifest().encode(), Path::new("m")), Ok(manifest()));
    }

    #[test]
    fn every_flipped_or_missing_byte_of_a_manifest_is_corruption() {
        let good = manifest().encode();
        let expected = Error::Corrupt("m: the manifest fails its checksum; restore the store from a copy".into());
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            assert_eq!(Manifest::decode(&bad, Path::new("m")), Err(expected.clone()), "byte {byte}");
            assert_eq!(Manifest::decode(&good[..byte], Path::new("m")), Err(expected.clone()), "cut at {byte}");
        }
    }

    #[test]
    fn a_manifest_of_another_version_or_with_odd_lengths_is_refused() {
        let sealed = |at: usize, value: u32| {
            let mut bytes = manifest().encode();
            let end = bytes.len() - END;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[..end]);
            bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
            Manifest::decode(&bytes, Path::new("m")).expect_err("refused").to_string()
        };
        assert_eq!(sealed(8, 2), "m: expected manifest version 1, came 2");
        let most = u32::MAX;
        let odd =
            [(12, 1), (12, 3), (36, most), (44, most), (HEADER + 16, 0), (HEADER + 20, most), (HEADER + 24, most)];
        for (at, value) in odd {
            assert_eq!(sealed(at, value), "m: the manifest is odd, though its checksum holds", "{value} at byte {at}");
        }
    }
}
