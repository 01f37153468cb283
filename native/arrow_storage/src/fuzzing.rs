//! What native/fuzz calls with hostile bytes: each function returns, whatever they are.
#![expect(unsafe_code, reason = "arrays are handed over by pointer")]
#![expect(clippy::missing_panics_doc, reason = "a panic is a finding")]

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::io;
use std::path::Path;
use std::ptr::{from_mut, null, null_mut};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::ffi::FFI_ArrowArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{DataType, Field, Schema, TimeUnit};

use crate::codec::{Change, decode};
use crate::error::{Error, Result};
use crate::fs::FsFile;
use crate::import::{RawArray, RawSchema, import};
use crate::manifest::{BLOCK, Entry, Manifest};
use crate::schema::TableDefinition;
use crate::segment;
use crate::store::{ArrowStorage, Mode};
use crate::table::Table;
use crate::wal::{HEADER, Identity, LAST, RECORD, Scanner, StoreId, padded, read_header, u32_at, u64_at};

/// A file in memory.
pub(crate) struct Memory<'a>(pub(crate) &'a [u8]);

impl FsFile for Memory<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.0.get(start..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn set_length(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A log as it is, and with checksums and LSNs made to fit.
pub fn log(bytes: &[u8]) {
    let _ = replay(bytes);
    let _ = replay(&sealed_log(bytes.to_vec()));
}

/// Reads a log into tables, as opening a store does.
fn replay(bytes: &[u8]) -> Result<()> {
    let (file, path) = (Memory(bytes), Path::new("log"));
    let (identity, first) = read_header(&file, path)?;
    let mut scanner = Scanner::new(&file, path, identity, HEADER as u64, first);
    let mut tables = HashMap::new();
    while let Some(record) = scanner.next()? {
        for (name, change) in decode(&record.payload)? {
            match (change, tables.get(&name)) {
                (Change::Create(definition), _) => drop(tables.insert(name, Table::new(definition, record.lsn))),
                (Change::Evolve(definition), Some(table)) => {
                    let evolved = table.evolved(definition)?;
                    tables.insert(name, evolved);
                }
                (Change::Put(rows), Some(table)) => table.put(record.lsn, rows)?,
                (Change::Delete(keys), Some(table)) => table.delete(record.lsn, keys.as_ref())?,
                _ => {}
            }
        }
    }
    scanner.check_tail()
}

fn sealed_log(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize((bytes.len() & !7).max(HEADER), 0);
    let mut store = StoreId::default();
    store.0.copy_from_slice(&bytes[16..32]);
    let identity = Identity { store, sequence: u64_at(&bytes, 32).clamp(1, LAST) };
    let first = u64_at(&bytes, 40).clamp(1, LAST);
    let mut sealed = identity.header(first).to_vec();
    let (mut rest, mut lsn) = (&bytes[HEADER..], first);
    while let Some((head, body)) = rest.split_at_checked(RECORD) {
        let length = (u32_at(head, 0) as usize).min(body.len());
        identity.encode(&mut sealed, lsn, u64_at(head, 16), &body[..length]);
        (rest, lsn) = (&body[padded(length)..], lsn + 1);
    }
    sealed.extend_from_slice(rest);
    sealed
}

/// A manifest as it is, and with its checksum made to fit; what is read is read again as it was written.
pub fn manifest(bytes: &[u8]) {
    let path = Path::new("manifest");
    for bytes in [bytes, &sealed_manifest(bytes.to_vec())] {
        if let Ok(manifest) = Manifest::decode(bytes, path) {
            assert_eq!(Manifest::decode(&manifest.encode(), path), Ok(manifest));
        }
    }
}

fn sealed_manifest(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().max(16), 0);
    bytes[..12].copy_from_slice(b"PFSMANIF\x01\0\0\0");
    let end = bytes.len() - 8;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&u64::from(crc).to_le_bytes());
    bytes
}

/// A segment whose checksums fit; the manifest says that it holds three rows.
pub fn segment(bytes: &[u8]) {
    let checksums = bytes.chunks(BLOCK).map(crc32c::crc32c).collect();
    let entry = Entry { name: "t".into(), born: 1, rows: 3, length: bytes.len() as u64, checksums };
    if let Ok(table) = segment::read(&Memory(bytes), Path::new("segment"), &entry) {
        table.live_bytes(u64::MAX - 1);
    }
}

/// A store with one table per type of key, `0` to `2`, for [`rows`].
pub fn store(path: &Path) -> Result<ArrowStorage> {
    let store = ArrowStorage::open(path, Mode::Owner)?;
    let item = |kind| Arc::new(Field::new_list_field(kind, true));
    for (name, key) in [DataType::Utf8, DataType::Int64, DataType::Binary].into_iter().enumerate() {
        let schema = Schema::new(vec![
            Field::new("id", key, false),
            Field::new("v", DataType::FixedSizeList(item(DataType::Float32), 2), false),
            Field::new("text", DataType::Utf8, true),
            Field::new("yes", DataType::Boolean, false),
            Field::new("hash", DataType::FixedSizeBinary(3), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("list", DataType::List(item(DataType::Utf8)), true),
        ]);
        let definition = TableDefinition::new(&schema, "id", Some(("v", crate::Metric::Cosine)))?;
        store.create_table(&name.to_string(), &definition)?;
    }
    Ok(store)
}

/// Rows that a producer hands over, put into a table of [`store`]; whether they were.
///
/// Bytes are choices; without any the rows are sound. What a consumer cannot tell, such as a buffer that is shorter than
/// the array's length says, is never wrong.
pub fn rows(store: &ArrowStorage, bytes: &[u8]) -> bool {
    let mut choices = Choices { rest: bytes, held: Vec::new() };
    let table = (choices.byte() % 3).to_string();
    let Ok(definition) = store.snapshot().definition(&table).cloned() else { return false };
    let count = i64::from(choices.byte() % 8);
    let kind = DataType::Struct(definition.schema().fields().clone());
    let (mut schema, mut array) = choices.array("", &kind, false, count);
    // SAFETY: the structs are initialised, and what they point to lives as long as `choices`.
    let imported = unsafe {
        let schema = FFI_ArrowSchema::from_raw(from_mut(&mut schema).cast());
        import(FFI_ArrowArray::from_raw(from_mut(&mut array).cast()), &schema)
    };
    let put = imported.and_then(|array| {
        let rows = array.as_struct_opt().filter(|rows| rows.null_count() == 0);
        let rows = RecordBatch::from(rows.ok_or_else(|| Error::Invalid("not rows".into()))?);
        if let Some(keys) = rows.columns().first() {
            let _ = store.commit(vec![(table.clone(), Change::Delete(Arc::clone(keys)))]);
        }
        store.put(&table, rows)
    });
    put.is_ok()
}

/// Hostile bytes read as choices, and the memory that is handed over.
struct Choices<'a> {
    rest: &'a [u8],
    held: Vec<Box<dyn std::any::Any>>,
}

impl Choices<'_> {
    /// The next choice; 0 when there is none left.
    fn byte(&mut self) -> u8 {
        let (&first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        first
    }

    /// One of sixteen times something else than `right`.
    fn number(&mut self, right: i64) -> i64 {
        match self.byte() {
            0xf0..0xf4 => i64::from(self.byte()),
            0xf4..0xf6 => right - 1,
            0xf6..0xf8 => right.saturating_add(1),
            0xf8..0xfa => -1,
            0xfa..0xfc => i64::MIN,
            0xfc.. => i64::MAX,
            _ => right,
        }
    }

    fn hold<T: 'static>(&mut self, value: T) -> *mut T {
        let mut boxed = Box::new(value);
        let pointer: *mut T = &raw mut *boxed;
        self.held.push(boxed);
        pointer
    }

    /// A pointer to what is held, or seldom none.
    fn pointer<T: 'static>(&mut self, value: T) -> *const T {
        if self.byte() == 0xff { null() } else { self.hold(value) }
    }

    fn bytes(&mut self, mut content: Vec<u8>) -> *const c_void {
        match self.byte() {
            0xfe => return null(),
            0xff => {
                content.insert(0, 0); // an address that is not aligned
                let content = content.into_boxed_slice();
                let start = content.as_ptr();
                self.held.push(Box::new(content));
                return start.wrapping_add(1).cast();
            }
            _ => {}
        }
        let content = content.into_boxed_slice();
        let start = content.as_ptr();
        self.held.push(Box::new(content));
        start.cast()
    }

    fn content(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }

    /// A type to hand over in place of `kind`: seldom another.
    fn kind(&mut self, kind: &DataType) -> DataType {
        let item = |kind| Arc::new(Field::new_list_field(kind, true));
        match self.byte() {
            0xf0 => DataType::Int64,
            0xf1 => DataType::Utf8,
            0xf2 => DataType::Binary,
            0xf3 => DataType::LargeUtf8,
            0xf4 => DataType::Utf8View,
            0xf5 => DataType::FixedSizeBinary(i32::from(self.byte()) - 1),
            0xf6 => DataType::FixedSizeList(item(kind.clone()), i32::from(self.byte()) - 1),
            0xf7 => DataType::List(item(kind.clone())),
            0xf8 => DataType::Null,
            0xf9 => DataType::Struct([Field::new("x", kind.clone(), true)].into_iter().collect()),
            0xfa => DataType::FixedSizeBinary(i32::MAX),
            0xfb => DataType::Decimal128(10, 2),
            _ => kind.clone(),
        }
    }

    fn array(&mut self, name: &str, kind: &DataType, nullable: bool, right: i64) -> (RawSchema, RawArray) {
        let kind = self.kind(kind);
        // Lengths that cannot be meant need no memory, as nobody may read it; all others have theirs.
        let right = if right < 1 << 12 { right } else { i64::MAX };
        let (length, offset) = (self.number(right), self.number(0));
        let rows = length.checked_add(offset).filter(|rows| length >= 0 && offset >= 0 && *rows < 1 << 13);
        let rows = usize::try_from(rows.unwrap_or_default()).unwrap_or_default();
        let mut buffers = vec![if self.byte() < 0x80 { null() } else { self.nulls(rows) }];
        let mut children = Vec::new();
        match &kind {
            DataType::Utf8 | DataType::Binary => {
                let (offsets, end) = self.offsets(rows);
                let content = self.content(end);
                buffers.extend([self.bytes(offsets), self.bytes(content)]);
            }
            DataType::List(item) => {
                let (offsets, end) = self.offsets(rows);
                buffers.push(self.bytes(offsets));
                children.push(self.array("item", item.data_type(), true, i64::try_from(end).unwrap_or_default()));
            }
            DataType::FixedSizeList(item, width) => {
                let end = i64::try_from(rows).unwrap_or_default() * i64::from(*width);
                children.push(self.array("item", item.data_type(), true, end));
            }
            DataType::Struct(fields) => {
                for field in fields {
                    let rows = i64::try_from(rows).unwrap_or_default();
                    children.push(self.array(field.name(), field.data_type(), field.is_nullable(), rows));
                }
            }
            other => {
                let width = match other {
                    DataType::FixedSizeBinary(width) => usize::try_from(*width).unwrap_or_default(),
                    _ => other.primitive_width().unwrap_or(1),
                };
                let content = self.content(rows * width.min(1 << 12));
                buffers.push(self.bytes(content));
            }
        }
        self.raw(name, &kind, nullable, [length, offset], buffers, children)
    }

    fn raw(
        &mut self,
        name: &str,
        kind: &DataType,
        nullable: bool,
        [length, offset]: [i64; 2],
        mut buffers: Vec<*const c_void>,
        children: Vec<(RawSchema, RawArray)>,
    ) -> (RawSchema, RawArray) {
        let (mut schemas, mut arrays) = (Vec::new(), Vec::new());
        for (schema, array) in children {
            schemas.push(self.pointer(schema));
            arrays.push(self.pointer(array));
        }
        let mut counted = |pointers: usize| self.number(i64::try_from(pointers).unwrap_or_default());
        let (n_buffers, n_children, n_schemas) =
            (counted(buffers.len()), counted(arrays.len()), counted(schemas.len()));
        // A count that is too high must not be noticed by reading behind the pointers.
        buffers.resize(1 << 8, null());
        schemas.resize(1 << 8, null());
        arrays.resize(1 << 8, null());
        let format = FFI_ArrowSchema::try_from(kind).map_or("?".into(), |schema| schema.format().to_owned());
        let mut text = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            if self.byte() == 0xff {
                bytes.push(0x80); // not UTF-8
            }
            self.pointer(CString::new(bytes).unwrap_or_default())
        };
        let (format, name) = (text(&format), text(name));
        // SAFETY: what is held stays where it is.
        let [format, name] = [format, name].map(|text| unsafe { text.as_ref() }.map_or(null(), |text| text.as_ptr()));
        let schema = RawSchema {
            format,
            name,
            metadata: null(),
            flags: i64::from(nullable) * 2,
            n_children: n_schemas,
            children: self.list(schemas),
            dictionary: null(),
            release: None,
            private_data: null_mut(),
        };
        let array = RawArray {
            length,
            null_count: self.number(-1),
            offset,
            n_buffers,
            n_children,
            buffers: self.list(buffers),
            children: self.list(arrays),
            dictionary: null(),
            release: None,
            private_data: null_mut(),
        };
        (schema, array)
    }

    fn list<T: 'static>(&mut self, list: Vec<*const T>) -> *const *const T {
        let start = list.as_ptr();
        if self.byte() == 0xff {
            return null();
        }
        self.held.push(Box::new(list));
        start
    }

    fn nulls(&mut self, rows: usize) -> *const c_void {
        let content = self.content(rows.div_ceil(8));
        self.bytes(content)
    }

    /// Offsets that rise or, seldom, are any numbers, and where they end.
    fn offsets(&mut self, rows: usize) -> (Vec<u8>, usize) {
        let wild = self.byte() >= 0xf0;
        let mut last: i32 = 0;
        let mut offsets = vec![last; rows + 1];
        for offset in &mut offsets[1..] {
            let step = self.byte();
            last = if wild { i32::from(step) - 0x80 } else { last + i32::from(step % 8) };
            *offset = last;
        }
        (offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect(), usize::try_from(last).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fuzzing has found worth keeping for a target; see native/fuzz/run.sh.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let files = std::fs::read_dir(directory).expect("the corpus");
        files.map(|file| std::fs::read(file.expect("listed").path()).expect("read")).collect()
    }

    #[test]
    fn logs_manifests_and_segments_of_any_bytes_are_read_or_refused() {
        for (target, read) in [("log", log as fn(&[u8])), ("manifest", manifest), ("segment", segment)] {
            let corpus = corpus(target);
            assert!(!corpus.is_empty(), "{target}");
            for bytes in corpus {
                read(&bytes);
            }
        }
    }

    #[test]
    fn rows_of_any_producer_are_stored_or_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store(directory.path()).expect("opens");
        let stored = corpus("rows").iter().filter(|bytes| rows(&store, bytes)).count();
        assert!(stored > 0);
    }
}
