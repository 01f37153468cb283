//! The proofs notice what they are for: each mistake is planted, and a state shows it.
//!
//! `cargo test -p perfuse_arrow_storage --features planted-bugs --test crashes planted -- --nocapture` prints the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use perfuse_arrow_storage::{ArrowStorage, Bug, Error, Mode, plant};

use super::{Content, Run, STEPS, Step, content, place};

/// The states of tests/crashes.rs: what a power cut can leave.
fn power_cut() -> Result<(), String> {
    let mut run = Run::new(None);
    run.take(&STEPS)?;
    run.check(0, &mut BTreeSet::new()).map(drop)
}

/// A store of three commits that was closed, without its commit page: its log, where the last two records start, and
/// what it held before the last one and in the end.
struct Closed {
    root: tempfile::TempDir,
    log: PathBuf,
    starts: [usize; 2],
    contents: [Content; 2],
}

fn closed() -> Closed {
    let root = place();
    let log = root.path().join("wal").join(format!("{:020}.wal", 1));
    let length = || usize::try_from(fs::metadata(&log).expect("there").len()).expect("small");
    let store = ArrowStorage::open(root.path(), Mode::Owner).expect("a new store");
    Step::Create("t").take(&store).expect("taken");
    let before = length();
    Step::Put("t", "a", 1).take(&store).expect("taken");
    let starts = [before, length()];
    let first = content(&store);
    Step::Put("t", "b", 2).take(&store).expect("taken");
    let contents = [first, content(&store)];
    drop(store);
    fs::remove_file(root.path().join("commit")).expect("removed");
    Closed { root, log, starts, contents }
}

fn opened(root: &Path) -> Result<Content, Error> {
    ArrowStorage::open(root, Mode::Owner).map(|store| content(&store))
}

fn changed(log: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(log).expect("read");
    change(&mut bytes);
    fs::write(log, bytes).expect("written");
}

/// A log whose last record is there twice is one with bytes behind its end.
fn repeated_record() -> Result<(), String> {
    let Closed { root, log, starts, contents } = closed();
    changed(&log, |bytes| bytes.extend_from_within(starts[1]..));
    match opened(root.path()) {
        Ok(found) if found == contents[1] => Ok(()),
        other => Err(format!("found {other:?}, expected {:?}", contents[1])),
    }
}

/// A damaged record before a whole one had been acknowledged: the store must not open.
fn damaged_record() -> Result<(), String> {
    let Closed { root, log, starts, .. } = closed();
    changed(&log, |bytes| bytes[starts[0] + 40] ^= 1);
    match opened(root.path()) {
        Err(Error::Corrupt(_)) => Ok(()),
        other => Err(format!("found {other:?}, expected a refusal")),
    }
}

/// A damaged last record is the end of the log, where no page says that it was acknowledged.
fn torn_record() -> Result<(), String> {
    let Closed { root, log, starts, contents } = closed();
    changed(&log, |bytes| *bytes.last_mut().expect("a record") ^= 1);
    assert!(starts[1] > starts[0]);
    match opened(root.path()) {
        Ok(found) if found == contents[0] => Ok(()),
        other => Err(format!("found {other:?}, expected {:?}", contents[0])),
    }
}

type Proof = (&'static str, fn() -> Result<(), String>);

const PROOFS: [Proof; 4] = [
    ("power cut", power_cut),
    ("repeated record", repeated_record),
    ("damaged record", damaged_record),
    ("torn record", torn_record),
];

#[test]
fn every_planted_bug_is_caught_and_nothing_is_where_there_is_none() {
    let caught = |bug: Option<Bug>| {
        PROOFS.into_iter().find_map(|(name, proof)| {
            plant(bug);
            let outcome = std::panic::catch_unwind(proof).unwrap_or_else(|_| Err("it panicked".into()));
            plant(None);
            outcome.err().map(|what| (name, what))
        })
    };
    assert_eq!(caught(None), None);
    for (bug, by) in [
        (Bug::NoSync, "power cut"),
        (Bug::NoDirectorySync, "power cut"),
        (Bug::AcknowledgedBeforeSync, "power cut"),
        (Bug::NamedBeforeSynced, "power cut"),
        (Bug::NoChecksum, "power cut"),
        (Bug::LsnIgnored, "repeated record"),
        (Bug::BadTailAccepted, "damaged record"),
        (Bug::TombstoneLost, "power cut"),
        (Bug::ReaderAhead, "power cut"),
        (Bug::BesideLost, "power cut"),
        (Bug::BesideUnsynced, "power cut"),
    ] {
        let (name, what) = caught(Some(bug)).unwrap_or_else(|| panic!("{bug:?} was not noticed"));
        println!("{bug:?} | {name} | {what:.160}");
        assert_eq!(name, by, "{bug:?}: {what}");
    }
}
