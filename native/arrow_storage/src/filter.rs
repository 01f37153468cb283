//! Filters: equality of columns with values, all of which must hold.

use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrowPrimitiveType, RecordBatch};
use arrow_schema::{DataType, Schema};

use crate::error::{Error, Result};
use crate::schema::{Key, TableDefinition};

/// A value a column is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Matches null only.
    Null,
    /// For `bool` columns.
    Bool(bool),
    /// For integer and floating-point columns.
    Int(i64),
    /// For floating-point columns.
    Float(f64),
    /// For `string` columns.
    Text(String),
    /// For binary columns.
    Bytes(Vec<u8>),
}

impl fmt::Display for Scalar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "a string",
            Self::Bytes(_) => "bytes",
        })
    }
}

/// Columns and the values they must equal.
pub type Where = Vec<(String, Scalar)>;

/// A filter whose columns exist and can equal their values.
pub(crate) struct Filter {
    terms: Vec<(usize, Scalar)>,
    key: Option<Key>,
}

impl Filter {
    pub(crate) fn new(table: &TableDefinition, wanted: &[(String, Scalar)]) -> Result<Self> {
        let terms = wanted
            .iter()
            .map(|(name, value)| {
                let index = column(table.schema(), name)?;
                let kind = table.schema().field(index).data_type();
                if fits(kind, value) {
                    Ok((index, value.clone()))
                } else {
                    Err(Error::Invalid(format!("column {name:?} of type {kind} cannot be compared with {value}")))
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let key = terms.iter().find(|(index, _)| *index == table.key_index()).and_then(|(_, value)| match value {
            Scalar::Int(key) => Some(Key::Int(*key)),
            Scalar::Text(key) => Some(Key::Text(key.as_str().into())),
            Scalar::Bytes(key) => Some(Key::Bytes(key.as_slice().into())),
            _ => None,
        });
        Ok(Self { terms, key })
    }

    /// The one key whose row can match.
    pub(crate) fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether row `row` of a batch in table order matches.
    pub(crate) fn matches(&self, batch: &RecordBatch, row: usize) -> bool {
        self.terms.iter().all(|(index, value)| equals(batch.column(*index), row, value))
    }
}

/// Index of a column by name.
pub(crate) fn column(schema: &Schema, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| Error::Invalid(format!("the table has no column {name:?}")))
}

fn fits(kind: &DataType, value: &Scalar) -> bool {
    match value {
        Scalar::Null => true,
        Scalar::Bool(_) => kind == &DataType::Boolean,
        Scalar::Int(_) => kind.is_integer() || matches!(kind, DataType::Float32 | DataType::Float64),
        Scalar::Float(_) => matches!(kind, DataType::Float32 | DataType::Float64),
        Scalar::Text(_) => kind == &DataType::Utf8,
        Scalar::Bytes(_) => matches!(kind, DataType::Binary | DataType::FixedSizeBinary(_)),
    }
}

fn equals(column: &dyn Array, row: usize, value: &Scalar) -> bool {
    if column.is_null(row) {
        return value == &Scalar::Null;
    }
    match (column.data_type(), value) {
        (DataType::Boolean, Scalar::Bool(value)) => column.as_boolean().value(row) == *value,
        (DataType::Utf8, Scalar::Text(value)) => column.as_string::<i32>().value(row) == value,
        (DataType::Binary, Scalar::Bytes(value)) => column.as_binary::<i32>().value(row) == value,
        (DataType::FixedSizeBinary(_), Scalar::Bytes(value)) => column.as_fixed_size_binary().value(row) == value,
        (DataType::Float32, value) => float(value) == Some(f64::from(at::<Float32Type>(column, row))),
        (DataType::Float64, value) => float(value) == Some(at::<Float64Type>(column, row)),
        (kind, Scalar::Int(value)) => integer(column, kind, row) == Some(i128::from(*value)),
        _ => false,
    }
}

fn at<T: ArrowPrimitiveType>(column: &dyn Array, row: usize) -> T::Native {
    column.as_primitive::<T>().value(row)
}

#[expect(clippy::cast_precision_loss, reason = "an integer compared with floats is meant as a float")]
fn float(value: &Scalar) -> Option<f64> {
    match value {
        Scalar::Float(value) => Some(*value),
        Scalar::Int(value) => Some(*value as f64),
        _ => None,
    }
}

fn integer(column: &dyn Array, kind: &DataType, row: usize) -> Option<i128> {
    Some(match kind {
        DataType::Int8 => at::<Int8Type>(column, row).into(),
        DataType::Int16 => at::<Int16Type>(column, row).into(),
        DataType::Int32 => at::<Int32Type>(column, row).into(),
        DataType::Int64 => at::<Int64Type>(column, row).into(),
        DataType::UInt8 => at::<UInt8Type>(column, row).into(),
        DataType::UInt16 => at::<UInt16Type>(column, row).into(),
        DataType::UInt32 => at::<UInt32Type>(column, row).into(),
        DataType::UInt64 => at::<UInt64Type>(column, row).into(),
        _ => return None,
    })
}
