//! What the Arrow reader takes for granted and would panic without: that the parts of a message lie in its body, and
//! that every type is one a table can hold.

use arrow_ipc::{Message, RecordBatch, root_as_message};
use arrow_schema::{ArrowError, DataType, Schema};

use crate::schema::canonical_schema;
use crate::wal::u32_at;

const CONTINUED: u32 = u32::MAX;

/// Checks the messages of a stream whose schema the reader has read.
pub(crate) fn check_stream(mut bytes: &[u8], schema: &Schema) -> Result<(), ArrowError> {
    check_schema(schema)?;
    while let Some((message, rest)) = split(bytes)? {
        let body = usize::try_from(message.bodyLength()).map_err(|_| outside())?;
        bytes = rest.get(body..).ok_or_else(outside)?;
        check(message, body, schema)?;
    }
    Ok(())
}

/// Checks the message that `bytes` starts with, `head` bytes before its body.
pub(crate) fn check_block(bytes: &[u8], head: usize, schema: &Schema) -> Result<(), ArrowError> {
    let (message, _) = split(bytes)?.ok_or_else(outside)?;
    check(message, bytes.len().checked_sub(head).ok_or_else(outside)?, schema)
}

/// Refuses types that a table cannot hold.
pub(crate) fn check_schema(schema: &Schema) -> Result<(), ArrowError> {
    canonical_schema(schema).map(drop).map_err(|error| ArrowError::SchemaError(error.to_string()))
}

/// The message that `bytes` starts with and what follows its head; `None` at the end of a stream.
fn split(bytes: &[u8]) -> Result<Option<(Message<'_>, &[u8])>, ArrowError> {
    let Some((prefix, rest)) = bytes.split_at_checked(8) else {
        return if bytes.is_empty() { Ok(None) } else { Err(outside()) };
    };
    let length = u32_at(prefix, 4) as usize;
    if u32_at(prefix, 0) != CONTINUED {
        return Err(ArrowError::ParseError("a message does not begin as one".into()));
    }
    if length == 0 {
        return Ok(None);
    }
    let (head, rest) = rest.split_at_checked(length).ok_or_else(outside)?;
    let message = root_as_message(head).map_err(|error| ArrowError::ParseError(error.to_string()))?;
    Ok(Some((message, rest)))
}

fn check(message: Message<'_>, body: usize, schema: &Schema) -> Result<(), ArrowError> {
    let end = |start: i64, length: i64| usize::try_from(start).ok()?.checked_add(usize::try_from(length).ok()?);
    let inside = |batch: RecordBatch<'_>| {
        let buffers = || batch.buffers().into_iter().flatten();
        let mut lengths = buffers().map(arrow_ipc::Buffer::length);
        batch.length() >= 0
            && batch.nodes().into_iter().flatten().all(|node| (0..=node.length()).contains(&node.null_count()))
            && buffers().all(|buffer| end(buffer.offset(), buffer.length()).is_some_and(|end| end <= body))
            && schema.fields().iter().all(|field| has_whole_offsets(field.data_type(), &mut lengths))
    };
    match (message.header_as_schema(), message.header_as_record_batch()) {
        (Some(_), _) => Ok(()),
        (None, Some(batch)) if inside(batch) => Ok(()),
        _ => Err(outside()),
    }
}

/// Whether the buffers of a column that hold offsets hold whole ones; takes its buffers off `lengths`.
fn has_whole_offsets(kind: &DataType, lengths: &mut dyn Iterator<Item = i64>) -> bool {
    let mut next = |unit| lengths.next().is_none_or(|length| length % unit == 0);
    match kind {
        DataType::Utf8 | DataType::Binary => next(1) && next(4) && next(1),
        DataType::List(item) => next(1) && next(4) && has_whole_offsets(item.data_type(), lengths),
        DataType::FixedSizeList(item, _) => next(1) && has_whole_offsets(item.data_type(), lengths),
        _ => next(1) && next(1),
    }
}

fn outside() -> ArrowError {
    ArrowError::ParseError("a part of a message lies outside of it".into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Field;

    use super::*;

    #[test]
    fn types_that_the_reader_panics_at_are_refused() {
        let item = Arc::new(Field::new_list_field(DataType::Int8, true));
        for kind in [DataType::FixedSizeBinary(-1), DataType::FixedSizeList(item, -1), DataType::Null] {
            let schema = Schema::new(vec![Field::new("a", kind.clone(), true)]);
            let refused = check_schema(&schema).expect_err("refused").to_string();
            assert_eq!(refused, format!("Schema error: column \"a\": a table cannot hold {kind}"));
        }
    }
}
