//! What a table is: Arrow schema, key column, vector column; and the fingerprint both languages compute alike.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, make_array, new_null_array};
use arrow_data::transform::MutableArrayData;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use perfuse_vector_search::Metric;
use sha2::{Digest, Sha256};

use crate::codec::head;
use crate::error::{Error, Result};

const KEY: &str = "perfuse.key";
const VECTOR: &str = "perfuse.vector";
const METRIC: &str = "perfuse.metric";
const VERSION: &str = "perfuse.version";

/// A row's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Of an `int64` column.
    Int(i64),
    /// Of a `string` column.
    Text(Box<str>),
    /// Of a `binary` column.
    Bytes(Box<[u8]>),
}

impl std::fmt::Display for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(value) => write!(formatter, "{value}"),
            Self::Text(value) => write!(formatter, "{value:?}"),
            Self::Bytes(value) => {
                formatter.write_str("0x")?;
                value.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }
    }
}

/// The vectors of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VectorColumn {
    pub(crate) index: usize,
    pub(crate) width: usize,
    pub(crate) metric: Metric,
}

/// A table's schema, key and vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct TableDefinition {
    schema: SchemaRef,
    key: usize,
    vector: Option<VectorColumn>,
    version: u32,
    fingerprint: String,
    head: Arc<[u8]>,
}

impl TableDefinition {
    /// Checks the definition of a new table.
    pub fn new(schema: &Schema, key: &str, vector: Option<(&str, Metric)>) -> Result<Self> {
        canonical_schema(schema)?;
        let mut seen = HashMap::new();
        for (index, field) in schema.fields().iter().enumerate() {
            if field.name().starts_with('_') || field.name().is_empty() {
                return invalid(format!(
                    "column {:?}: names are not empty and do not start with an underscore",
                    field.name()
                ));
            }
            if seen.insert(field.name().as_str(), index).is_some() {
                return invalid(format!("the schema names column {:?} twice", field.name()));
            }
        }
        let find = |role: &str, name: &str| {
            seen.get(name).copied().ok_or_else(|| Error::Invalid(format!("the schema has no {role} column {name:?}")))
        };
        let key_index = find("key", key)?;
        let key_type = schema.field(key_index).data_type();
        if !matches!(key_type, DataType::Utf8 | DataType::Int64 | DataType::Binary) {
            return invalid(format!("key column {key:?}: expected string, int64 or binary, came {key_type}"));
        }
        let vector = vector
            .map(|(name, metric)| match schema.field(find("vector", name)?).data_type() {
                DataType::FixedSizeList(item, width) if item.data_type() == &DataType::Float32 && *width > 0 => {
                    Ok(VectorColumn { index: find("vector", name)?, width: width.cast_unsigned() as usize, metric })
                }
                other => invalid(format!("vector column {name:?}: expected a fixed-size list of float, came {other}")),
            })
            .transpose()?;
        let named = vector.as_ref().map(|vector| (schema.field(vector.index).name().as_str(), vector.metric.name()));
        let fingerprint = fingerprint(schema, key, named)?;
        let metadata = schema.metadata().iter().filter(|(name, _)| !name.starts_with("perfuse."));
        let mut metadata: HashMap<String, String> =
            metadata.map(|(name, value)| (name.clone(), value.clone())).collect();
        metadata.insert(KEY.into(), key.into());
        if let Some(vector) = &vector {
            metadata.insert(VECTOR.into(), schema.field(vector.index).name().clone());
            metadata.insert(METRIC.into(), vector.metric.name().into());
        }
        let schema = Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata));
        let head = encoded(&schema)?;
        Ok(Self { schema, key: key_index, vector, version: 1, fingerprint, head })
    }

    fn of_version(mut self, version: u32) -> Result<Self> {
        let mut metadata = self.schema.metadata().clone();
        metadata.insert(VERSION, version.to_string());
        self.schema = Arc::new(Schema::new_with_metadata(self.schema.fields().clone(), metadata));
        self.head = encoded(&self.schema)?;
        self.version = version;
        Ok(self)
    }

    /// The next version of a table: `wider` has the same key and vectors, the same columns, and more behind them that
    /// may be null.
    pub(crate) fn evolved(&self, wider: &Self) -> Result<Self> {
        let line = |field: &Field| canonical_schema(&Schema::new(vec![field.clone()]));
        let (mine, theirs) = (self.schema.fields(), wider.schema.fields());
        for (index, field) in mine.iter().enumerate() {
            let (expected, came) = (line(field)?, theirs.get(index).map_or(Ok("nothing".into()), |field| line(field))?);
            if expected != came {
                return invalid(format!(
                    "a table keeps its columns: expected {:?} as column {index}, came {:?}",
                    expected.trim_end(),
                    came.trim_end()
                ));
            }
        }
        if let Some(field) = theirs.iter().skip(mine.len()).find(|field| !field.is_nullable()) {
            return invalid(format!(
                "new column {:?}: expected one that may be null, as it is in the rows that are there",
                field.name()
            ));
        }
        if (self.key(), self.vector()) != (wider.key(), wider.vector()) {
            return invalid("a table keeps its key, its vectors and their metric".into());
        }
        wider.clone().of_version(self.version.saturating_add(1))
    }

    /// How often the table has evolved, and one.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// A batch of this or an earlier version with null in the columns it lacks.
    pub(crate) fn widen(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let missing = self.schema.fields().iter().skip(batch.num_columns());
        if missing.len() == 0 {
            return Ok(batch);
        }
        let nulls = missing.map(|field| new_null_array(field.data_type(), batch.num_rows()));
        let columns = batch.columns().iter().cloned().chain(nulls).collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| Error::Corrupt(error.to_string()))
    }

    /// Reads a definition back from the schema it was stored as.
    pub(crate) fn from_stored(schema: &Schema) -> Result<Self> {
        let metadata = |name: &str| schema.metadata().get(name).map(String::as_str);
        let key = metadata(KEY).ok_or_else(|| Error::Corrupt("a stored table names no key column".into()))?;
        let vector = metadata(VECTOR)
            .map(|column| {
                let metric = metadata(METRIC).and_then(Metric::named);
                metric
                    .map(|metric| (column, metric))
                    .ok_or_else(|| Error::Corrupt("a stored table has no known metric".into()))
            })
            .transpose()?;
        let definition = Self::new(schema, key, vector)?;
        let Some(version) = metadata(VERSION) else { return Ok(definition) };
        let version = version.parse().map_err(|_| Error::Corrupt("a stored table has no known version".into()))?;
        definition.of_version(version)
    }

    /// The Arrow schema; its metadata holds key, vector column and metric.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How a stream of its rows begins.
    pub(crate) fn head(&self) -> &Arc<[u8]> {
        &self.head
    }

    /// Name of the key column.
    pub fn key(&self) -> &str {
        self.schema.field(self.key).name()
    }

    /// Name of the vector column and its metric.
    pub fn vector(&self) -> Option<(&str, Metric)> {
        self.vector.as_ref().map(|vector| (self.schema.field(vector.index).name().as_str(), vector.metric))
    }

    pub(crate) fn vector_column(&self) -> Option<&VectorColumn> {
        self.vector.as_ref()
    }

    pub(crate) fn key_index(&self) -> usize {
        self.key
    }

    /// SHA-256 of the canonical schema, key and vector column; the same in Rust and Python.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A copy of `batch` with its columns in table order, fit to be stored.
    pub(crate) fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let came = batch.schema();
        if let Some(extra) = came.fields().iter().find(|field| self.schema.index_of(field.name()).is_err()) {
            return invalid(format!("the table has no column {:?}", extra.name()));
        }
        let columns = self.schema.fields().iter().map(|field| {
            let column = batch
                .column_by_name(field.name())
                .ok_or_else(|| Error::Invalid(format!("the rows lack column {:?}", field.name())))?;
            if field.is_nullable() || column.null_count() == 0 {
                own(&adapt(column, field)?)
            } else {
                invalid(format!("column {:?} holds null, which its schema excludes", field.name()))
            }
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| Error::Invalid(error.to_string()))
    }

    /// The key of each row of a batch in table order; keys are neither null nor repeated.
    pub(crate) fn keys(&self, column: &dyn Array) -> Result<Vec<Key>> {
        if column.null_count() > 0 {
            return invalid(format!("key column {:?} holds null", self.key()));
        }
        Ok(match column.data_type() {
            DataType::Int64 => column.as_primitive::<Int64Type>().values().iter().map(|&key| Key::Int(key)).collect(),
            DataType::Utf8 => column.as_string::<i32>().iter().flatten().map(|key| Key::Text(key.into())).collect(),
            DataType::Binary => column.as_binary::<i32>().iter().flatten().map(|key| Key::Bytes(key.into())).collect(),
            other => {
                let expected = self.schema.field(self.key).data_type();
                return invalid(format!("key column {:?}: expected {expected}, came {other}", self.key()));
            }
        })
    }

    /// The length of each row's vector, none of them without a place in the order.
    pub(crate) fn lengths(&self, batch: &RecordBatch) -> Result<Vec<f32>> {
        let Some(vector) = &self.vector else { return Ok(Vec::new()) };
        let name = self.schema.field(vector.index).name();
        let column = batch.column(vector.index);
        let values = column.as_fixed_size_list().values();
        if column.null_count() > 0 || values.null_count() > 0 {
            return invalid(format!("vector column {name:?} holds null"));
        }
        let floats = values.as_primitive::<Float32Type>().values();
        let rows = floats.chunks_exact(vector.width).enumerate();
        rows.map(|(row, values)| {
            let unfit = |problem| Error::Invalid(format!("vector column {name:?}: vector {row} {problem}"));
            vector.metric.length(values).map_err(unfit)
        })
        .collect()
    }
}

fn encoded(schema: &Schema) -> Result<Arc<[u8]>> {
    head(schema).map_err(|error| Error::Invalid(error.to_string()))
}

/// A copy of the column that shares no memory with it, checked afterwards: its buffers may be somebody's who changes them.
pub(crate) fn own(column: &ArrayRef) -> Result<ArrayRef> {
    let unfit = |error: arrow_schema::ArrowError| Error::Invalid(error.to_string());
    let came = column.to_data();
    let mut copy = MutableArrayData::new(vec![&came], false, came.len());
    copy.try_extend(0, 0, came.len()).map_err(unfit)?;
    let copy = copy.freeze();
    copy.validate_full().map_err(unfit)?;
    Ok(make_array(copy))
}

/// The column as the field's type; inner field names and nullability may differ, nothing else.
fn adapt(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    if type_name(column.data_type()) == type_name(field.data_type()) {
        let data = column.to_data().into_builder().data_type(field.data_type().clone()).build();
        if let Ok(data) = data {
            return Ok(make_array(data));
        }
    }
    invalid(format!("column {:?}: expected {}, came {}", field.name(), field.data_type(), column.data_type()))
}

/// One line per column, `name:type` or `name:type?` where null may stand; names are escaped like Rust strings' quotes
/// and backslashes. Refuses types that a table cannot hold.
pub fn canonical_schema(schema: &Schema) -> Result<String> {
    let mut text = String::new();
    for field in schema.fields() {
        let Some(kind) = type_name(field.data_type()) else {
            return invalid(format!("column {:?}: a table cannot hold {}", field.name(), field.data_type()));
        };
        let name = field.name().replace('\\', "\\\\").replace('\n', "\\n").replace(':', "\\:");
        let _ = writeln!(text, "{name}:{kind}{}", if field.is_nullable() { "?" } else { "" });
    }
    Ok(text)
}

/// SHA-256 (hex) of `canonical_schema`, then `key=…` and `vector=…:metric`.
pub fn fingerprint(schema: &Schema, key: &str, vector: Option<(&str, &str)>) -> Result<String> {
    let mut text = canonical_schema(schema)?;
    let _ = writeln!(text, "key={key}");
    if let Some((column, metric)) = vector {
        let _ = writeln!(text, "vector={column}:{metric}");
    }
    Ok(hex(&Sha256::digest(text.as_bytes())))
}

/// Two lower-case digits per byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn type_name(kind: &DataType) -> Option<String> {
    let simple = match kind {
        DataType::Boolean => "bool",
        DataType::Int8 => "int8",
        DataType::Int16 => "int16",
        DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt8 => "uint8",
        DataType::UInt16 => "uint16",
        DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 => "string",
        DataType::Binary => "binary",
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp[us]",
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => return Some(format!("timestamp[us, tz={zone}]")),
        DataType::FixedSizeBinary(width @ 0..) => return Some(format!("fixed_size_binary[{width}]")),
        DataType::List(item) => return Some(format!("list<{}>", type_name(item.data_type())?)),
        DataType::FixedSizeList(item, width @ 0..) => {
            return Some(format!("fixed_size_list<{}>[{width}]", type_name(item.data_type())?));
        }
        _ => return None,
    };
    Some(simple.into())
}

fn invalid<T>(message: String) -> Result<T> {
    Err(Error::Invalid(message))
}
