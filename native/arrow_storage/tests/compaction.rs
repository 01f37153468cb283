//! Compaction keeps every row with its generation and its place, for owner and readers, and nothing of what is gone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, FixedSizeListArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use perfuse_arrow_storage::{ArrowStorage, Change, Compacted, Error, Key, Metric, Mode, Snapshot, TableDefinition};
use proptest::prelude::*;

const WIDTH: i32 = 4;

fn definition() -> TableDefinition {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let fields = vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("n", DataType::Int64, true),
        Field::new("v", DataType::FixedSizeList(item, WIDTH), false),
    ];
    TableDefinition::new(&Schema::new(fields), "id", Some(("v", Metric::InnerProduct))).expect("a good definition")
}

fn rows<'a>(items: impl IntoIterator<Item = (&'a str, i64)>) -> RecordBatch {
    let (ids, numbers): (Vec<_>, Vec<_>) = items.into_iter().unzip();
    let float = |n: i64| f32::from(i16::try_from(n).expect("small"));
    let vectors = numbers.iter().map(|&n| Some((0..i64::from(WIDTH)).map(move |k| Some(float(n * 7 + k)))));
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, WIDTH);
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let vectors = FixedSizeListArray::new(item, WIDTH, Arc::clone(vectors.values()), None);
    let columns: Vec<Arc<dyn Array>> =
        vec![Arc::new(StringArray::from(ids)), Arc::new(Int64Array::from(numbers)), Arc::new(vectors)];
    RecordBatch::try_new(Arc::clone(definition().schema()), columns).expect("good rows")
}

fn open(path: &Path, mode: Mode) -> ArrowStorage {
    ArrowStorage::open(path, mode).expect("opens")
}

fn created(path: &Path) -> ArrowStorage {
    let store = open(path, Mode::Owner);
    store.create_table("t", &definition()).expect("a new table");
    store
}

fn delete(store: &ArrowStorage, ids: &[&str]) -> u64 {
    let keys = Arc::new(StringArray::from(ids.to_vec()));
    store.commit(vec![("t".into(), Change::Delete(keys))]).expect("durable")
}

/// The rows in their order: id, number, generation.
type Content = Vec<(String, i64, u64)>;

fn content(snapshot: &Snapshot) -> Content {
    let batches = snapshot.scan("t", &[], None).expect("the table").batches;
    let row = |(id, n): (Option<&str>, Option<i64>)| {
        let generation = snapshot.generation("t", &Key::Text(id.expect("no null").into())).expect("the table");
        (id.expect("no null").to_owned(), n.expect("no null"), generation)
    };
    let rows = |batch: &RecordBatch| {
        let columns = batch.column(0).as_string::<i32>().iter().zip(batch.column(1).as_primitive::<Int64Type>());
        columns.map(row).collect::<Vec<_>>()
    };
    batches.iter().flat_map(rows).collect()
}

fn files(store: &Path) -> Vec<PathBuf> {
    let list = |directory: &Path| fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("one").path());
    let mut found: Vec<PathBuf> = list(store).filter(|path| path.is_file()).collect();
    for directory in ["manifest", "seg", "wal"] {
        found.extend(list(&store.join(directory)));
    }
    found.sort();
    found
}

fn hold(store: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| fs::read(path).expect("a file").windows(bytes.len()).any(|window| window == bytes);
    files(store).into_iter().filter(holds).collect()
}

#[test]
fn rows_generations_order_and_lsn_stay_and_writing_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = created(directory.path());
    store.put("t", rows([("a", 1), ("b", 2), ("c", 3)])).expect("durable");
    store.put("t", rows([("a", 4)])).expect("durable");
    delete(&store, &["b"]);
    let before = store.snapshot();
    let expected = vec![("c".into(), 3, 2), ("a".into(), 4, 3)];
    let log = store.stats().expect("stats").log_bytes;
    let compacted = store.compact().expect("room");
    let after = store.stats().expect("stats");
    assert_eq!(compacted, Compacted { manifest: 1, lsn: 4, rows: 2, before: log, after: after.segment_bytes + 64 });
    assert_eq!((after.manifest, after.log_bytes, after.lsn), (1, 64, 4));
    assert_eq!((after.tables["t"].rows, after.tables["t"].versions), (2, 2));
    assert_eq!((content(&before), content(&store.snapshot())), (expected.clone(), expected.clone()));
    let key = Key::Text("a".into());
    assert_eq!(store.compare_and_swap("t", &key, 2, rows([("a", 5)])), Ok(None));
    assert_eq!(store.compare_and_swap("t", &key, 3, rows([("a", 5)])), Ok(Some(5)));
    assert_eq!(content(&before), expected, "a snapshot is for ever");
    drop(store);
    let store = open(directory.path(), Mode::Owner);
    assert_eq!(content(&store.snapshot()), vec![("c".into(), 3, 2), ("a".into(), 5, 5)]);
    assert_eq!(store.create_table("t", &definition()), Ok(5), "the definition stayed");
}

#[test]
fn an_empty_store_and_an_empty_table_are_compacted_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), Mode::Owner);
    assert_eq!(store.compact().map(|compacted| (compacted.manifest, compacted.rows)), Ok((1, 0)));
    store.create_table("t", &definition()).expect("a new table");
    store.compact().expect("room");
    drop(store);
    let store = open(directory.path(), Mode::Owner);
    assert_eq!((content(&store.snapshot()), store.snapshot().lsn()), (Vec::new(), 1));
    assert_eq!(store.put("t", rows([("a", 1)])), Ok(2));
}

#[test]
fn after_two_compactions_no_byte_of_what_was_deleted_is_in_any_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = created(directory.path());
    store.compact().expect("room");
    let ids: Vec<String> = (0..200).map(|n| format!("secret of {n}")).collect();
    store.put("t", rows(ids.iter().map(String::as_str).zip(1..))).expect("durable");
    store.put("t", rows([("kept", 0)])).expect("durable");
    store.compact().expect("room");
    delete(&store, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!hold(directory.path(), b"secret").is_empty());
    store.compact().expect("room");
    store.compact().expect("room");
    assert_eq!(hold(directory.path(), b"secret"), Vec::<PathBuf>::new());
    assert_eq!(hold(directory.path(), b"kept").len(), 2, "in the last two manifests' segments");
    let stems = files(directory.path()).len();
    assert_eq!(stems, 2 + 3 * 2, "commit page and lock; manifest, segment and log, twice");
}

#[test]
fn what_a_killed_compaction_left_is_gone_when_the_next_owner_opens() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = created(directory.path());
    store.compact().expect("room");
    let before = files(directory.path());
    drop(store);
    for left in
        ["seg/00000000000000000002-0000.new", "seg/00000000000000000002-0000.arrow", "wal/00000000000000000003.wal"]
    {
        fs::write(directory.path().join(left), b"half").expect("written");
    }
    drop(open(directory.path(), Mode::Owner));
    assert_eq!(files(directory.path()), before);
}

#[test]
fn tables_of_many_batches_and_blocks_are_searched_alike_before_and_after() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = created(directory.path());
    let ids: Vec<String> = (0..20_000).map(|n| format!("row {n}")).collect();
    let all: Vec<(&str, i64)> = ids.iter().map(String::as_str).zip((0..997).cycle()).collect();
    for part in all.chunks(3_000) {
        store.put("t", rows(part.iter().copied())).expect("durable");
    }
    delete(&store, &ids.iter().step_by(3).map(String::as_str).collect::<Vec<_>>());
    let found = |store: &ArrowStorage| store.snapshot().search("t", &[1.0, -2.0, 0.5, 3.0], 300, &[], None);
    let (rows_before, found_before) = (content(&store.snapshot()), found(&store));
    assert_eq!(store.compact().map(|compacted| compacted.rows), Ok(13_333));
    let reader = open(directory.path(), Mode::Reader);
    drop(store);
    let again = open(directory.path(), Mode::Owner);
    for store in [&reader, &again] {
        assert_eq!((content(&store.snapshot()), found(store)), (rows_before.clone(), found_before.clone()));
    }
    assert_eq!((again.verify(), again.verify().expect("whole").segments), (reader.verify(), 1));
    assert!(again.verify().expect("whole").segment_bytes > 4 << 16);
}

#[test]
fn a_compaction_is_due_when_most_of_the_files_is_dead() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = created(directory.path());
    let ids: Vec<String> = (0..1000).map(|n| format!("{n}{}", "x".repeat(10_000))).collect();
    let put = || store.put("t", rows(ids.iter().map(String::as_str).zip(0..))).expect("durable");
    put();
    assert!(!store.compaction_due(), "all of it is alive");
    put();
    assert!(!store.compaction_due(), "less than 16 MiB are dead");
    put();
    assert!(store.compaction_due());
    store.compact().expect("room");
    assert!(!store.compaction_due());
}

#[test]
fn a_compaction_is_due_when_the_log_holds_many_commits() {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = directory.expect("a directory");
    let store = created(directory.path());
    let put = |n: i64| store.put("t", rows([(format!("{n}").as_str(), n % 100)])).expect("durable");
    (1..2_000).for_each(|n| assert_eq!(put(n), u64::try_from(n).expect("positive") + 1));
    assert!(!store.compaction_due());
    put(2_000);
    assert!(store.compaction_due());
    store.compact().expect("room");
    put(1);
    assert!(!store.compaction_due());
}

#[test]
fn only_the_owner_compacts() {
    let directory = tempfile::tempdir().expect("a directory");
    let _store = created(directory.path());
    let expected = format!("{} was opened to read; only its owner compacts", directory.path().display());
    assert_eq!(open(directory.path(), Mode::Reader).compact(), Err(Error::Invalid(expected)));
}

#[test]
fn a_reader_that_missed_several_compactions_goes_on_and_its_snapshots_stay() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = created(directory.path());
    store.put("t", rows([("a", 1), ("b", 2)])).expect("durable");
    let reader = open(directory.path(), Mode::Reader);
    let held = reader.snapshot();
    for n in 3..8 {
        store.put("t", rows([("a", n)])).expect("durable");
        store.compact().expect("room");
    }
    delete(&store, &["b"]);
    assert_eq!(content(&held), vec![("a".into(), 1, 2), ("b".into(), 2, 2)]);
    assert_eq!(content(&reader.snapshot()), content(&held), "nothing moves without a refresh");
    assert_eq!(reader.refresh(), Ok(8));
    assert_eq!(content(&reader.snapshot()), vec![("a".into(), 7, 7)]);
    assert_eq!(content(&held), vec![("a".into(), 1, 2), ("b".into(), 2, 2)]);
    assert_eq!(reader.stats().expect("stats").manifest, 5);
}

#[test]
fn a_reader_goes_over_to_a_new_manifest_without_a_commit_and_lets_the_old_files_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = created(directory.path());
    let reader = open(directory.path(), Mode::Reader);
    store.compact().expect("room");
    assert_eq!((reader.refresh(), reader.stats().expect("stats").manifest), (Ok(1), 1));
}

#[test]
fn readers_see_every_commit_once_while_an_owner_writes_and_compacts() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = created(directory.path());
    let done = AtomicBool::new(false);
    // Commit n puts row n and replaces "last", so what is there says which commits are.
    let check = |snapshot: &Snapshot| {
        let rows = content(snapshot);
        assert_eq!(rows.len() as u64, snapshot.lsn().max(1) - 1 + u64::from(snapshot.lsn() > 1));
        assert!(
            rows.iter().all(|(id, n, generation)| id == "last" || *n == i64::try_from(*generation).expect("small"))
        );
        assert!(rows.iter().all(|(id, _, generation)| id != "last" || *generation == snapshot.lsn()));
    };
    std::thread::scope(|scope| {
        for late in [false, true] {
            let (path, done) = (directory.path(), &done);
            scope.spawn(move || {
                let mut reader = open(path, Mode::Reader);
                let (mut seen, mut held) = (0, reader.snapshot());
                while !done.load(Ordering::Acquire) {
                    if late {
                        reader = open(path, Mode::Reader);
                    }
                    let lsn = reader.refresh().expect("follows");
                    assert!(lsn >= seen, "LSN {lsn} came after {seen}");
                    seen = lsn;
                    check(&held);
                    held = reader.snapshot();
                    check(&held);
                    reader.verify().expect("whole");
                }
                reader.refresh().expect("follows");
                check(&reader.snapshot());
                assert_eq!(reader.snapshot().lsn(), 121);
            });
        }
        scope.spawn(|| {
            for _ in 0..40 {
                store.compact().expect("room");
                check(&store.snapshot());
            }
        });
        for n in 2..=121 {
            store.put("t", rows([(format!("row {n}").as_str(), n), ("last", n)])).expect("durable");
        }
        done.store(true, Ordering::Release);
    });
}

/// A store with a manifest, a segment of more than one block and two commits in the log; what it holds.
fn compacted(path: &Path) -> Content {
    let store = created(path);
    let ids: Vec<String> = (0..2_000).map(|n| format!("row {n}")).collect();
    store.put("t", rows(ids.iter().map(String::as_str).zip(0..))).expect("durable");
    store.compact().expect("room");
    store.put("t", rows([("a", 1)])).expect("durable");
    store.put("t", rows([("b", 2)])).expect("durable");
    content(&store.snapshot())
}

fn outcomes(path: &Path) -> [Result<Content, Error>; 2] {
    [Mode::Reader, Mode::Owner].map(|mode| ArrowStorage::open(path, mode).map(|store| content(&store.snapshot())))
}

#[test]
fn damage_of_a_segment_is_named_with_file_and_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    compacted(directory.path());
    let reader = open(directory.path(), Mode::Reader);
    let segment = directory.path().join("seg/00000000000000000001-0000.arrow");
    let good = fs::read(&segment).expect("the segment");
    assert!(good.len() > 1 << 16);
    let last = good.len() - 1;
    for (byte, from, to) in [(0, 0, 65536), (65535, 0, 65536), (65536, 65536, good.len()), (last, 65536, good.len())] {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        fs::write(&segment, &bad).expect("written");
        let expected = Error::Corrupt(format!(
            "{}: bytes {from} to {to} of table \"t\" fail their checksum; restore the store from a copy",
            segment.display()
        ));
        assert_eq!(outcomes(directory.path()), [Err(expected.clone()), Err(expected.clone())]);
        assert_eq!(reader.verify(), Err(expected));
    }
    fs::write(&segment, &good[..last]).expect("written");
    let expected = Error::Corrupt(format!(
        "{}: expected a segment of {} bytes, came {last}; restore the store from a copy",
        segment.display(),
        good.len()
    ));
    assert_eq!(outcomes(directory.path()), [Err(expected.clone()), Err(expected)]);
}

#[test]
fn a_flipped_byte_anywhere_in_a_compacted_store_is_noticed_or_harmless() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = created(directory.path());
    store.put("t", rows([("x", 5), ("y", 6)])).expect("durable");
    store.compact().expect("room");
    store.put("t", rows([("z", 7)])).expect("durable");
    store.compact().expect("room");
    store.put("t", rows([("w", 8)])).expect("durable");
    let expected = content(&store.snapshot());
    drop(store);
    let newest = [
        "manifest/00000000000000000002.manifest",
        "seg/00000000000000000002-0000.arrow",
        "wal/00000000000000000003.wal",
    ];
    for name in newest {
        let path = directory.path().join(name);
        let good = fs::read(&path).expect("a file");
        for byte in 0..good.len() {
            if name.starts_with("wal") && (52..64).contains(&byte) {
                continue; // the unused rest of the header
            }
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            fs::write(&path, &bad).expect("written");
            let outcome = ArrowStorage::open(directory.path(), Mode::Reader).map(|store| content(&store.snapshot()));
            let Err(Error::Corrupt(message)) = outcome else { panic!("byte {byte} of {name}: {outcome:?}") };
            assert!(message.contains(&path.display().to_string()), "{message}");
        }
        fs::write(&path, &good).expect("written");
    }
    for kept in [
        "manifest/00000000000000000001.manifest",
        "seg/00000000000000000001-0000.arrow",
        "wal/00000000000000000002.wal",
    ] {
        fs::write(directory.path().join(kept), b"damaged").expect("written");
    }
    assert_eq!(outcomes(directory.path()), [Ok(expected.clone()), Ok(expected)]);
}

#[test]
fn a_missing_file_of_the_newest_manifest_is_corruption_not_an_older_store() {
    for (name, verb) in [
        ("manifest/00000000000000000001.manifest", "read"),
        ("seg/00000000000000000001-0000.arrow", "open"),
        ("wal/00000000000000000002.wal", "open"),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        compacted(directory.path());
        let path = directory.path().join(name);
        fs::remove_file(&path).expect("there was one");
        let expected = Error::Corrupt(format!(
            "could not {verb} {}: No such file or directory (os error 2); it belongs to manifest 1 of the store; restore \
             the store from a copy",
            path.display()
        ));
        assert_eq!(outcomes(directory.path()), [Err(expected.clone()), Err(expected)], "{name}");
    }
}

#[test]
fn files_of_another_store_or_number_are_refused() {
    let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    compacted(one.path());
    compacted(other.path());
    let names = ["wal/00000000000000000002.wal", "manifest/00000000000000000001.manifest"];
    let [log, manifest] = names.map(|name| one.path().join(name));
    fs::copy(other.path().join(names[0]), &log).expect("copied");
    let expected = Error::Corrupt(format!("{} belongs to another store than {}", log.display(), manifest.display()));
    assert_eq!(outcomes(one.path()), [Err(expected.clone()), Err(expected)]);
    fs::copy(one.path().join("wal/00000000000000000001.wal"), &log).expect("copied");
    let expected = Error::Corrupt(format!(
        "{}: expected log 2 from LSN 3, came log 1 from LSN 1; restore the store from a copy",
        log.display()
    ));
    assert_eq!(outcomes(one.path()), [Err(expected.clone()), Err(expected)]);
    let second = one.path().join("manifest/00000000000000000002.manifest");
    fs::copy(&manifest, &second).expect("copied");
    let expected = Error::Corrupt(format!("{}: it says that it is manifest 1", second.display()));
    assert_eq!(outcomes(one.path()), [Err(expected.clone()), Err(expected)]);
}

#[test]
fn a_store_whose_commit_page_is_lost_goes_on_from_its_newest_manifest() {
    let directory = tempfile::tempdir().expect("a directory");
    let expected = compacted(directory.path());
    fs::remove_file(directory.path().join("commit")).expect("there was one");
    let store = open(directory.path(), Mode::Owner);
    assert_eq!(content(&store.snapshot()), expected);
    assert_eq!(content(&open(directory.path(), Mode::Reader).snapshot()), expected);
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>),
    Delete(Vec<u8>),
    Swap(u8, bool),
    Compact,
    Reopen,
    Refresh(usize),
    Late(usize),
    Keep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ids = || prop::collection::vec(0..8_u8, 1..4);
    let step = prop_oneof![
        4 => ids().prop_map(Step::Put),
        2 => ids().prop_map(Step::Delete),
        2 => (0..8_u8, any::<bool>()).prop_map(|(id, right)| Step::Swap(id, right)),
        2 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        2 => (0..2_usize).prop_map(Step::Refresh),
        1 => (0..2_usize).prop_map(Step::Late),
        1 => Just(Step::Keep),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_compacted_store_holds_what_a_map_holds_for_its_owner_readers_and_snapshots(steps in steps()) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = Some(created(directory.path()));
        let reader = || open(directory.path(), Mode::Reader);
        let mut readers = [reader(), reader()];
        // Per LSN what is there: id → number, generation.
        let mut model: BTreeMap<String, (i64, u64)> = BTreeMap::new();
        let mut history = vec![model.clone(), model.clone()];
        let mut kept = Vec::new();
        let flat = |snapshot: &Snapshot| -> BTreeMap<String, (i64, u64)> {
            content(snapshot).into_iter().map(|(id, n, generation)| (id, (n, generation))).collect()
        };
        for (number, step) in steps.into_iter().enumerate() {
            let n = i64::try_from(number).expect("small") + 1;
            let owner = store.as_ref().expect("open");
            let next = history.len() as u64;
            match step {
                Step::Put(mut ids) => {
                    ids.sort_unstable();
                    ids.dedup();
                    let ids: Vec<String> = ids.iter().map(u8::to_string).collect();
                    prop_assert_eq!(owner.put("t", rows(ids.iter().map(|id| (id.as_str(), n)))), Ok(next));
                    model.extend(ids.into_iter().map(|id| (id, (n, next))));
                    history.push(model.clone());
                }
                Step::Delete(ids) => {
                    let ids: Vec<String> = ids.iter().map(u8::to_string).collect();
                    prop_assert_eq!(delete(owner, &ids.iter().map(String::as_str).collect::<Vec<_>>()), next);
                    model.retain(|id, _| !ids.contains(id));
                    history.push(model.clone());
                }
                Step::Swap(id, right) => {
                    let id = id.to_string();
                    let generation = model.get(&id).map_or(0, |row| row.1) + u64::from(!right);
                    let key = Key::Text(id.as_str().into());
                    let swapped = owner.compare_and_swap("t", &key, generation, rows([(id.as_str(), n)]));
                    prop_assert_eq!(swapped, Ok(right.then_some(next)));
                    if right {
                        model.insert(id, (n, next));
                        history.push(model.clone());
                    }
                }
                Step::Compact => {
                    prop_assert_eq!(owner.compact().map(|done| (done.lsn, done.rows)), Ok((next - 1, model.len() as u64)));
                }
                Step::Reopen => {
                    drop(store.take());
                    store = Some(open(directory.path(), Mode::Owner));
                }
                Step::Refresh(which) => {
                    prop_assert_eq!(readers[which].refresh(), Ok(next - 1));
                }
                Step::Late(which) => readers[which] = reader(),
                Step::Keep => {
                    kept.push(owner.snapshot());
                    kept.extend(readers.iter().map(ArrowStorage::snapshot));
                }
            }
            let owner = store.as_ref().expect("open").snapshot();
            prop_assert_eq!(owner.lsn() + 1, history.len() as u64);
            for snapshot in readers.iter().map(ArrowStorage::snapshot).chain([owner]) {
                prop_assert_eq!(&flat(&snapshot), &history[usize::try_from(snapshot.lsn()).expect("small")]);
            }
        }
        for snapshot in kept {
            prop_assert_eq!(&flat(&snapshot), &history[usize::try_from(snapshot.lsn()).expect("small")]);
        }
        let verified = store.as_ref().expect("open").verify();
        prop_assert!(verified.is_ok());
        for reader in &readers {
            prop_assert_eq!(reader.verify(), verified.clone());
        }
    }
}
