//! The states that a crash can leave on the disk, and what a store must be when one of them is opened.
//!
//! A file system records what a store does; then, after each operation, disks are made on which any of the names and
//! writes that nobody had synced are missing or torn, and opened. What the page of a mapped file holds is any version it
//! ever had up to then. Names are lost one by one, also those of later operations.

#[cfg(feature = "planted-bugs")]
mod planted;

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
pub(crate) enum Operation {
    Create(PathBuf, usize),
    Write(usize, usize, Vec<u8>),
    Cut(usize, usize),
    Sync(usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
    SyncDirectory(PathBuf),
}

impl Operation {
    /// Itself without its bytes.
    fn named(&self) -> String {
        match self {
            Self::Write(file, start, bytes) => format!("Write({file}, {start}, {} bytes)", bytes.len()),
            other => format!("{other:?}"),
        }
    }
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
    /// What happens when the next segment gets its name.
    beside: Option<Box<dyn FnOnce() + Send>>,
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
        DiskFs.rename(from, to)?;
        if to.starts_with(self.root.join("seg")) {
            let beside = self.trace.lock().expect("no panic").beside.take();
            if let Some(happen) = beside {
                happen();
            }
        }
        Ok(())
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

fn wider() -> TableDefinition {
    let more = [Arc::new(Field::new("more", DataType::Utf8, true))];
    let fields: Vec<_> = definition().schema().fields().iter().cloned().chain(more).collect();
    TableDefinition::new(&Schema::new(fields), "id", None).expect("a good definition")
}

/// A row of table `t`, or of `u`, which never gets more columns.
fn row(store: &ArrowStorage, table: &str, id: &str, n: i64) -> Result<RecordBatch, Error> {
    let snapshot = store.snapshot();
    let schema = snapshot.definition(table)?.schema();
    let mut columns: Vec<Arc<dyn Array>> =
        vec![Arc::new(StringArray::from(vec![id])), Arc::new(Int64Array::from(vec![n]))];
    if schema.fields().len() > columns.len() {
        columns.push(Arc::new(StringArray::from(vec!["more"])));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns).expect("a good row"))
}

/// LSN, and of each table each row's number and generation.
pub(crate) type Content = (u64, BTreeMap<String, BTreeMap<String, (i64, u64)>>);

pub(crate) fn content(store: &ArrowStorage) -> Content {
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

/// Something an owner does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Create(&'static str),
    Put(&'static str, &'static str, i64),
    Delete(&'static str),
    /// Puts a row of table `t` in place of the generation that is there.
    Swap(&'static str, i64),
    Compact,
    /// Gives table `t` one more column.
    Evolve,
    /// Compacts, and puts this row of table `t` meanwhile.
    CompactBeside(&'static str, i64),
}

impl Step {
    pub(crate) fn take(self, store: &ArrowStorage) -> Result<(), Error> {
        match self {
            Self::Create(table) if store.snapshot().definition(table).is_ok() => Ok(()), // it may have evolved
            Self::Create(table) => store.create_table(table, &definition()).map(drop),
            Self::Evolve => store.evolve_table("t", &wider()).map(drop),
            Self::Put(table, id, n) => row(store, table, id, n).and_then(|row| store.put(table, row)).map(drop),
            Self::Delete(id) => {
                let keys = Arc::new(StringArray::from(vec![id]));
                store.commit(vec![("t".into(), Change::Delete(keys))]).map(drop)
            }
            Self::Swap(id, n) => {
                let key = Key::Text(id.into());
                let generation = store.snapshot().generation("t", &key)?;
                let row = row(store, "t", id, n)?;
                store.compare_and_swap("t", &key, generation, row).map(|swapped| assert!(swapped.is_some()))
            }
            Self::Compact | Self::CompactBeside(..) => store.compact().map(drop),
        }
    }

    /// What a map becomes by it.
    fn apply(self, (lsn, tables): &mut Content) {
        if matches!(self, Self::Create(table) if tables.contains_key(table)) || matches!(self, Self::Compact) {
            return;
        }
        *lsn += 1;
        match self {
            Self::Create(table) => drop(tables.insert(table.into(), BTreeMap::new())),
            Self::Put(table, id, n) => drop(tables.get_mut(table).expect("made").insert(id.into(), (n, *lsn))),
            Self::Swap(id, n) | Self::CompactBeside(id, n) => {
                let _ = tables.get_mut("t").expect("made").insert(id.into(), (n, *lsn));
            }
            Self::Delete(id) => drop(tables.get_mut("t").expect("made").remove(id)),
            Self::Compact | Self::Evolve => {}
        }
    }
}

pub(crate) const STEPS: [Step; 18] = [
    Step::Create("t"),
    Step::Put("t", "a", 1),
    Step::Put("t", "b", 2),
    Step::Delete("b"),
    Step::Compact,
    Step::Put("t", "c", 3),
    Step::Swap("a", 4),
    Step::Create("u"),
    Step::Compact,
    Step::Put("u", "d", 5),
    Step::CompactBeside("e", 8),
    Step::Evolve,
    Step::CompactBeside("a", 9),
    Step::Delete("c"),
    Step::Compact,
    Step::Swap("a", 6),
    Step::Compact,
    Step::Put("t", "b", 7),
];

/// A place for disks, in memory where there is one.
pub(crate) fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory")
}

/// What was acknowledged after how many operations.
pub(crate) type Acknowledged = Vec<(usize, Content)>;

pub(crate) struct Run {
    pub(crate) root: tempfile::TempDir,
    recorder: Recorder,
    pub(crate) acknowledged: Acknowledged,
    /// What a commit that was killed would have made, where it would have made something.
    pub(crate) under_way: Option<Content>,
}

impl Run {
    pub(crate) fn new(left: Option<usize>) -> Self {
        let root = place();
        let trace = Arc::new(Mutex::new(Trace { left, ..Trace::default() }));
        let recorder = Recorder { root: root.path().to_owned(), trace };
        Self { root, recorder, acknowledged: vec![(0, Content::default())], under_way: None }
    }

    pub(crate) fn operations(&self) -> usize {
        self.recorder.trace.lock().expect("no panic").operations.len()
    }

    /// Opens the store and takes the steps until one fails; how many were taken.
    ///
    /// Fails when the store is then anything but what a map becomes by the same steps.
    pub(crate) fn take(&mut self, steps: &[Step]) -> Result<usize, String> {
        let opened = ArrowStorage::open_on(Box::new(self.recorder.clone()), self.root.path(), Mode::Owner);
        let Ok(store) = opened.map(Arc::new) else { return Ok(0) };
        let mut expected = content(&store);
        self.acknowledged.push((self.operations(), expected.clone()));
        for (taken, step) in steps.iter().enumerate() {
            let beside = self.beside(*step, &store);
            let outcome = step.take(&store);
            self.recorder.trace.lock().expect("no panic").beside = None;
            let beside = beside.lock().expect("no panic").take();
            self.acknowledged.extend(beside.clone());
            if outcome.is_err() {
                return Ok(taken);
            }
            step.apply(&mut expected);
            let found = content(&store);
            if found != expected {
                return Err(format!("after {step:?}: found {found:?}, expected {expected:?}"));
            }
            if beside.is_none() {
                self.acknowledged.push((self.operations(), found));
            }
        }
        Ok(steps.len())
    }

    /// Prepares what happens beside a step; what was acknowledged by it, and after how many operations, comes later.
    fn beside(&self, step: Step, store: &Arc<ArrowStorage>) -> Arc<Mutex<Option<(usize, Content)>>> {
        let done = Arc::new(Mutex::new(None));
        if let Step::CompactBeside(id, n) = step {
            let (recorder, store, told) = (self.recorder.clone(), Arc::clone(store), Arc::clone(&done));
            let happen = move || {
                if Step::Put("t", id, n).take(&store).is_ok() {
                    let operations = recorder.trace.lock().expect("no panic").operations.len();
                    *told.lock().expect("no panic") = Some((operations, content(&store)));
                }
            };
            self.recorder.trace.lock().expect("no panic").beside = Some(Box::new(happen));
        }
        done
    }

    /// Takes the operations out of the trace for which `lie` holds, as if the disk had not carried them out.
    pub(crate) fn forget(&mut self, lie: impl Fn(&Operation) -> bool) {
        let mut trace = self.recorder.trace.lock().expect("no panic");
        for (index, operation) in trace.operations.clone().iter().enumerate().rev() {
            if lie(operation) {
                trace.operations.remove(index);
                trace.pages.remove(index);
                for (after, _) in &mut self.acknowledged {
                    *after -= usize::from(*after > index);
                }
            }
        }
    }

    /// Lets the file system work again, as the next owner finds it.
    pub(crate) fn revive(&self) {
        self.recorder.trace.lock().expect("no panic").left = None;
    }

    /// Opens what may be on the disk after each operation from `from` on that is not in `seen`; how many that were.
    pub(crate) fn check(&self, from: usize, seen: &mut BTreeSet<u64>) -> Result<usize, String> {
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
                            .map_err(|what| format!("after operation {index} ({}): {what}", operation.named()))?;
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
            // Without a manifest only the page says how far a reader may go.
            let shown =
                image.get(Path::new("commit")).filter(|_| !image.keys().any(|path| path.starts_with("manifest")));
            if let Some(shown) =
                shown.and_then(|page| page.get(40..48)).map(|lsn| lsn.try_into().map(u64::from_le_bytes))
                && shown.is_ok_and(|shown| read.0 > shown)
            {
                return Err(format!("a reader went to LSN {}, beyond the commit page", read.0));
            }
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
        Step::Put("t", "z", 9).take(&store).and_then(|()| store.compact()).map_err(|error| error.to_string())?;
        let expected = content(&store);
        drop(store);
        if content(&open()?) != expected || expected.0 != found.0 + 1 {
            return Err("a commit and a compaction afterwards were lost".into());
        }
    }
    Ok(())
}
