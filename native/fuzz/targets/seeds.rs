//! Writes seeds into corpus/: the files of a small store, before and after it is compacted, and sound rows.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, Int64Array, ListArray, RecordBatch, StringArray,
};
use arrow_schema::{DataType, Field, Schema};
use perfuse_arrow_storage::{ArrowStorage, Change, Metric, Mode, TableDefinition};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let store = tempfile::tempdir()?;
    let (plain, vectors) = (plain(0)?, vectors()?);
    let open = ArrowStorage::open(store.path(), Mode::Owner)?;
    open.create_table("a", &TableDefinition::new(&plain.schema(), "id", None)?)?;
    keep(store.path(), "wal", "log", "one-table")?;
    open.create_table("b", &TableDefinition::new(&vectors.schema(), "id", Some(("v", Metric::Cosine)))?)?;
    open.put("a", plain)?;
    open.commit(vec![("b".into(), Change::Put(vectors)), ("a".into(), Change::Put(self::plain(1)?))])?;
    open.commit(vec![("a".into(), Change::Delete(Arc::new(Int64Array::from(vec![0]))))])?;
    keep(store.path(), "wal", "log", "two-tables")?;
    open.compact()?;
    keep(store.path(), "manifest", "manifest", "two-tables")?;
    keep(store.path(), "seg", "segment", "rows")?;
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join("rows");
    fs::create_dir_all(&corpus)?;
    for table in 0..3 {
        // Small bytes choose what is sound.
        let choices = (0..400_u32).map(|index| (index * 37 % 113) as u8);
        fs::write(corpus.join(format!("seed-{table}")), [table, 3].into_iter().chain(choices).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Copies the files in `directory` of a store into the corpus of `target`.
fn keep(store: &Path, directory: &str, target: &str, name: &str) -> Result<(), Failure> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&corpus)?;
    for (index, file) in fs::read_dir(store.join(directory))?.enumerate() {
        fs::copy(file?.path(), corpus.join(format!("seed-{name}-{index}")))?;
    }
    Ok(())
}

fn plain(from: i64) -> Result<RecordBatch, Failure> {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
        Field::new("yes", DataType::Boolean, true),
        Field::new("hash", DataType::FixedSizeBinary(3), true),
        Field::new("list", DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true))), true),
    ]);
    let ids = [from, from + 1, from + 2];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.to_vec())),
        Arc::new(StringArray::from(vec![Some("ä"), None, Some("")])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids.iter().map(|_| Some([7; 3])), 3)?),
        Arc::new(ListArray::from_iter_primitive::<arrow_array::types::Int64Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ])),
    ];
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

fn vectors() -> Result<RecordBatch, Failure> {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let schema = Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("v", DataType::FixedSizeList(item, 2), false),
    ]);
    let vectors = [[1.0, 0.5], [0.25, 2.0], [-1.0, 0.0]].map(|vector| Some(vector.map(Some)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["x", "y", "z"])),
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 2)),
    ];
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}
