#![no_main]

use std::sync::Mutex;

use libfuzzer_sys::fuzz_target;
use perfuse_arrow_storage::ArrowStorage;
use perfuse_arrow_storage::fuzzing::{rows, store};
use tempfile::TempDir;

/// Puts after which a fresh store takes the place of one that has grown.
const PUTS: u32 = 1000;

static STORE: Mutex<Option<(ArrowStorage, TempDir, u32)>> = Mutex::new(None);

fuzz_target!(|bytes: &[u8]| {
    let mut held = STORE.lock().expect("one thread");
    let (opened, _, puts) = held.get_or_insert_with(|| {
        let directory = tempfile::tempdir().expect("a directory");
        (store(directory.path()).expect("opens"), directory, 0)
    });
    *puts += u32::from(rows(opened, bytes));
    if *puts > PUTS {
        *held = None;
    }
});
