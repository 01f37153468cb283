//! A segment: the rows of a table at one LSN, as an Arrow IPC file that any Arrow reader opens.
//!
//! Buffers are aligned to 64 bytes. The columns are the table's and `_generation` (uint64), the LSN that wrote the row;
//! rows come in the order of their generations. The schema's metadata says key, vector column and metric, as in the log.
//! Checksums are in the manifest, one per block of 64 KiB.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, RecordBatch, UInt64Array};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::root_as_footer;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;

use crate::error::{Error, Result};
use crate::fs::{Fs, FsFile, create_durably};
use crate::ipc;
use crate::manifest::{BLOCK, Entry};
use crate::schema::TableDefinition;
use crate::table::Table;

/// Rows of a batch in a segment.
const ROWS: usize = 8192;
/// Bytes after which a batch takes no more rows.
const BYTES: usize = 32 << 20;
const GENERATION: &str = "_generation";

/// Writes the rows of `table` at `lsn` into a new file, durable on return.
pub(crate) fn write(fs: &dyn Fs, path: &Path, name: &str, table: &Table, lsn: u64) -> Result<Entry> {
    let failed = |error: io::Error| Error::io("write", path, &error);
    create_durably(fs, path, |file| {
        let mut out = Checked { file, offset: 0, block: Vec::with_capacity(BLOCK), checksums: Vec::new() };
        let rows = write_rows(&mut out, table, lsn).map_err(into_io)?;
        out.end_block()?;
        Ok(Entry { name: name.to_owned(), born: table.born, rows, length: out.offset, checksums: out.checksums })
    })
    .map_err(failed)
}

/// The error of a file below an Arrow writer, or Arrow's own.
fn into_io(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, error) => error,
        other => io::Error::other(other),
    }
}

fn write_rows(out: &mut Checked<'_>, table: &Table, lsn: u64) -> std::result::Result<u64, ArrowError> {
    let plain = table.definition.schema();
    let mut fields = plain.fields().to_vec();
    fields.push(Arc::new(Field::new(GENERATION, DataType::UInt64, false)));
    let schema = Arc::new(Schema::new_with_metadata(fields, plain.metadata().clone()));
    let mut writer = FileWriter::try_new(out, &schema)?;
    let (mut waiting, mut held, mut bytes, mut rows) = (Vec::new(), 0, 0, 0);
    for chunk in table.chunks(lsn) {
        let (batch, generations) = chunk.alive_at(lsn)?;
        if batch.num_rows() == 0 {
            continue;
        }
        held += batch.num_rows();
        bytes += size(&batch);
        rows += batch.num_rows() as u64;
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from(generations)));
        waiting.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
        if held >= ROWS || bytes >= BYTES {
            writer.write(&concat_batches(&schema, &waiting)?)?;
            (held, bytes) = (0, 0);
            waiting.clear();
        }
    }
    if !waiting.is_empty() {
        writer.write(&concat_batches(&schema, &waiting)?)?;
    }
    writer.finish()?;
    Ok(rows)
}

/// Bytes of the values of a batch.
pub(crate) fn size(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

/// Where the footer of an Arrow IPC file ends, counted from the end of the file: its length and the magic follow.
const FOOTER_END: usize = 10;

/// Schema and batches of an Arrow IPC file in memory; the batches share it.
fn open(
    bytes: &Buffer,
) -> std::result::Result<(SchemaRef, impl Iterator<Item = std::result::Result<RecordBatch, ArrowError>>), ArrowError> {
    let outside = || ArrowError::ParseError("a part of the file lies outside of it".into());
    let (front, end) = bytes.split_last_chunk::<FOOTER_END>().ok_or_else(outside)?;
    let start = front.len().checked_sub(read_footer_length(*end)?).ok_or_else(outside)?;
    let footer = root_as_footer(&front[start..]).map_err(|error| ArrowError::ParseError(error.to_string()))?;
    let schema = footer.schema().ok_or_else(|| ArrowError::ParseError("the file has no schema".into()))?;
    let schema: SchemaRef = Arc::new(try_fb_to_schema(schema)?);
    ipc::check_schema(&schema)?;
    let decoder = FileDecoder::new(Arc::clone(&schema), footer.version());
    let blocks: Vec<_> = footer.recordBatches().into_iter().flatten().copied().collect();
    let (bytes, expected) = (bytes.clone(), Arc::clone(&schema));
    let batches = blocks.into_iter().map(move |block| {
        let sizes = [block.offset(), i64::from(block.metaDataLength()), block.bodyLength()].map(usize::try_from);
        let [Ok(start), Ok(head @ 8..), Ok(body)] = sizes else { return Err(outside()) };
        let length = head.checked_add(body).ok_or_else(outside)?;
        if start.checked_add(length).is_none_or(|end| end > bytes.len()) {
            return Err(outside());
        }
        let block_bytes = bytes.slice_with_length(start, length);
        ipc::check_block(&block_bytes, head, &expected)?;
        let batch = decoder.read_record_batch(&block, &block_bytes)?;
        batch.ok_or_else(|| ArrowError::ParseError("a block of the file holds no rows".into()))
    });
    Ok((schema, batches))
}

/// Checks the segment of `entry` against its checksums and reads the table in it, whose rows stay in the mapped file.
pub(crate) fn read(file: &dyn FsFile, path: &Path, entry: &Entry) -> Result<Table> {
    check(file, path, entry)?;
    let odd = |what: &dyn std::fmt::Display| Error::Corrupt(format!("{}: {what}", path.display()));
    let unreadable = |error: ArrowError| odd(&error);
    let length = usize::try_from(entry.length).map_err(|_| odd(&"it is larger than the memory"))?;
    let bytes = file.map(length).map_err(|error| Error::io("map", path, &error))?;
    let (schema, batches) = open(&bytes).map_err(unreadable)?;
    let columns = schema.fields().len().saturating_sub(1);
    if schema
        .fields()
        .get(columns)
        .is_none_or(|last| last.name() != GENERATION || last.data_type() != &DataType::UInt64)
    {
        return Err(odd(&"the last column is not _generation"));
    }
    let plain = Schema::new_with_metadata(schema.fields()[..columns].to_vec(), schema.metadata().clone());
    let table = Table::new(TableDefinition::from_stored(&plain)?, entry.born);
    let mut rows = 0;
    for batch in batches {
        let batch = batch.map_err(unreadable)?;
        rows += batch.num_rows() as u64;
        let generations = batch.column(columns).as_primitive::<UInt64Type>().values().to_vec();
        let kept = RecordBatch::try_new(Arc::clone(table.definition.schema()), batch.columns()[..columns].to_vec());
        table.restore(generations, kept.map_err(unreadable)?).map_err(|error| odd(&error))?;
    }
    if rows != entry.rows {
        return Err(odd(&format!("expected {} rows, came {rows}", entry.rows)));
    }
    Ok(table)
}

fn check(file: &dyn FsFile, path: &Path, entry: &Entry) -> Result<()> {
    let failed = |error| Error::io("read", path, &error);
    let corrupt =
        |what: String| Err(Error::Corrupt(format!("{}: {what}; restore the store from a copy", path.display())));
    let length = file.length().map_err(failed)?;
    if length != entry.length {
        return corrupt(format!("expected a segment of {} bytes, came {length}", entry.length));
    }
    let mut block = vec![0; BLOCK];
    for (start, &expected) in (0..).step_by(BLOCK).zip(&entry.checksums) {
        let count = file.read_at(&mut block, start).map_err(failed)?;
        if crc32c::crc32c(&block[..count]) != expected {
            let end = start + count as u64;
            return corrupt(format!("bytes {start} to {end} of table {:?} fail their checksum", entry.name));
        }
    }
    Ok(())
}

/// A file written from its start, with a checksum of each block.
struct Checked<'a> {
    file: &'a dyn FsFile,
    offset: u64,
    block: Vec<u8>,
    checksums: Vec<u32>,
}

impl Checked<'_> {
    fn end_block(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.file.write_at(&self.block, self.offset)?;
            self.offset += self.block.len() as u64;
            self.checksums.push(crc32c::crc32c(&self.block));
            self.block.clear();
        }
        Ok(())
    }
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.end_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
