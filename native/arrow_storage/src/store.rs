//! A store: opening, writing, following.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arrow_array::{Array, RecordBatch};

use crate::base::{Base, Log, belongs_elsewhere, open_newest};
use crate::codec::{Change, Named, decode, encode};
use crate::error::{Error, Result};
use crate::fs::{DiskFs, Fs, create_durably};
use crate::layout::{log_directory, log_path, manifest_directory, newest_manifest, page_path, sweep};
use crate::lock::take_lock;
use crate::page::Page;
use crate::planted::{Bug, planted};
use crate::schema::{Key, TableDefinition, hex, own};
use crate::snapshot::{Catalog, Snapshot};
use crate::table::Table;
use crate::wal::{Identity, StoreId};
use crate::writer::{Expect, Request, Target, Writer};

/// Who opens a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The one process that writes.
    Owner,
    /// One of any number that read; needs no write permission.
    Reader,
}

/// Numbers about a store.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Directory.
    pub path: PathBuf,
    /// Random identity, in hex.
    pub store: String,
    /// How often an owner has opened it.
    pub epoch: u64,
    /// Last commit seen.
    pub lsn: u64,
    /// Number of the newest manifest; 0 before the first compaction.
    pub manifest: u64,
    /// Bytes of its segments.
    pub segment_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes of the rows that are there, about.
    pub live_bytes: u64,
    /// Numbers about each table.
    pub tables: BTreeMap<String, TableStats>,
}

/// Numbers about a table.
#[derive(Clone, Debug)]
pub struct TableStats {
    /// Rows there.
    pub rows: usize,
    /// Rows held, replaced and deleted ones included.
    pub versions: u64,
    /// See [`TableDefinition::fingerprint`].
    pub fingerprint: String,
    /// See [`TableDefinition::version`].
    pub schema_version: u32,
}

/// What [`ArrowStorage::verify`] read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Segments whose checksums hold.
    pub segments: u64,
    /// Bytes of the segments.
    pub segment_bytes: u64,
    /// Records whose checksums hold.
    pub records: u64,
    /// Bytes of the log up to the last of them.
    pub bytes: u64,
    /// LSN of the last of them.
    pub lsn: u64,
}

/// Tables in memory and the LSN up to which they may be seen.
pub(crate) struct Tables {
    catalog: RwLock<Arc<Catalog>>,
    /// Changes only under the lock of the catalog it belongs to.
    committed: AtomicU64,
}

impl Tables {
    pub(crate) fn new(catalog: Catalog, lsn: u64) -> Self {
        Self { catalog: RwLock::new(Arc::new(catalog)), committed: AtomicU64::new(lsn) }
    }

    /// Goes on with other tables that hold the same rows at its LSN; snapshots keep those they have.
    pub(crate) fn replace(&self, other: &Self) {
        let mut held = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        *held = other.catalog();
        self.committed.store(other.lsn(), Ordering::Release);
    }

    /// The last commit that may be seen.
    pub(crate) fn lsn(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        Snapshot::new(self.lsn(), Arc::clone(&catalog))
    }

    /// Adds a commit and shows it.
    pub(crate) fn take(&self, lsn: u64, changes: Vec<Named>) -> Result<()> {
        self.add(lsn, changes)?;
        self.show(lsn);
        Ok(())
    }

    /// Shows the commits up to `lsn`.
    fn show(&self, lsn: u64) {
        let _catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        self.committed.store(lsn, Ordering::Release);
    }

    /// Adds a commit that nobody sees yet.
    fn add(&self, lsn: u64, changes: Vec<Named>) -> Result<()> {
        for (name, change) in changes {
            if let Change::Create(definition) = change {
                let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
                let mut next = Catalog::clone(&catalog);
                next.insert(name, Arc::new(Table::new(definition, lsn)));
                *catalog = Arc::new(next);
                continue;
            }
            let catalog = self.catalog();
            let unknown = || Error::Corrupt(format!("LSN {lsn} changes table {name:?}, which was never created"));
            let table = catalog.get(&name).ok_or_else(unknown)?;
            match change {
                Change::Create(_) => {}
                Change::Evolve(definition) => {
                    let evolved = Arc::new(table.evolved(definition)?);
                    let mut next = Catalog::clone(&catalog);
                    next.insert(name, evolved);
                    *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
                }
                Change::Put(rows) => table.put(lsn, rows)?,
                Change::Delete(keys) => table.delete(lsn, keys.as_ref())?,
            }
        }
        Ok(())
    }
}

pub(crate) enum Role {
    Owner {
        writer: Writer,
        /// Held by who compacts.
        compacting: Mutex<()>,
        _lock: File,
    },
    /// `manifest`: what the log goes on from, to be looked at without its lock.
    Reader { log: Mutex<Log>, manifest: AtomicU64 },
}

/// A store, opened by its owner or a reader.
pub struct ArrowStorage {
    pub(crate) path: PathBuf,
    pub(crate) fs: Box<dyn Fs>,
    pub(crate) id: StoreId,
    pub(crate) page: Page,
    pub(crate) tables: Tables,
    pub(crate) role: Role,
}

impl ArrowStorage {
    /// Opens the store in directory `path`; an owner creates it if there is none.
    pub fn open(path: &Path, mode: Mode) -> Result<Self> {
        Self::open_on(Box::new(DiskFs), path, mode)
    }

    /// Opens a store on a given file system.
    pub fn open_on(fs: Box<dyn Fs>, path: &Path, mode: Mode) -> Result<Self> {
        match mode {
            Mode::Owner => Self::own(fs, path),
            Mode::Reader => Self::follow(fs, path),
        }
    }

    fn own(fs: Box<dyn Fs>, path: &Path) -> Result<Self> {
        let directory = log_directory(path);
        fs.create_dirs(&directory).map_err(|error| Error::io("create", &directory, &error))?;
        let lock = take_lock(path)?;
        let page_path = page_path(path);
        let exists = |path: &Path| fs.exists(path).map_err(|error| Error::io("look for", path, &error));
        let page = if exists(&page_path)? { Some(Page::open(&page_path, true)?) } else { None };
        let first = log_path(path, 0);
        if page.is_none() && newest_manifest(fs.as_ref(), path)? == 0 && !exists(&first)? {
            let identity = Identity { store: random_id()?, sequence: 1 };
            create_durably(fs.as_ref(), &first, |file| file.write_at(&identity.header(1), 0))
                .map_err(|error| Error::io("create", &first, &error))?;
        }
        sync_names(fs.as_ref(), path)?;
        let (published, store_id) = page.as_ref().map_or((0, None), |page| (page.manifest(), Some(page.store())));
        let (catalog, mut log) = open_newest(fs.as_ref(), path, published, store_id, true)?;
        let id = log.identity.store;
        let page = if let Some(page) = page {
            page
        } else {
            Page::create(fs.as_ref(), &page_path, id)?;
            Page::open(&page_path, true)?
        };
        let tables = Tables::new(catalog, log.lsn);
        recover(&mut log, &tables, page.lsn())?;
        sweep(fs.as_ref(), path, log.base.manifest)?;
        page.next_epoch();
        page.publish_manifest(log.base.manifest);
        page.publish(log.lsn);
        let role = Role::Owner { writer: Writer::new(log), compacting: Mutex::default(), _lock: lock };
        Ok(Self { path: path.to_owned(), fs, id, page, tables, role })
    }

    fn follow(fs: Box<dyn Fs>, path: &Path) -> Result<Self> {
        let page_path = page_path(path);
        // Asked first: an owner that creates the store writes the log first.
        let had_page = fs.exists(&page_path).map_err(|error| Error::io("look for", &page_path, &error))?;
        let page = if had_page { Some(Page::open(&page_path, false)?) } else { None };
        let (published, store_id) = page.as_ref().map_or((0, None), |page| (page.manifest(), Some(page.store())));
        let (catalog, log) = open_newest(fs.as_ref(), path, published, store_id, false)?;
        let id = log.identity.store;
        let page = match page {
            Some(page) => page,
            None => Page::open(&page_path, false)?,
        };
        if page.store() != id {
            return Err(belongs_elsewhere(&page_path, &log.path));
        }
        let tables = Tables::new(catalog, log.lsn);
        let role = Role::Reader { manifest: AtomicU64::new(log.base.manifest), log: Mutex::new(log) };
        let store = Self { path: path.to_owned(), fs, id, page, tables, role };
        store.refresh()?;
        Ok(store)
    }

    /// Takes in what was committed since; returns the LSN now seen. Two memory reads when nothing was.
    pub fn refresh(&self) -> Result<u64> {
        let seen = self.tables.lsn();
        let Role::Reader { log, manifest } = &self.role else { return Ok(seen) };
        if self.page.lsn() == seen && self.page.manifest() <= manifest.load(Ordering::Acquire) {
            return Ok(seen);
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        // In this order: a commit that the page shows is in the log of the manifest it names afterwards, or before it.
        let committed = self.page.lsn();
        let published = self.page.manifest();
        if published > log.base.manifest {
            let (catalog, mut newer) = open_newest(self.fs.as_ref(), &self.path, published, Some(self.id), false)?;
            let tables = Tables::new(catalog, newer.lsn);
            newer.advance(committed, |lsn, changes| tables.take(lsn, changes))?;
            if newer.lsn < log.lsn {
                return Err(Error::Corrupt(format!(
                    "{}: the store went back from LSN {} to {}; it was replaced by an older copy",
                    newer.path.display(),
                    log.lsn,
                    newer.lsn
                )));
            }
            self.tables.replace(&tables);
            *log = newer;
            manifest.store(log.base.manifest, Ordering::Release);
        } else {
            log.advance(committed, |lsn, changes| self.tables.take(lsn, changes))?;
        }
        Ok(log.lsn)
    }

    /// The tables as they are now (a reader: as of the last refresh).
    pub fn snapshot(&self) -> Snapshot {
        self.tables.snapshot()
    }

    /// Creates a table; does nothing when there is one with the same definition.
    pub fn create_table(&self, name: &str, definition: &TableDefinition) -> Result<u64> {
        if name.is_empty() || name.len() > 128 {
            return Err(Error::Invalid(format!("expected a table name of 1 to 128 bytes, came {}", name.len())));
        }
        let expect = Expect::NewTable(name.to_owned());
        let created = self.write(vec![(name.to_owned(), Change::Create(definition.clone()))], expect)?;
        if let Some(lsn) = created {
            return Ok(lsn);
        }
        let snapshot = self.snapshot();
        let there = snapshot.definition(name)?.fingerprint();
        if there == definition.fingerprint() {
            return Ok(snapshot.lsn());
        }
        Err(Error::Invalid(format!(
            "table {name:?} exists with another definition: expected fingerprint {}, there is {there}",
            definition.fingerprint()
        )))
    }

    /// Adds the columns that `wider` has behind those of the table; rows that are there have null in them. Does nothing
    /// when the table has that definition. Earlier snapshots keep the table as it was.
    pub fn evolve_table(&self, name: &str, wider: &TableDefinition) -> Result<u64> {
        loop {
            let snapshot = self.snapshot();
            let there = snapshot.definition(name)?;
            if there.fingerprint() == wider.fingerprint() {
                return Ok(snapshot.lsn());
            }
            let next = there.evolved(wider).map_err(|error| Error::Invalid(format!("table {name:?}: {error}")))?;
            let expect = Expect::Version { table: name.to_owned(), version: there.version() };
            if let Some(lsn) = self.write(vec![(name.to_owned(), Change::Evolve(next))], expect)? {
                return Ok(lsn);
            }
        }
    }

    /// Puts rows; durable when it returns their LSN.
    pub fn put(&self, table: &str, rows: RecordBatch) -> Result<u64> {
        self.commit(vec![(table.to_owned(), Change::Put(rows))])
    }

    /// Makes several changes together or not at all; durable when it returns their LSN.
    pub fn commit(&self, changes: Vec<(String, Change)>) -> Result<u64> {
        if changes.is_empty() {
            return Err(Error::Invalid("expected at least one change, came none".into()));
        }
        let snapshot = self.snapshot();
        let changes = changes.into_iter().map(|change| prepare(&snapshot, change)).collect::<Result<Vec<_>>>()?;
        let lsn = self.write(changes, Expect::Anything)?;
        lsn.ok_or_else(|| Error::Failed("a commit that expects nothing was refused".into()))
    }

    /// Puts the one row of `row` if the row of its key has this generation (0: there is none).
    ///
    /// Returns the new generation, which is the commit's LSN, or `None` when the row has another.
    pub fn compare_and_swap(&self, table: &str, key: &Key, generation: u64, row: RecordBatch) -> Result<Option<u64>> {
        let (name, change) = prepare(&self.snapshot(), (table.to_owned(), Change::Put(row)))?;
        if let Change::Put(row) = &change {
            let snapshot = self.snapshot();
            let definition = snapshot.definition(table)?;
            let keys = definition.keys(row.column(definition.key_index()))?;
            if keys.as_slice() != std::slice::from_ref(key) {
                return Err(Error::Invalid(format!("expected exactly one row, with key {key}")));
            }
        }
        let expect = Expect::Generation { table: table.to_owned(), key: key.clone(), generation };
        self.write(vec![(name, change)], expect)
    }

    fn write(&self, changes: Vec<Named>, expect: Expect) -> Result<Option<u64>> {
        let Role::Owner { writer, .. } = &self.role else {
            return Err(Error::Invalid(format!("{} was opened to read; only its owner writes", self.path.display())));
        };
        let snapshot = self.snapshot();
        let payload = encode(&changes, |name, schema| {
            let definition = snapshot.definition(name).ok().filter(|known| Arc::ptr_eq(known.schema(), schema));
            definition.map(|known| Arc::clone(known.head()))
        })?;
        writer.commit(self, Request { changes, payload, expect })
    }

    /// Reads segments and log again and checks them against their checksums.
    pub fn verify(&self) -> Result<Verified> {
        let committed = self.refresh()?;
        let (_, log) = open_newest(self.fs.as_ref(), &self.path, self.page.manifest(), Some(self.id), false)?;
        let (base, mut scanner) = (log.base, log.scanner());
        while scanner.next_lsn <= committed {
            match scanner.next()? {
                Some(record) => decode(&record.payload)?,
                None => return Err(scanner.missing(committed)),
            };
        }
        let lsn = scanner.next_lsn - 1;
        let (records, bytes) = (lsn - base.lsn, scanner.offset);
        Ok(Verified { segments: base.segments, segment_bytes: base.bytes, records, bytes, lsn })
    }

    /// What the log goes on from, and its bytes.
    pub(crate) fn extent(&self) -> (Base, u64) {
        match &self.role {
            Role::Owner { writer, .. } => writer.extent(),
            Role::Reader { log, .. } => {
                let log = log.lock().unwrap_or_else(PoisonError::into_inner);
                (log.base, log.length)
            }
        }
    }

    /// Numbers about the store.
    pub fn stats(&self) -> Result<Stats> {
        let snapshot = self.snapshot();
        let (base, log_bytes) = self.extent();
        let table = |(name, definition): (&str, &TableDefinition)| {
            let (rows, versions) = (snapshot.count(name)?, snapshot.table(name)?.versions());
            let (fingerprint, schema_version) = (definition.fingerprint().to_owned(), definition.version());
            Ok((name.to_owned(), TableStats { rows, versions, fingerprint, schema_version }))
        };
        Ok(Stats {
            path: self.path.clone(),
            store: hex(&self.id.0),
            epoch: self.page.epoch(),
            lsn: snapshot.lsn(),
            manifest: base.manifest,
            segment_bytes: base.bytes,
            log_bytes,
            live_bytes: snapshot.live_bytes(),
            tables: snapshot.tables().map(table).collect::<Result<_>>()?,
        })
    }
}

impl Target for ArrowStorage {
    fn holds(&self, expect: &Expect) -> Result<bool> {
        let snapshot = self.snapshot();
        match expect {
            Expect::Anything => Ok(true),
            Expect::Generation { table, key, generation } => Ok(snapshot.generation(table, key)? == *generation),
            Expect::NewTable(name) => Ok(snapshot.table(name).is_err()),
            Expect::Version { table, version } => Ok(snapshot.definition(table)?.version() == *version),
        }
    }

    fn apply(&self, commits: Vec<(u64, Vec<Named>)>) -> Result<()> {
        let Some(&(last, _)) = commits.last() else { return Ok(()) };
        for (lsn, changes) in commits {
            self.tables.add(lsn, changes)?;
        }
        self.tables.show(last);
        self.page.publish(last);
        Ok(())
    }
}

/// Checks a change against the table it is for.
fn prepare(snapshot: &Snapshot, (name, change): Named) -> Result<Named> {
    let definition = snapshot.definition(&name)?;
    let change = match change {
        Change::Create(_) => return Err(Error::Invalid("tables are created by create_table".into())),
        Change::Evolve(_) => return Err(Error::Invalid("tables get columns by evolve_table".into())),
        Change::Delete(keys) => {
            let keys = own(&keys)?;
            definition.keys(keys.as_ref())?;
            let expected = definition.schema().field(definition.key_index()).data_type();
            if keys.data_type() != expected {
                return Err(Error::Invalid(format!("keys of table {name:?}: expected {expected}")));
            }
            Change::Delete(keys)
        }
        Change::Put(rows) => {
            let rows = definition.conform(&rows)?;
            let mut seen = HashSet::new();
            for key in definition.keys(rows.column(definition.key_index()))? {
                if let Some(twice) = seen.replace(key) {
                    return Err(Error::Invalid(format!("the rows hold the key {twice} twice")));
                }
            }
            definition.lengths(&rows)?;
            Change::Put(rows)
        }
    };
    Ok((name, change))
}

/// Makes the names in a store durable: whoever died while he made them may not have come to it.
fn sync_names(fs: &dyn Fs, store: &Path) -> Result<()> {
    if planted(Bug::NoDirectorySync) {
        return Ok(());
    }
    for directory in [log_directory(store), manifest_directory(store), store.to_owned()] {
        if fs.exists(&directory).map_err(|error| Error::io("look for", &directory, &error))? {
            fs.sync_directory(&directory).map_err(|error| Error::io("sync", &directory, &error))?;
        }
    }
    Ok(())
}

/// Reads the whole log into `tables` and cuts off what a crash left behind its end.
fn recover(log: &mut Log, tables: &Tables, published: u64) -> Result<()> {
    let mut scanner = log.scanner();
    while let Some(record) = scanner.next()? {
        tables.add(record.lsn, decode(&record.payload)?)?;
    }
    scanner.check_tail()?;
    let (length, lsn) = (scanner.offset, scanner.next_lsn - 1);
    if published > lsn {
        return Err(scanner.missing(published));
    }
    let failed = |error| Error::io("recover", &log.path, &error);
    if log.file.length().map_err(failed)? > length {
        log.file.set_length(length).map_err(failed)?;
    }
    log.file.sync().map_err(failed)?;
    (log.length, log.allocated, log.lsn) = (length, length, lsn);
    tables.show(lsn);
    Ok(())
}

fn random_id() -> Result<StoreId> {
    let path = Path::new("/dev/urandom");
    let mut id = StoreId::default();
    let mut source = File::open(path).map_err(|error| Error::io("read", path, &error))?;
    source.read_exact(&mut id.0).map_err(|error| Error::io("read", path, &error))?;
    Ok(id)
}
