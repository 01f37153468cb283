//! A table gets columns: old rows have null there, earlier snapshots stay as they are, and it survives what commits do.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, FixedSizeListArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use perfuse_arrow_storage::{ArrowStorage, Change, Error, Key, Metric, Mode, Snapshot, TableDefinition};

fn vectors() -> Field {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    Field::new("v", DataType::FixedSizeList(item, 2), false)
}

fn definition(more: &[Field]) -> TableDefinition {
    let mut fields = vec![Field::new("id", DataType::Utf8, false), vectors()];
    fields.extend_from_slice(more);
    TableDefinition::new(&Schema::new(fields), "id", Some(("v", Metric::InnerProduct))).expect("a good definition")
}

fn wide() -> TableDefinition {
    definition(&[Field::new("n", DataType::Int64, true)])
}

fn wider() -> TableDefinition {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    definition(&[Field::new("n", DataType::Int64, true), Field::new("tags", list, true)])
}

fn rows(of: &TableDefinition, id: &str, x: f32, n: Option<i64>) -> RecordBatch {
    let vector = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([Some([Some(x), Some(0.0)])], 2);
    let DataType::FixedSizeList(item, _) = vectors().data_type().clone() else { panic!("it is a list") };
    let vector = FixedSizeListArray::new(item, 2, Arc::clone(vector.values()), None);
    let mut columns: Vec<Arc<dyn Array>> = vec![Arc::new(StringArray::from(vec![id])), Arc::new(vector)];
    columns.extend(n.map(|n| Arc::new(Int64Array::from(vec![n])) as Arc<dyn Array>));
    RecordBatch::try_new(Arc::clone(of.schema()), columns).expect("good rows")
}

fn open(path: &Path, mode: Mode) -> ArrowStorage {
    ArrowStorage::open(path, mode).expect("opens")
}

/// Id, and number where there is that column.
fn content(snapshot: &Snapshot) -> Vec<(String, Option<i64>)> {
    let batches = snapshot.scan("t", &[], None).expect("the table").batches;
    let of = |batch: &RecordBatch| {
        let number = |row: usize| {
            let column = batch.column_by_name("n")?.as_primitive::<Int64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        let ids = batch.column(0).as_string::<i32>();
        (0..batch.num_rows()).map(|row| (ids.value(row).to_owned(), number(row))).collect::<Vec<_>>()
    };
    batches.iter().flat_map(of).collect()
}

fn some(id: &str, n: Option<i64>) -> (String, Option<i64>) {
    (id.to_owned(), n)
}

#[test]
fn old_rows_have_null_in_the_new_column_for_owner_readers_and_after_compaction() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), Mode::Owner);
    store.create_table("t", &definition(&[])).expect("new");
    store.put("t", rows(&definition(&[]), "a", 1.0, None)).expect("durable");
    store.put("t", rows(&definition(&[]), "b", 2.0, None)).expect("durable");
    let reader = open(directory.path(), Mode::Reader);
    let before = store.snapshot();
    assert_eq!(store.evolve_table("t", &wide()), Ok(4));
    assert_eq!(store.evolve_table("t", &wide()), Ok(4), "it has that definition");
    store.put("t", rows(&wide(), "a", 3.0, Some(7))).expect("durable");
    let expected = vec![some("b", None), some("a", Some(7))];
    let found = |snapshot: &Snapshot| {
        let hits = snapshot.search("t", &[1.0, 0.0], 2, &[], Some(&["id".into(), "n".into()])).expect("found");
        (hits.column_by_name("id").expect("asked for").as_string::<i32>().value(0).to_owned(), hits.num_columns())
    };
    assert_eq!(content(&before), vec![some("a", None), some("b", None)]);
    assert_eq!((before.definition("t").expect("there").version(), before.lsn()), (1, 3));
    assert_eq!(reader.refresh(), Ok(5));
    store.compact().expect("room");
    let late = open(directory.path(), Mode::Reader);
    for snapshot in [store.snapshot(), reader.snapshot(), late.snapshot()] {
        assert_eq!((content(&snapshot), found(&snapshot)), (expected.clone(), ("a".into(), 4)));
        assert_eq!(snapshot.generation("t", &Key::Text("b".into())), Ok(3), "no row was written again");
        assert_eq!(snapshot.definition("t").map(TableDefinition::version), Ok(2));
    }
    assert_eq!(store.evolve_table("t", &wider()), Ok(6));
    drop(store);
    let store = open(directory.path(), Mode::Owner);
    let stats = store.stats().expect("stats").tables["t"].clone();
    assert_eq!((stats.schema_version, stats.fingerprint), (3, wider().fingerprint().to_owned()));
    assert_eq!((content(&store.snapshot()), store.verify().map(|verified| verified.lsn)), (expected, Ok(6)));
}

#[test]
fn a_compaction_that_has_begun_takes_the_new_column_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), Mode::Owner);
    store.create_table("t", &definition(&[])).expect("new");
    std::thread::scope(|scope| {
        scope.spawn(|| (0..20).for_each(|_| assert!(store.compact().is_ok())));
        for n in 0..20 {
            let more: Vec<Field> = (0..=n).map(|n| Field::new(format!("n{n}"), DataType::Int64, true)).collect();
            store.evolve_table("t", &definition(&more)).expect("durable");
        }
    });
    drop(store);
    let store = open(directory.path(), Mode::Owner);
    assert_eq!(store.snapshot().definition("t").map(TableDefinition::version), Ok(21));
}

#[test]
fn only_columns_that_may_be_null_are_added_and_only_behind_the_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), Mode::Owner);
    store.create_table("t", &wide()).expect("new");
    let refused = |definition: &TableDefinition| store.evolve_table("t", definition).expect_err("refused");
    let other = |fields: Vec<Field>, key: &str, metric: Metric| {
        TableDefinition::new(&Schema::new(fields), key, Some(("v", metric))).expect("a good definition")
    };
    let id = || Field::new("id", DataType::Utf8, false);
    let n = || Field::new("n", DataType::Int64, true);
    for (wider, message) in [
        (
            definition(&[]),
            "table \"t\": a table keeps its columns: expected \"n:int64?\" as column 2, came \"nothing\"",
        ),
        (
            definition(&[Field::new("n", DataType::Int32, true)]),
            "table \"t\": a table keeps its columns: expected \"n:int64?\" as column 2, came \"n:int32?\"",
        ),
        (
            definition(&[n(), Field::new("m", DataType::Int64, false)]),
            "table \"t\": new column \"m\": expected one that may be null, as it is in the rows that are there",
        ),
        (
            other(vec![id(), vectors(), n()], "id", Metric::Cosine),
            "table \"t\": a table keeps its key, its vectors and their metric",
        ),
    ] {
        assert_eq!(refused(&wider), Error::Invalid(message.into()));
    }
    assert_eq!(store.evolve_table("u", &wide()), Err(Error::NotFound("the store has no table \"u\"".into())));
    assert_eq!(
        store.commit(vec![("t".into(), Change::Evolve(wider()))]),
        Err(Error::Invalid("tables get columns by evolve_table".into()))
    );
    assert_eq!(store.snapshot().lsn(), 1);
}
