//! Every way to damage a log is noticed or harmless; what is read is never wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use perfuse_arrow_storage::{ArrowStorage, Error, Key, Mode, TableDefinition};
use proptest::prelude::*;

const GIVE_UP: &str = "restore the store from a copy, or give up these commits with `perfuse store repair`";

fn definition() -> TableDefinition {
    TableDefinition::new(&Schema::new(vec![Field::new("id", DataType::Int64, false)]), "id", None).expect("good")
}

fn rows(ids: &[i64]) -> RecordBatch {
    let column = Arc::new(Int64Array::from(ids.to_vec()));
    RecordBatch::try_new(Arc::clone(definition().schema()), vec![column]).expect("good")
}

fn log(store: &Path) -> PathBuf {
    store.join("wal").join("00000000000000000001.wal")
}

/// A store of 4 commits and its log; `ends[i]` is where record `i` ends.
fn filled(path: &Path) -> (Vec<u8>, Vec<usize>) {
    let store = ArrowStorage::open(path, Mode::Owner).expect("opens");
    let end = || usize::try_from(fs::metadata(log(path)).expect("the log").len()).expect("small");
    let mut ends = vec![end()];
    store.create_table("t", &definition()).expect("new");
    ends.push(end());
    for id in 0..3 {
        store.put("t", rows(&[id])).expect("durable");
        ends.push(end());
    }
    (fs::read(log(path)).expect("the log"), ends)
}

fn reopened(path: &Path) -> Result<usize, Error> {
    let store = ArrowStorage::open(path, Mode::Owner)?;
    Ok(store.snapshot().count("t").unwrap_or(0))
}

fn followed(path: &Path) -> Result<usize, Error> {
    let store = ArrowStorage::open(path, Mode::Reader)?;
    Ok(store.snapshot().count("t").unwrap_or(0))
}

#[test]
fn any_flipped_bit_of_an_acknowledged_record_is_corruption() {
    let directory = tempfile::tempdir().expect("a directory");
    let (good, ends) = filled(directory.path());
    for byte in 0..good.len() {
        if (52..64).contains(&byte) {
            continue; // the unused rest of the header
        }
        let mut bad = good.clone();
        bad[byte] ^= 1 << (byte % 8);
        fs::write(log(directory.path()), &bad).expect("written");
        let outcome = reopened(directory.path());
        assert!(matches!(outcome, Err(Error::Corrupt(_))), "byte {byte} of {ends:?}: {outcome:?}");
        assert_eq!(fs::read(log(directory.path())).expect("the log"), bad, "a refused store is left as it is");
    }
}

#[test]
fn a_log_cut_before_the_last_acknowledged_record_is_corruption() {
    let directory = tempfile::tempdir().expect("a directory");
    let (good, ends) = filled(directory.path());
    fs::write(log(directory.path()), &good[..ends[3]]).expect("written");
    let expected = format!(
        "{}: LSN 4 was acknowledged, but the log is whole only up to LSN 3 at byte {}; {GIVE_UP}",
        log(directory.path()).display(),
        ends[3]
    );
    assert_eq!(reopened(directory.path()), Err(Error::Corrupt(expected.clone())));
    assert_eq!(followed(directory.path()), Err(Error::Corrupt(expected)));
}

#[test]
fn a_reader_is_told_the_byte_of_a_damaged_record() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut bytes, ends) = filled(directory.path());
    let reader = ArrowStorage::open(directory.path(), Mode::Reader).expect("opens");
    bytes[ends[2] + 40] ^= 1;
    fs::write(log(directory.path()), &bytes).expect("written");
    let expected = format!(
        "{}: the record of LSN 3 at byte {} is damaged, but the later LSN 4 at byte {} is whole; {GIVE_UP}",
        log(directory.path()).display(),
        ends[2],
        ends[3]
    );
    assert_eq!(followed(directory.path()), Err(Error::Corrupt(expected.clone())));
    assert_eq!(reader.verify(), Err(Error::Corrupt(expected)));
}

#[test]
fn a_damaged_record_before_a_whole_one_is_corruption_even_without_the_commit_page() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut bytes, ends) = filled(directory.path());
    bytes[ends[2] + 40] ^= 1;
    fs::write(log(directory.path()), &bytes).expect("written");
    fs::remove_file(directory.path().join("commit")).expect("there was a page");
    let expected = format!(
        "{}: the record of LSN 3 at byte {} is damaged, but the later LSN 4 at byte {} is whole; {GIVE_UP}",
        log(directory.path()).display(),
        ends[2],
        ends[3]
    );
    assert_eq!(reopened(directory.path()), Err(Error::Corrupt(expected)));
}

#[test]
fn a_missing_log_beside_a_commit_page_is_corruption_not_a_new_store() {
    let directory = tempfile::tempdir().expect("a directory");
    filled(directory.path());
    fs::remove_file(log(directory.path())).expect("there was a log");
    let expected = format!(
        "{} is missing, but {} says that there was a store; restore the store from a copy",
        log(directory.path()).display(),
        directory.path().join("commit").display()
    );
    assert_eq!(reopened(directory.path()), Err(Error::Corrupt(expected.clone())));
    assert_eq!(followed(directory.path()), Err(Error::Corrupt(expected)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_unacknowledged_tail_of_any_bytes_is_dropped(tail in prop::collection::vec(any::<u8>(), 1..300), cut in 0..200_usize) {
        let directory = tempfile::tempdir().expect("a directory");
        let (good, ends) = filled(directory.path());
        // The start of a record that was being written, or anything else.
        let torn = &good[ends[3]..ends[3] + cut.min(ends[4] - ends[3] - 1)];
        for tail in [torn, &tail] {
            fs::write(log(directory.path()), [&good, tail].concat()).expect("written");
            prop_assert_eq!(reopened(directory.path()), Ok(3));
            prop_assert_eq!(fs::read(log(directory.path())).expect("the log"), good.clone());
        }
    }

    #[test]
    fn a_store_holds_what_a_map_holds_and_snapshots_never_change(
        steps in prop::collection::vec((0..6_i64, 0..4_u8), 1..40),
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = ArrowStorage::open(directory.path(), Mode::Owner).expect("opens");
        store.create_table("t", &definition()).expect("new");
        let reader = ArrowStorage::open(directory.path(), Mode::Reader).expect("opens");
        let mut model = std::collections::BTreeSet::new();
        let mut kept = Vec::new();
        for (id, step) in steps {
            match step {
                0 => {
                    let keys = Arc::new(Int64Array::from(vec![id]));
                    store.commit(vec![("t".into(), perfuse_arrow_storage::Change::Delete(keys))]).expect("durable");
                    model.remove(&id);
                }
                1 => {
                    drop(store);
                    store = ArrowStorage::open(directory.path(), Mode::Owner).expect("opens");
                }
                _ => {
                    store.put("t", rows(&[id, id + 10])).expect("durable");
                    model.extend([id, id + 10]);
                }
            }
            reader.refresh().expect("follows");
            kept.push((store.snapshot(), model.clone()));
            kept.push((reader.snapshot(), model.clone()));
        }
        for (snapshot, model) in kept {
            prop_assert_eq!(snapshot.count("t"), Ok(model.len()));
            for id in 0..16 {
                let found = snapshot.get("t", &Key::Int(id)).expect("the table").is_some();
                prop_assert_eq!(found, model.contains(&id));
            }
        }
    }
}
