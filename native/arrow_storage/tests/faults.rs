//! A store on a file system that fails: nothing acknowledged is lost, and nothing is acknowledged that could be.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier};

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use perfuse_arrow_storage::{ArrowStorage, DiskFs, Error, Fs, FsFile, Key, Mode, TableDefinition};

/// What the disk does next. Each counts down; at zero the operation fails, below zero it works.
#[derive(Default)]
struct Plan {
    write: AtomicI64,
    sync: AtomicI64,
    cut: AtomicI64,
    /// Counts every change of a file or directory.
    change: AtomicI64,
    syncs: AtomicI64,
}

impl Plan {
    fn changed(&self) -> io::Result<()> {
        if due(&self.change) { Err(io::Error::other("the disk is tired")) } else { Ok(()) }
    }
}

fn due(countdown: &AtomicI64) -> bool {
    countdown.fetch_sub(1, Ordering::SeqCst) == 1
}

struct FaultyFs(Arc<Plan>);
struct FaultyFile(Arc<Plan>, Box<dyn FsFile>);

impl Fs for FaultyFs {
    fn create_dirs(&self, path: &Path) -> io::Result<()> {
        DiskFs.create_dirs(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        DiskFs.exists(path)
    }
    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(FaultyFile(Arc::clone(&self.0), DiskFs.open(path, writable)?)))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.0.changed()?;
        Ok(Box::new(FaultyFile(Arc::clone(&self.0), DiskFs.create(path)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.changed()?;
        DiskFs.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.changed()?;
        DiskFs.remove(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        DiskFs.list(directory)
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.0.changed()?;
        DiskFs.sync_directory(directory)
    }
}

impl FsFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.changed()?;
        if due(&self.0.write) {
            self.1.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.1.write_at(bytes, offset)
    }
    fn length(&self) -> io::Result<u64> {
        self.1.length()
    }
    fn set_length(&self, length: u64) -> io::Result<()> {
        if due(&self.0.cut) {
            return Err(io::Error::other("the cut failed"));
        }
        self.1.set_length(length)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        self.0.changed()?;
        if due(&self.0.sync) {
            return Err(io::Error::other("the sync failed"));
        }
        self.1.sync()
    }
}

fn definition() -> TableDefinition {
    let fields = vec![Field::new("id", DataType::Utf8, false), Field::new("n", DataType::Int64, true)];
    TableDefinition::new(&Schema::new(fields), "id", None).expect("a good definition")
}

fn row(id: &str, n: i64) -> RecordBatch {
    let columns =
        vec![Arc::new(StringArray::from(vec![id])) as Arc<dyn arrow_array::Array>, Arc::new(Int64Array::from(vec![n]))];
    RecordBatch::try_new(Arc::clone(definition().schema()), columns).expect("a good row")
}

fn faulty(path: &Path) -> (Arc<Plan>, ArrowStorage) {
    let plan = Arc::new(Plan::default());
    let store = ArrowStorage::open_on(Box::new(FaultyFs(Arc::clone(&plan))), path, Mode::Owner).expect("opens");
    store.create_table("t", &definition()).expect("a new table");
    (plan, store)
}

fn count(store: &ArrowStorage) -> usize {
    store.snapshot().count("t").expect("the table")
}

#[test]
fn a_full_disk_refuses_the_commit_keeps_the_others_and_takes_new_ones_when_there_is_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let (plan, store) = faulty(directory.path());
    store.put("t", row("a", 1)).expect("room");
    plan.write.store(1, Ordering::SeqCst);
    assert!(matches!(store.put("t", row("b", 2)), Err(Error::Full(_))));
    assert_eq!(count(&store), 1);
    let lsn = store.put("t", row("c", 3)).expect("room again");
    assert_eq!(lsn, 3);
    drop(store);
    let store = ArrowStorage::open(directory.path(), Mode::Owner).expect("opens");
    assert_eq!((count(&store), store.snapshot().lsn()), (2, 3));
}

#[test]
fn after_a_failed_sync_nothing_is_written_until_the_store_is_opened_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let (plan, store) = faulty(directory.path());
    store.put("t", row("a", 1)).expect("a sync");
    plan.sync.store(1, Ordering::SeqCst);
    let first = store.put("t", row("b", 2)).expect_err("the sync failed");
    let message = first.to_string();
    assert!(message.contains("could not sync") && message.ends_with("takes no more until it is reopened"), "{message}");
    assert_eq!(store.put("t", row("c", 3)), Err(first));
    assert_eq!(count(&store), 1);
    drop(store);
    let store = ArrowStorage::open(directory.path(), Mode::Owner).expect("opens");
    assert!(store.snapshot().get("t", &Key::Text("a".into())).expect("the table").is_some());
    store.put("t", row("d", 4)).expect("writes again");
}

#[test]
fn a_half_written_record_that_cannot_be_cut_stops_the_writer() {
    let directory = tempfile::tempdir().expect("a directory");
    let (plan, store) = faulty(directory.path());
    store.put("t", row("a", 1)).expect("room");
    plan.write.store(1, Ordering::SeqCst);
    plan.cut.store(1, Ordering::SeqCst);
    assert!(matches!(store.put("t", row("b", 2)), Err(Error::Full(_))));
    assert!(matches!(store.put("t", row("c", 3)), Err(Error::Failed(_))));
    drop(store);
    let store = ArrowStorage::open(directory.path(), Mode::Owner).expect("the torn record is dropped");
    assert_eq!(count(&store), 1);
}

#[test]
fn commits_of_several_threads_share_syncs_and_each_gets_its_own_lsn() {
    let directory = tempfile::tempdir().expect("a directory");
    let (plan, store) = faulty(directory.path());
    let before = plan.syncs.load(Ordering::SeqCst);
    let start = Barrier::new(8);
    let mut lsns: Vec<u64> = std::thread::scope(|scope| {
        let work = |thread: i64| {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                (0..50).map(|n| store.put("t", row(&format!("{thread}/{n}"), n)).expect("durable")).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..8).map(work).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    lsns.sort_unstable();
    assert_eq!(lsns, (2..402).collect::<Vec<_>>());
    assert!(plan.syncs.load(Ordering::SeqCst) - before < 400);
    assert_eq!(count(&store), 400);
}

#[test]
fn only_one_of_many_swaps_of_one_generation_wins() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, store) = faulty(directory.path());
    let key = Key::Text("alias".into());
    let mut generation = 0;
    for round in 0..20 {
        let wins: Vec<u64> = std::thread::scope(|scope| {
            let (store, key) = (&store, &key);
            let swap = |n| {
                scope.spawn(move || store.compare_and_swap("t", key, generation, row("alias", n)).expect("no fault"))
            };
            let threads: Vec<_> = (0..6).map(swap).collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(wins.len(), 1, "round {round}");
        generation = wins[0];
    }
    assert_eq!(store.snapshot().generation("t", &key), Ok(generation));
}

#[test]
fn a_compaction_that_fails_at_any_change_of_the_disk_loses_nothing() {
    let mut outcomes = [0, 0, 0];
    for change in 1.. {
        let directory = tempfile::tempdir().expect("a directory");
        let (plan, store) = faulty(directory.path());
        for (id, n) in [("a", 1), ("b", 2), ("a", 3)] {
            store.put("t", row(id, n)).expect("room");
        }
        store.compact().expect("a first one");
        store.put("t", row("c", 4)).expect("room");
        plan.change.store(change, Ordering::SeqCst);
        let compacted = store.compact();
        if plan.change.swap(0, Ordering::SeqCst) > 0 {
            compacted.expect("nothing failed");
            break;
        }
        let message = compacted.expect_err("a change failed").to_string();
        assert!(message.contains("the disk is tired"), "{message}");
        let next = store.put("t", row("d", 5));
        match &next {
            // Before its manifest had its name, or after all was done but the tidying.
            Ok(lsn) => assert_eq!(*lsn, 6),
            Err(error) => {
                let rest = "which files the store is made of is unknown, so it takes no more until it is reopened";
                assert!(message.ends_with(rest), "{message}");
                assert_eq!((error.to_string(), store.compact()), (message, Err(error.clone())));
            }
        }
        outcomes[usize::from(next.is_ok()) + usize::from(store.stats().expect("stats").manifest == 2)] += 1;
        drop(store);
        let store = ArrowStorage::open(directory.path(), Mode::Owner).expect("opens");
        let rows = 3 + usize::from(next.is_ok());
        assert_eq!((count(&store), store.snapshot().lsn()), (rows, 2 + rows as u64), "change {change}");
        assert_eq!(store.snapshot().generation("t", &Key::Text("a".into())), Ok(4));
        store.compact().expect("room");
        assert_eq!(store.snapshot().generation("t", &Key::Text("c".into())), Ok(5));
        let reader = ArrowStorage::open(directory.path(), Mode::Reader).expect("opens");
        assert_eq!((count(&reader), reader.verify()), (rows, store.verify()));
    }
    assert!(outcomes.iter().all(|&count| count > 0), "{outcomes:?}");
}
