//! The payload of a log record: changes of tables that take effect together.
//!
//! ```text
//! 0 number of changes u32   4 zero u32, then per change
//! 0 kind u8 (1 create, 2 put, 3 delete, 4 evolve), three zeros   4 length of the table name u32   8 length of the body u64
//!   name and body, each zero-padded to a multiple of 8
//! ```
//! A body is an Arrow IPC stream: the schema of a new table, the rows put, a batch of one column with the keys deleted,
//! or the schema a table has from then on. Any Arrow reader can read it.

use std::io::Cursor;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, StreamWriter, write_message,
};
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::ipc;
use crate::schema::TableDefinition;
use crate::wal::{LARGEST, padded, u32_at, u64_at};

/// A change of one table.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new table.
    Create(TableDefinition),
    /// Rows that replace those with the same key.
    Put(RecordBatch),
    /// Keys whose rows go.
    Delete(ArrayRef),
    /// A table gets more columns.
    Evolve(TableDefinition),
}

/// How a stream of Arrow IPC ends.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// A change and its table.
pub(crate) type Named = (String, Change);

/// The payload of changes. `known` gives the [`head`] of a table that has this schema now.
pub(crate) fn encode(changes: &[Named], known: impl Fn(&str, &SchemaRef) -> Option<Arc<[u8]>>) -> Result<Vec<u8>> {
    let mut out =
        Vec::with_capacity(64 + changes.iter().map(|(name, change)| name.len() + room(change)).sum::<usize>());
    out.extend_from_slice(&(changes.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for (name, change) in changes {
        let kind = match change {
            Change::Create(_) => 1,
            Change::Put(_) => 2,
            Change::Delete(_) => 3,
            Change::Evolve(_) => 4,
        };
        out.extend_from_slice(&[kind, 0, 0, 0]);
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        let length_at = out.len();
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(name.as_bytes());
        out.resize(padded(out.len()), 0);
        let start = out.len();
        let written = match change {
            Change::Create(table) | Change::Evolve(table) => stream(&mut out, table.head(), None),
            Change::Put(rows) => {
                let head = known(name, rows.schema_ref()).map_or_else(|| head(rows.schema_ref()), Ok);
                head.and_then(|head| stream(&mut out, &head, Some(rows)))
            }
            Change::Delete(keys) => {
                let schema = Arc::new(Schema::new(vec![Field::new("key", keys.data_type().clone(), false)]));
                let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(keys)]);
                batch.and_then(|batch| stream(&mut out, &head(&schema)?, Some(&batch)))
            }
        };
        written.map_err(|error| Error::Invalid(error.to_string()))?;
        let length = (out.len() - start) as u64;
        out[length_at..start][..8].copy_from_slice(&length.to_le_bytes());
        out.resize(padded(out.len()), 0);
    }
    if out.len() > LARGEST {
        return Err(Error::Invalid(format!("expected at most {LARGEST} bytes in one commit, came {}", out.len())));
    }
    Ok(out)
}

/// Bytes that a change takes, about.
fn room(change: &Change) -> usize {
    match change {
        Change::Create(table) | Change::Evolve(table) => table.head().len(),
        Change::Put(rows) => 2048 + rows.get_array_memory_size(),
        Change::Delete(keys) => 1024 + keys.get_array_memory_size(),
    }
}

/// How a stream of rows of this schema begins; to make it takes longer than to encode a row.
pub(crate) fn head(schema: &Schema) -> std::result::Result<Arc<[u8]>, ArrowError> {
    Ok(StreamWriter::try_new(Vec::new(), schema)?.get_ref().as_slice().into())
}

/// Appends what [`StreamWriter`] makes of the rows.
fn stream(out: &mut Vec<u8>, head: &[u8], rows: Option<&RecordBatch>) -> std::result::Result<(), ArrowError> {
    out.extend_from_slice(head);
    if let Some(rows) = rows {
        let (options, mut dictionaries) = (IpcWriteOptions::default(), DictionaryTracker::new(true));
        let (_, rows) =
            IpcDataGenerator {}.encode(rows, &mut dictionaries, &options, &mut IpcWriteContext::default())?;
        write_message(&mut *out, rows, &options)?;
    }
    out.extend_from_slice(&END);
    Ok(())
}

/// Reads a payload whose checksum held; anything odd in it means damage.
pub(crate) fn decode(payload: &[u8]) -> Result<Vec<Named>> {
    let mut rest = payload.get(8..).ok_or_else(|| damaged("is too short"))?;
    (0..u32_at(payload, 0)).map(|_| read_one(&mut rest)).collect()
}

fn read_one(rest: &mut &[u8]) -> Result<Named> {
    let head = take(rest, 16)?;
    let name = take(rest, u32_at(head, 4) as usize)?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| damaged("names a table in bytes that are not UTF-8"))?;
    let body = take(rest, usize::try_from(u64_at(head, 8)).map_err(|_| damaged("is too short"))?)?;
    let unreadable = |error: ArrowError| Error::Corrupt(format!("the rows of table {name:?} in the log: {error}"));
    let mut reader = StreamReader::try_new(Cursor::new(body), None).map_err(unreadable)?;
    ipc::check_stream(body, &reader.schema()).map_err(unreadable)?;
    let mut batch = || reader.next().ok_or_else(|| damaged("lacks its rows"))?.map_err(unreadable);
    let change = match head[0] {
        1 => Change::Create(TableDefinition::from_stored(&reader.schema())?),
        2 => Change::Put(batch()?),
        3 => Change::Delete(Arc::clone(batch()?.columns().first().ok_or_else(|| damaged("lacks its keys"))?)),
        4 => Change::Evolve(TableDefinition::from_stored(&reader.schema())?),
        _ => return Err(damaged("holds an unknown kind of change")),
    };
    Ok((name, change))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    if rest.len() < length || rest.len() < padded(length) {
        return Err(damaged("is too short"));
    }
    let (taken, left) = rest.split_at(padded(length));
    *rest = left;
    Ok(&taken[..length])
}

fn damaged(what: &str) -> Error {
    Error::Corrupt(format!("a commit in the log {what}, though its checksum holds"))
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, ListArray, StringArray};

    use super::*;

    fn rows() -> RecordBatch {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None]), None]);
        let rows = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("text", Arc::new(StringArray::from(vec![Some("a"), None]))),
            ("list", Arc::new(lists)),
        ]);
        rows.expect("rows")
    }

    fn commit() -> Vec<u8> {
        encode(&[("t".into(), Change::Put(rows()))], |_, _| None).expect("encoded")
    }

    fn streamed(rows: Option<&RecordBatch>, schema: &Schema) -> Vec<u8> {
        let mut out = Vec::new();
        stream(&mut out, &head(schema).expect("a head"), rows).expect("encoded");
        out
    }

    #[test]
    fn a_body_is_what_a_writer_of_streams_makes() {
        let rows = rows();
        for rows in [rows.clone(), rows.slice(1, 1), rows.slice(0, 0)] {
            let mut writer = StreamWriter::try_new(Vec::new(), rows.schema_ref()).expect("a writer");
            writer.write(&rows).expect("written");
            assert_eq!(streamed(Some(&rows), rows.schema_ref()), writer.into_inner().expect("whole"));
        }
        let empty = StreamWriter::try_new(Vec::new(), rows.schema_ref()).and_then(StreamWriter::into_inner);
        assert_eq!(streamed(None, rows.schema_ref()), empty.expect("whole"));
    }

    #[test]
    fn a_commit_with_any_changed_byte_is_read_or_refused() {
        let good = commit();
        assert!(decode(&good).is_ok());
        for byte in 0..good.len() {
            for value in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[byte] = value;
                let _ = decode(&bad);
            }
        }
    }
}
