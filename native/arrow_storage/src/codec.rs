//! The payload of a log record: changes of tables that take effect together.
//!
//! ```text
//! 0 number of changes u32   4 zero u32, then per change
//! 0 kind u8 (1 create, 2 put, 3 delete), three zeros   4 length of the table name u32   8 length of the body u64
//!   name and body, each zero-padded to a multiple of 8
//! ```
//! A body is an Arrow IPC stream: the schema of a new table, the rows put, or a batch of one column with the keys
//! deleted. Any Arrow reader can read it.

use std::io::Cursor;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Field, Schema};

use crate::error::{Error, Result};
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
}

/// A change and its table.
pub(crate) type Named = (String, Change);

pub(crate) fn encode(changes: &[Named]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(&(changes.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for (name, change) in changes {
        let (kind, body) = match change {
            Change::Create(table) => (1, stream(table.schema(), None)),
            Change::Put(rows) => (2, stream(&rows.schema(), Some(rows))),
            Change::Delete(keys) => {
                let schema = Arc::new(Schema::new(vec![Field::new("key", keys.data_type().clone(), false)]));
                let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(keys)]);
                (3, batch.and_then(|batch| stream(&schema, Some(&batch))))
            }
        };
        let body = body.map_err(|error| Error::Invalid(error.to_string()))?;
        out.extend_from_slice(&[kind, 0, 0, 0]);
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(&(body.len() as u64).to_le_bytes());
        for part in [name.as_bytes(), &body] {
            out.extend_from_slice(part);
            out.resize(padded(out.len()), 0);
        }
    }
    if out.len() > LARGEST {
        return Err(Error::Invalid(format!("expected at most {LARGEST} bytes in one commit, came {}", out.len())));
    }
    Ok(out)
}

fn stream(schema: &Schema, rows: Option<&RecordBatch>) -> std::result::Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    if let Some(rows) = rows {
        writer.write(rows)?;
    }
    writer.into_inner()
}

/// Reads a payload whose checksum held; anything odd in it means damage.
pub(crate) fn decode(payload: &[u8]) -> Result<Vec<Named>> {
    let mut rest = payload.get(8..).ok_or_else(|| damaged("is too short"))?;
    (0..u32_at(payload, 0)).map(|_| decode_one(&mut rest)).collect()
}

fn decode_one(rest: &mut &[u8]) -> Result<Named> {
    let head = take(rest, 16)?;
    let name = take(rest, u32_at(head, 4) as usize)?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| damaged("names a table in bytes that are not UTF-8"))?;
    let body = take(rest, usize::try_from(u64_at(head, 8)).map_err(|_| damaged("is too short"))?)?;
    let unreadable = |error: ArrowError| Error::Corrupt(format!("the rows of table {name:?} in the log: {error}"));
    let mut reader = StreamReader::try_new(Cursor::new(body), None).map_err(unreadable)?;
    let mut batch = || reader.next().ok_or_else(|| damaged("lacks its rows"))?.map_err(unreadable);
    let change = match head[0] {
        1 => Change::Create(TableDefinition::from_stored(&reader.schema())?),
        2 => Change::Put(batch()?),
        3 => Change::Delete(Arc::clone(batch()?.columns().first().ok_or_else(|| damaged("lacks its keys"))?)),
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
