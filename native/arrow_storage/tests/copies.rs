//! A backup is what was committed when it began, whatever its owner does; a repair gives up no more than it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use perfuse_arrow_storage::{ArrowStorage, Error, Mode, Repaired, TableDefinition, repair};

fn definition() -> TableDefinition {
    TableDefinition::new(&Schema::new(vec![Field::new("id", DataType::Int64, false)]), "id", None).expect("good")
}

fn put(store: &ArrowStorage, id: i64) -> u64 {
    let columns = vec![Arc::new(Int64Array::from(vec![id])) as _];
    store.put("t", RecordBatch::try_new(Arc::clone(definition().schema()), columns).expect("good")).expect("durable")
}

fn ids(store: &ArrowStorage) -> Vec<i64> {
    let batches = store.snapshot().scan("t", &[], None).expect("a table").batches;
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn open(path: &Path, mode: Mode) -> ArrowStorage {
    ArrowStorage::open(path, mode).expect("opens")
}

fn log(store: &Path, number: u64) -> PathBuf {
    store.join("wal").join(format!("{number:020}.wal"))
}

fn filled(path: &Path, count: i64) -> ArrowStorage {
    let store = open(path, Mode::Owner);
    store.create_table("t", &definition()).expect("new");
    for id in 0..count {
        put(&store, id);
    }
    store
}

#[test]
fn owner_and_reader_make_copies_that_are_stores_of_their_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let store = filled(&at("store"), 3);
    let first = store.backup(&at("first")).expect("copied");
    assert_eq!((first.segments, first.records, first.lsn), (0, 4, 4));
    store.compact().expect("compacted");
    put(&store, 3);
    let second = open(&at("store"), Mode::Reader).backup(&at("second")).expect("copied");
    assert_eq!((second.segments, second.records, second.lsn), (1, 1, 5));
    put(&store, 4);
    let copy = open(&at("second"), Mode::Owner);
    assert_eq!((ids(&copy), ids(&open(&at("first"), Mode::Reader))), (vec![0, 1, 2, 3], vec![0, 1, 2]));
    assert_eq!((put(&copy, 9), ids(&store).len()), (6, 5));
    assert_eq!(
        store.backup(&at("first")),
        Err(Error::Invalid(format!("{} is there already; expected a new directory", at("first").display())))
    );
    assert!(!at("first.new").exists());
}

#[test]
fn a_copy_holds_all_that_was_committed_before_it_while_the_owner_writes_and_compacts() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = filled(&directory.path().join("store"), 1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                put(&store, id);
                if id % 20 == 0 {
                    store.compact().expect("compacted");
                }
            }
        });
        let reader = open(&directory.path().join("store"), Mode::Reader);
        for round in 0..30 {
            let before = store.snapshot().lsn();
            let target = directory.path().join(format!("copy{round}"));
            let copied = if round % 2 == 0 { store.backup(&target) } else { reader.backup(&target) }.expect("copied");
            assert!(copied.lsn >= before, "{} < {before}", copied.lsn);
            let expected: Vec<i64> = (0..i64::try_from(copied.lsn).expect("small") - 1).collect();
            assert_eq!(ids(&open(&target, Mode::Reader)), expected);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_copy_of_a_damaged_store_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = filled(&directory.path().join("store"), 3);
    store.compact().expect("compacted");
    let segment = directory.path().join("store").join("seg").join(format!("{:020}-0000.arrow", 1));
    let mut bytes = fs::read(&segment).expect("read");
    bytes[70] ^= 1;
    fs::write(&segment, bytes).expect("written");
    assert!(matches!(store.backup(&directory.path().join("copy")), Err(Error::Corrupt(_))));
    let left: Vec<_> =
        fs::read_dir(directory.path()).expect("read").map(|entry| entry.expect("read").file_name()).collect();
    assert_eq!(left, ["store"]);
}

#[test]
fn a_repair_keeps_what_is_before_the_damage_and_puts_the_log_aside() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    drop(filled(path, 3));
    assert_eq!(repair(path), Ok(None));
    let good = fs::read(log(path, 1)).expect("read");
    let third = good.len() / 5 * 3;
    let mut bad = good.clone();
    bad[third] ^= 1;
    fs::write(log(path, 1), &bad).expect("written");
    assert!(matches!(ArrowStorage::open(path, Mode::Owner), Err(Error::Corrupt(_))));
    let aside = log(path, 1).with_extension("damaged");
    let repaired = repair(path).expect("repaired").expect("damaged");
    assert_eq!((repaired.acknowledged, &repaired.aside), (4, &Some(aside.clone())));
    assert!((1..4).contains(&repaired.kept), "{repaired:?}");
    assert_eq!(fs::read(aside).expect("kept"), bad);
    let store = open(path, Mode::Owner);
    let expected: Vec<i64> = (0..i64::try_from(repaired.kept).expect("small") - 1).collect();
    assert_eq!(ids(&store), expected);
    assert_eq!(put(&store, 7), repaired.kept + 1);
    drop(store);
    assert_eq!(repair(path), Ok(None));
}

#[test]
fn a_log_that_lost_its_end_and_a_page_that_is_damaged_are_repaired() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    drop(filled(path, 3));
    let length = fs::metadata(log(path, 1)).expect("there").len();
    fs::File::options().write(true).open(log(path, 1)).expect("opens").set_len(length - 8).expect("cut");
    let repaired = repair(path).expect("repaired").expect("damaged");
    assert_eq!((repaired.kept, repaired.acknowledged), (3, 4));
    assert_eq!(ids(&open(path, Mode::Owner)), [0, 1]);

    let page = path.join("commit");
    let mut bytes = fs::read(&page).expect("read");
    bytes[0] ^= 1;
    fs::write(&page, bytes).expect("written");
    assert!(matches!(ArrowStorage::open(path, Mode::Owner), Err(Error::Corrupt(_))));
    assert_eq!(repair(path), Ok(Some(Repaired { kept: 3, acknowledged: 3, aside: None })));
    assert_eq!(ids(&open(path, Mode::Owner)), [0, 1]);
}

#[test]
fn a_store_that_is_owned_or_is_none_or_lost_a_segment_is_not_repaired() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    assert_eq!(repair(&path), Err(Error::NotFound(format!("there is no store in {}", path.display()))));
    assert!(!path.exists());
    let store = filled(&path, 1);
    assert!(matches!(repair(&path), Err(Error::Locked(_))));
    store.compact().expect("compacted");
    drop(store);
    fs::remove_file(path.join("seg").join(format!("{:020}-0000.arrow", 1))).expect("removed");
    assert!(matches!(repair(&path), Err(Error::Corrupt(_))));
}
