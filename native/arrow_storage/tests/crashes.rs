//! Every state a crash can leave on the disk opens with exactly the acknowledged commits, or one more that was under way.
//!
//! A file system records what a store does; then, after each operation, disks are made on which any of the names and
//! writes that nobody had synced are missing or torn, and opened. What the page of a mapped file holds is any version it
//! ever had up to then. Names are lost one by one, also those of later operations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use perfuse_arrow_storage::{ArrowStorage, Change, DiskFs, Error, Fs, FsFile, Key, Mode, TableDefinition};

#[derive(Clone, Debug)]
enum Operation {
    Create(PathBuf, usize),
    Write(usize, usize, Vec<u8>),
    Cut(usize, usize),
    Sync(usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
    SyncDirectory(PathBuf),
}

/// What a store did, in order.
#[derive(Default)]
struct Trace {
    operations: Vec<Operation>,
    /// The commit page before each operation, and at the end.
    pages: Vec<Option<Vec<u8>>>,
    files: BTreeMap<PathBuf, usize>,
    count: usize,
    /// Operations that still work before the process is killed.
    left: Option<usize>,
}

#[derive(Clone)]
struct Recorder {
    root: PathBuf,
    trace: Arc<Mutex<Trace>>,
}

struct Recorded {
    recorder: Recorder,
    number: usize,
    file: Box<dyn FsFile>,
}

impl Recorder {
    fn local(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).expect("inside the store").to_owned()
    }

    fn record(&self, operation: impl FnOnce(&mut Trace) -> Operation) -> io::Result<()> {
        let mut trace = self.trace.lock().expect("no panic");
        if let Some(left) = &mut trace.left {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("killed"))?;
        }
        trace.pages.push(fs::read(self.root.join("commit")).ok());
        let operation = operation(&mut trace);
        trace.operations.push(operation);
        Ok(())
    }

    fn recorded(&self, path: &Path, file: Box<dyn FsFile>) -> Box<dyn FsFile> {
        let number = self.trace.lock().expect("no panic").files[&self.local(path)];
        Box::new(Recorded { recorder: self.clone(), number, file })
    }
}

impl Fs for Recorder {
    fn create_dirs(&self, path: &Path) -> io::Result<()> {
        DiskFs.create_dirs(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        DiskFs.exists(path)
    }
    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn FsFile>> {
        Ok(self.recorded(path, DiskFs.open(path, writable)?))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.record(|trace| {
            let number = trace.count;
            trace.count += 1;
            trace.files.insert(self.local(path), number);
            Operation::Create(self.local(path), number)
        })?;
        Ok(self.recorded(path, DiskFs.create(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (old, new) = (self.local(from), self.local(to));
        self.record(|trace| {
            let number = trace.files.remove(&old).expect("it was created");
            trace.files.insert(new.clone(), number);
            Operation::Rename(old, new, number)
        })?;
        DiskFs.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.record(|_| Operation::Remove(self.local(path)))?;
        DiskFs.remove(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        DiskFs.list(directory)
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.record(|_| Operation::SyncDirectory(self.local(directory)))
    }
}

impl FsFile for Recorded {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).expect("small");
        self.recorder.record(|_| Operation::Write(self.number, start, bytes.to_vec()))?;
        self.file.write_at(bytes, offset)
    }
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
    fn set_length(&self, length: u64) -> io::Result<()> {
        let cut = usize::try_from(length).expect("small");
        self.recorder.record(|_| Operation::Cut(self.number, cut))?;
        self.file.set_length(length)
    }
    fn sync(&self) -> io::Result<()> {
        self.recorder.record(|_| Operation::Sync(self.number))
    }
}

/// A disk after some operations: what is on it for sure, and what may be.
#[derive(Clone, Default)]
struct Disk {
    data: BTreeMap<usize, Vec<u8>>,
    names: BTreeMap<PathBuf, usize>,
    writes: Vec<Operation>,
    links: Vec<Operation>,
}

type Image = BTreeMap<PathBuf, Vec<u8>>;

impl Disk {
    fn take(&mut self, operation: &Operation) {
        match operation {
            Operation::Sync(number) => {
                let (synced, rest): (Vec<_>, Vec<_>) =
                    self.writes.drain(..).partition(|write| file_of(write) == *number);
                for write in &synced {
                    write_to(&mut self.data, write);
                }
                self.writes = rest;
            }
            Operation::SyncDirectory(directory) => {
                let (synced, rest): (Vec<_>, Vec<_>) =
                    self.links.drain(..).partition(|link| directory_of(link) == directory);
                for link in &synced {
                    link_to(&mut self.names, link);
                }
                self.links = rest;
            }
            Operation::Write(..) | Operation::Cut(..) => self.writes.push(operation.clone()),
            Operation::Create(..) | Operation::Rename(..) | Operation::Remove(..) => self.links.push(operation.clone()),
        }
    }

    fn image<'a>(
        &'a self,
        links: impl IntoIterator<Item = &'a Operation>,
        writes: impl IntoIterator<Item = &'a Operation>,
        page: Option<&Vec<u8>>,
    ) -> Image {
        let (mut names, mut data) = (self.names.clone(), self.data.clone());
        links.into_iter().for_each(|link| link_to(&mut names, link));
        writes.into_iter().for_each(|write| write_to(&mut data, write));
        let content = |(path, number): (PathBuf, usize)| {
            let bytes = data.get(&number).cloned().unwrap_or_default();
            let mapped = page.filter(|_| path == Path::new("commit") && bytes.len() == 4096);
            (path, mapped.cloned().unwrap_or(bytes))
        };
        names.into_iter().map(content).collect()
    }

    /// Which of the unsynced names may be there: every choice of a few, of many those with one or all but one.
    fn link_choices(&self) -> Vec<Vec<&Operation>> {
        let all = self.links.len();
        let chosen = |keep: &dyn Fn(usize) -> bool| {
            self.links.iter().enumerate().filter(|(index, _)| keep(*index)).map(|(_, link)| link).collect()
        };
        if all <= 5 {
            return (0..1_usize << all).map(|mask| chosen(&|index| mask >> index & 1 == 1)).collect();
        }
        let ends = (0..=all).map(|end| chosen(&|index| index < end));
        let single = (0..all).flat_map(|one| [chosen(&|index| index == one), chosen(&|index| index != one)]);
        ends.chain(single).collect()
    }

    /// Which of the unsynced writes may be there: all, none, those of one file, the last one torn.
    fn write_choices(&self) -> Vec<Vec<Operation>> {
        let mut choices = vec![self.writes.clone(), Vec::new()];
        for number in self.writes.iter().map(file_of).collect::<BTreeSet<_>>() {
            choices.push(self.writes.iter().filter(|write| file_of(write) == number).cloned().collect());
        }
        if let Some((Operation::Write(number, start, bytes), before)) = self.writes.split_last() {
            for cut in (0..bytes.len()).step_by(512).chain([bytes.len() / 2, bytes.len() - 1]) {
                let torn = Operation::Write(*number, *start, bytes[..cut].to_vec());
                choices.push(before.iter().cloned().chain([torn]).collect());
                let mut zeros = bytes.clone();
                zeros[cut..].fill(0);
                choices.push(before.iter().cloned().chain([Operation::Write(*number, *start, zeros)]).collect());
            }
        }
        choices
    }
}

fn file_of(write: &Operation) -> usize {
    match write {
        Operation::Write(number, ..) | Operation::Cut(number, _) => *number,
        other => panic!("{other:?} writes nothing"),
    }
}

fn directory_of(link: &Operation) -> &Path {
    match link {
        Operation::Create(path, _) | Operation::Rename(_, path, _) | Operation::Remove(path) => {
            path.parent().expect("a file")
        }
        other => panic!("{other:?} names nothing"),
    }
}

fn write_to(data: &mut BTreeMap<usize, Vec<u8>>, write: &Operation) {
    match write {
        Operation::Write(number, start, bytes) => {
            let file = data.entry(*number).or_default();
            if file.len() < start + bytes.len() {
                file.resize(start + bytes.len(), 0);
            }
            file[*start..start + bytes.len()].copy_from_slice(bytes);
        }
        Operation::Cut(number, length) => data.entry(*number).or_default().resize(*length, 0),
        other => panic!("{other:?} writes nothing"),
    }
}

fn link_to(names: &mut BTreeMap<PathBuf, usize>, link: &Operation) {
    match link {
        Operation::Create(path, number) => drop(names.insert(path.clone(), *number)),
        Operation::Rename(from, to, number) => {
            names.remove(from);
            names.insert(to.clone(), *number);
        }
        Operation::Remove(path) => drop(names.remove(path)),
        other => panic!("{other:?} names nothing"),
    }
}

fn definition() -> TableDefinition {
    let fields = vec![Field::new("id", DataType::Utf8, false), Field::new("n", DataType::Int64, false)];
    TableDefinition::new(&Schema::new(fields), "id", None).expect("a good definition")
}

fn row(id: &str, n: i64) -> RecordBatch {
    let columns = vec![Arc::new(StringArray::from(vec![id])) as Arc<dyn Array>, Arc::new(Int64Array::from(vec![n]))];
    RecordBatch::try_new(Arc::clone(definition().schema()), columns).expect("a good row")
}

/// LSN, and of each table each row's number and generation.
type Content = (u64, BTreeMap<String, BTreeMap<String, (i64, u64)>>);

fn content(store: &ArrowStorage) -> Content {
    let snapshot = store.snapshot();
    let table = |name: &str| {
        let mut rows = BTreeMap::new();
        for batch in snapshot.scan(name, &[], None).expect("a table").batches {
            for (id, n) in batch.column(0).as_string::<i32>().iter().zip(batch.column(1).as_primitive::<Int64Type>()) {
                let id = id.expect("no null").to_owned();
                let generation = snapshot.generation(name, &Key::Text(id.as_str().into())).expect("the table");
                assert!(rows.insert(id, (n.expect("no null"), generation)).is_none(), "a key came twice");
            }
        }
        (name.to_owned(), rows)
    };
    (snapshot.lsn(), snapshot.tables().map(|(name, _)| table(name)).collect())
}

type Step = fn(&ArrowStorage) -> Result<(), Error>;

fn put(store: &ArrowStorage, table: &str, id: &str, n: i64) -> Result<(), Error> {
    store.put(table, row(id, n)).map(drop)
}

fn delete(store: &ArrowStorage, id: &str) -> Result<(), Error> {
    let keys = Arc::new(StringArray::from(vec![id]));
    store.commit(vec![("t".into(), Change::Delete(keys))]).map(drop)
}

fn swap(store: &ArrowStorage, id: &str, n: i64) -> Result<(), Error> {
    let key = Key::Text(id.into());
    let generation = store.snapshot().generation("t", &key)?;
    store.compare_and_swap("t", &key, generation, row(id, n)).map(|swapped| assert!(swapped.is_some()))
}

const STEPS: [Step; 15] = [
    |store| store.create_table("t", &definition()).map(drop),
    |store| put(store, "t", "a", 1),
    |store| put(store, "t", "b", 2),
    |store| delete(store, "b"),
    |store| store.compact().map(drop),
    |store| put(store, "t", "c", 3),
    |store| swap(store, "a", 4),
    |store| store.create_table("u", &definition()).map(drop),
    |store| store.compact().map(drop),
    |store| put(store, "u", "d", 5),
    |store| delete(store, "c"),
    |store| store.compact().map(drop),
    |store| swap(store, "a", 6),
    |store| store.compact().map(drop),
    |store| put(store, "t", "b", 7),
];

/// A place for disks, in memory where there is one.
fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory")
}

/// What was acknowledged after how many operations.
type Acknowledged = Vec<(usize, Content)>;

struct Run {
    root: tempfile::TempDir,
    recorder: Recorder,
    acknowledged: Acknowledged,
    /// What a commit that was killed would have made, where it would have made something.
    under_way: Option<Content>,
}

impl Run {
    fn new(left: Option<usize>) -> Self {
        let root = place();
        let trace = Arc::new(Mutex::new(Trace { left, ..Trace::default() }));
        let recorder = Recorder { root: root.path().to_owned(), trace };
        Self { root, recorder, acknowledged: vec![(0, Content::default())], under_way: None }
    }

    fn operations(&self) -> usize {
        self.recorder.trace.lock().expect("no panic").operations.len()
    }

    fn acknowledge(&mut self, store: &ArrowStorage) {
        self.acknowledged.push((self.operations(), content(store)));
    }

    /// Opens the store and takes the steps until one fails; how many were taken.
    fn take(&mut self, steps: &[Step]) -> usize {
        let opened = ArrowStorage::open_on(Box::new(self.recorder.clone()), self.root.path(), Mode::Owner);
        let Ok(store) = opened else { return 0 };
        self.acknowledge(&store);
        for (taken, step) in steps.iter().enumerate() {
            if step(&store).is_err() {
                return taken;
            }
            self.acknowledge(&store);
        }
        steps.len()
    }

    fn check(&self, from: usize, seen: &mut BTreeSet<u64>) -> Result<usize, String> {
        let trace = self.recorder.trace.lock().expect("no panic");
        let mut pages = trace.pages.clone();
        pages.push(fs::read(self.root.path().join("commit")).ok());
        let mut disk = Disk::default();
        let mut opened = 0;
        for (index, operation) in trace.operations.iter().enumerate() {
            disk.take(operation);
            if index < from {
                continue;
            }
            let old = self.acknowledged.iter().rposition(|(after, _)| *after <= index + 1).expect("the empty one");
            let mut allowed: Vec<&Content> = self.acknowledged[old..].iter().take(2).map(|(_, state)| state).collect();
            allowed.extend(&self.under_way);
            let versions: BTreeSet<Option<&Vec<u8>>> =
                [None, pages[index].as_ref(), pages[index + 1].as_ref()].into_iter().collect();
            for links in disk.link_choices() {
                for writes in &disk.write_choices() {
                    for &page in &versions {
                        let image = disk.image(links.iter().copied(), writes, page);
                        let mut hash = DefaultHasher::new();
                        (&image, &allowed).hash(&mut hash);
                        if !seen.insert(hash.finish()) {
                            continue;
                        }
                        opened += 1;
                        let states = self.acknowledged.iter().map(|(_, state)| state).chain(&self.under_way);
                        check_image(&image, &allowed, &states.collect::<Vec<_>>(), opened)
                            .map_err(|what| format!("after operation {index}, {operation:?}: {what}"))?;
                    }
                }
            }
        }
        Ok(opened)
    }
}

fn check_image(image: &Image, allowed: &[&Content], ever: &[&Content], number: usize) -> Result<(), String> {
    let root = place();
    for (path, bytes) in image {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a file")).expect("a directory");
        fs::write(path, bytes).expect("written");
    }
    match ArrowStorage::open(root.path(), Mode::Reader) {
        Ok(reader) => {
            let read = content(&reader);
            if !ever.contains(&&read) || read.0 > allowed.iter().map(|state| state.0).max().unwrap_or(0) {
                return Err(format!("a reader saw {read:?}, expected one of {ever:?} up to {allowed:?}"));
            }
        }
        Err(Error::NotFound(_)) if !image.contains_key(Path::new("commit")) => {}
        Err(error) => return Err(format!("a reader was refused: {error}")),
    }
    let open = || ArrowStorage::open(root.path(), Mode::Owner).map_err(|error| error.to_string());
    let store = open()?;
    let found = content(&store);
    if !allowed.contains(&&found) {
        return Err(format!("found {found:?}, expected one of {allowed:?}"));
    }
    if !number.is_multiple_of(8) {
        return Ok(());
    }
    let verified = store.verify();
    drop(store);
    let store = open()?;
    if (&content(&store), &verified) != (&found, &store.verify()) || verified.is_err() {
        return Err(format!("opening it a second time gave something else than {verified:?}"));
    }
    // Life goes on.
    if found.1.contains_key("t") {
        put(&store, "t", "z", 9).and_then(|()| store.compact()).map_err(|error| error.to_string())?;
        let expected = content(&store);
        drop(store);
        if content(&open()?) != expected || expected.0 != found.0 + 1 {
            return Err("a commit and a compaction afterwards were lost".into());
        }
    }
    Ok(())
}

#[test]
fn every_state_a_power_cut_can_leave_opens_with_what_was_acknowledged() {
    let mut run = Run::new(None);
    assert_eq!(run.take(&STEPS), STEPS.len());
    let opened = run.check(0, &mut BTreeSet::new()).expect("no state loses anything");
    assert!(opened > 400, "{opened}");
}

#[test]
fn a_power_cut_after_a_killed_owner_was_followed_by_another_loses_nothing() {
    let mut whole = Run::new(None);
    whole.take(&STEPS);
    let (mut seen, mut opened) = (BTreeSet::new(), 0);
    for left in 0..whole.operations() {
        let mut run = Run::new(Some(left));
        let taken = run.take(&STEPS);
        // What the next owner finds on the same disk: the names and writes that nobody synced are there as yet.
        run.under_way = whole.acknowledged.get(taken + 2).map(|(_, state)| state.clone());
        run.recorder.trace.lock().expect("no panic").left = None;
        let again =
            run.take(&[|store| store.create_table("t", &definition()).map(drop), |store| put(store, "t", "after", 8)]);
        assert_eq!(again, 2, "killed after operation {left}");
        opened += run.check(left, &mut seen).unwrap_or_else(|what| panic!("killed after operation {left}; {what}"));
    }
    assert!(opened > 2000, "{opened}");
}

#[test]
fn disks_that_lie_are_found_out() {
    // The enumeration is worth something only if it notices what syncing is for.
    let without = |lie: fn(&Operation) -> bool| {
        let mut run = Run::new(None);
        run.take(&STEPS);
        {
            let mut trace = run.recorder.trace.lock().expect("no panic");
            for (index, operation) in trace.operations.clone().iter().enumerate().rev() {
                if lie(operation) {
                    trace.operations.remove(index);
                    trace.pages.remove(index);
                    for (after, _) in &mut run.acknowledged {
                        *after -= usize::from(*after > index);
                    }
                }
            }
        }
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
