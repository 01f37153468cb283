//! Every state a crash can leave on the disk opens with exactly the acknowledged commits, or one more that was under way.

mod crash;

use std::collections::BTreeSet;
use std::path::Path;

use crash::{Operation, Run, STEPS, Step};

#[test]
fn every_state_a_power_cut_can_leave_opens_with_what_was_acknowledged() {
    let mut run = Run::new(None);
    assert_eq!(run.take(&STEPS), Ok(STEPS.len()));
    let opened = run.check(0, &mut BTreeSet::new()).expect("no state loses anything");
    assert!(opened > 400, "{opened}");
}

#[test]
fn a_log_that_is_extended_ahead_of_its_records_loses_nothing() {
    let long: &'static str = "x".repeat(20_000).leak(); // from 16 KiB on a log is extended with zeros
    let steps = [
        Step::Create("t"),
        Step::Put("t", long, 1),
        Step::Put("t", "a", 2),
        Step::Delete(long),
        Step::Put("t", "b", 3),
        Step::Compact,
        Step::Put("t", "c", 4),
    ];
    let mut whole = Run::new(None);
    assert_eq!(whole.take(&steps), Ok(steps.len()));
    let mut seen = BTreeSet::new();
    whole.check(0, &mut seen).expect("no state loses anything");
    for left in 0..whole.operations() {
        killed(&whole, &steps, left, &mut seen);
    }
    assert!(seen.len() > 1000, "{}", seen.len());
}

/// The states after an owner was killed at operation `left` and another one went on; how many were not in `seen`.
fn killed(whole: &Run, steps: &[Step], left: usize, seen: &mut BTreeSet<u64>) -> usize {
    let mut run = Run::new(Some(left));
    let taken = run.take(steps).expect("as a map");
    // What the next owner finds on the same disk: the names and writes that nobody synced are there as yet.
    run.under_way = whole.acknowledged.get(taken + 2).map(|(_, state)| state.clone());
    run.revive();
    assert_eq!(run.take(&[Step::Create("t"), Step::Put("t", "after", 8)]), Ok(2), "killed after operation {left}");
    run.check(left, seen).unwrap_or_else(|what| panic!("killed after operation {left}; {what}"))
}

#[test]
fn a_power_cut_after_a_killed_owner_was_followed_by_another_loses_nothing() {
    let mut whole = Run::new(None);
    whole.take(&STEPS).expect("as a map");
    let mut seen = BTreeSet::new();
    let opened: usize = (0..whole.operations()).map(|left| killed(&whole, &STEPS, left, &mut seen)).sum();
    assert!(opened > 2000, "{opened}");
}

/// So many steps that look random, all of them possible.
fn drawn(seed: u32, count: usize) -> Vec<Step> {
    let mut state = seed;
    let mut below = |most: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % most
    };
    let mut steps = vec![Step::Create("t")];
    let mut tables = 1;
    while steps.len() < count {
        let id = ["a", "b", "c", "d"][below(4) as usize];
        let n = i64::from(below(1000));
        steps.push(match below(9) {
            0 => Step::Compact,
            8 => Step::CompactBeside(id, n),
            1 => Step::Delete(id),
            2 => Step::Swap(id, n),
            3 => {
                tables = 2;
                Step::Create("u")
            }
            _ => Step::Put(["t", "u"][below(tables) as usize], id, n),
        });
    }
    steps
}

/// `cargo test --release --test crashes -- --ignored`: part of `make proof`.
#[test]
#[ignore = "a minute and a half"]
fn a_hundred_thousand_different_states_of_different_histories_lose_nothing() {
    const STATES: usize = 100_000;
    let mut seen = BTreeSet::new();
    let (mut histories, mut cuts) = (0, 0);
    while seen.len() < STATES {
        histories += 1;
        let steps = drawn(histories, 14);
        let mut whole = Run::new(None);
        assert_eq!(whole.take(&steps), Ok(steps.len()));
        whole.check(0, &mut seen).unwrap_or_else(|what| panic!("history {histories}: {what}"));
        for left in (0..whole.operations()).step_by(3) {
            cuts += 1;
            killed(&whole, &steps, left, &mut seen);
        }
    }
    println!("{} states of {histories} histories, {cuts} owners killed", seen.len());
}

#[test]
fn disks_that_lie_are_found_out() {
    // The enumeration is worth something only if it notices what syncing is for.
    let without = |lie: fn(&Operation) -> bool| {
        let mut run = Run::new(None);
        run.take(&STEPS).expect("as a map");
        run.forget(lie);
        run.check(0, &mut BTreeSet::new()).expect_err("something is lost")
    };
    for lie in [
        |operation: &Operation| matches!(operation, Operation::Sync(_)),
        |operation: &Operation| matches!(operation, Operation::SyncDirectory(_)),
        |operation: &Operation| matches!(operation, Operation::SyncDirectory(path) if path == Path::new("manifest")),
        |operation: &Operation| matches!(operation, Operation::SyncDirectory(path) if path == Path::new("seg")),
        |operation: &Operation| matches!(operation, Operation::SyncDirectory(path) if path == Path::new("wal")),
    ] {
        without(lie);
    }
}
