//! A store: opening, writing, following.
//!
//! ```text
//! LOCK                          held by the owner (flock)
//! commit                        the commit page
//! wal/00000000000000000001.wal  the log
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arrow_array::{Array, RecordBatch};

use crate::codec::{Change, Named, decode, encode};
use crate::error::{Error, Result};
use crate::follow::Follower;
use crate::fs::{DiskFs, Fs};
use crate::lock::take_lock;
use crate::page::Page;
use crate::schema::{Key, TableDefinition, hex};
use crate::snapshot::{Catalog, Snapshot};
use crate::table::Table;
use crate::wal::{HEADER, Identity, Scanner, StoreId, read_header};
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
    /// Bytes of the log.
    pub log_bytes: u64,
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
}

/// What [`ArrowStorage::verify`] read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Records whose checksums hold.
    pub records: u64,
    /// Bytes of the log up to the last of them.
    pub bytes: u64,
    /// LSN of the last of them.
    pub lsn: u64,
}

/// Tables in memory and the LSN up to which they may be seen.
#[derive(Default)]
struct Tables {
    catalog: RwLock<Arc<Catalog>>,
    committed: AtomicU64,
}

impl Tables {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn snapshot(&self) -> Snapshot {
        let lsn = self.committed.load(Ordering::Acquire);
        Snapshot::new(lsn, self.catalog())
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
                Change::Put(rows) => table.put(lsn, rows)?,
                Change::Delete(keys) => table.delete(lsn, keys.as_ref())?,
            }
        }
        Ok(())
    }
}

enum Role {
    Owner { writer: Writer, _lock: File },
    Reader { follower: Follower },
}

/// A store, opened by its owner or a reader.
pub struct ArrowStorage {
    path: PathBuf,
    log: PathBuf,
    fs: Box<dyn Fs>,
    identity: Identity,
    page: Page,
    tables: Tables,
    role: Role,
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
        let log = log_path(path);
        let directory = path.join("wal");
        fs.create_dirs(&directory).map_err(|error| Error::io("create", &directory, &error))?;
        let lock = take_lock(path)?;
        let page_path = path.join("commit");
        let exists = |path: &Path| fs.exists(path).map_err(|error| Error::io("look for", path, &error));
        if !exists(&log)? {
            if exists(&page_path)? {
                return Err(log_missing(&log, &page_path));
            }
            let identity = Identity { store: random_id()?, sequence: 1 };
            fs.create_durably(&log, &identity.header(1)).map_err(|error| Error::io("create", &log, &error))?;
        }
        let file = fs.open(&log, true).map_err(|error| Error::io("open", &log, &error))?;
        let (identity, first_lsn) = read_header(file.as_ref(), &log)?;
        if !exists(&page_path)? {
            Page::create(fs.as_ref(), &page_path, identity.store)?;
        }
        let page = open_page(&page_path, true, identity)?;
        let tables = Tables::default();
        let mut scanner = Scanner::new(file.as_ref(), &log, identity, HEADER as u64, first_lsn);
        while let Some(record) = scanner.next()? {
            tables.add(record.lsn, decode(&record.payload)?)?;
        }
        scanner.check_tail()?;
        let (length, lsn) = (scanner.offset, scanner.next_lsn - 1);
        if page.lsn() > lsn {
            return Err(scanner.missing(page.lsn()));
        }
        let failed = |error| Error::io("recover", &log, &error);
        if file.length().map_err(failed)? > length {
            file.set_length(length).map_err(failed)?;
        }
        file.sync().map_err(failed)?;
        page.next_epoch();
        page.publish(lsn);
        tables.committed.store(lsn, Ordering::Release);
        let writer = Writer::new(file, log.clone(), identity, length, lsn);
        let role = Role::Owner { writer, _lock: lock };
        Ok(Self { path: path.to_owned(), log, fs, identity, page, tables, role })
    }

    fn follow(fs: Box<dyn Fs>, path: &Path) -> Result<Self> {
        let log = log_path(path);
        let page_path = path.join("commit");
        let exists = |path: &Path| fs.exists(path).map_err(|error| Error::io("look for", path, &error));
        let had_page = exists(&page_path)?; // asked first: an owner that creates the store writes the log first
        if !exists(&log)? {
            if had_page {
                return Err(log_missing(&log, &page_path));
            }
            return Err(Error::NotFound(format!("there is no store in {}; its owner creates it", path.display())));
        }
        let file = fs.open(&log, false).map_err(|error| Error::io("open", &log, &error))?;
        let (identity, first_lsn) = read_header(file.as_ref(), &log)?;
        let page = open_page(&page_path, false, identity)?;
        let follower = Follower::new(file, log.clone(), identity, HEADER as u64, first_lsn - 1);
        let role = Role::Reader { follower };
        let store = Self { path: path.to_owned(), log, fs, identity, page, tables: Tables::default(), role };
        store.refresh()?;
        Ok(store)
    }

    /// Takes in what was committed since; returns the LSN now seen. One memory read when nothing was.
    pub fn refresh(&self) -> Result<u64> {
        let seen = self.tables.committed.load(Ordering::Acquire);
        let Role::Reader { follower } = &self.role else { return Ok(seen) };
        let committed = self.page.lsn();
        if committed == seen {
            return Ok(seen);
        }
        follower.advance(committed, |lsn, changes| {
            self.tables.add(lsn, changes)?;
            self.tables.committed.store(lsn, Ordering::Release);
            Ok(())
        })?;
        Ok(self.tables.committed.load(Ordering::Acquire))
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
        let created = self.write(&[(name.to_owned(), Change::Create(definition.clone()))], expect)?;
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
        let lsn = self.write(&changes, Expect::Anything)?;
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
        self.write(&[(name, change)], expect)
    }

    fn write(&self, changes: &[Named], expect: Expect) -> Result<Option<u64>> {
        let Role::Owner { writer, .. } = &self.role else {
            return Err(Error::Invalid(format!("{} was opened to read; only its owner writes", self.path.display())));
        };
        let payload = encode(changes)?;
        // What is kept is what was written: the rows that came may share memory with somebody who changes them.
        let changes = decode(&payload)?;
        writer.commit(self, Request { changes, payload, expect })
    }

    /// Reads the whole log again and checks every record.
    pub fn verify(&self) -> Result<Verified> {
        let committed = self.refresh()?;
        let file = self.fs.open(&self.log, false).map_err(|error| Error::io("open", &self.log, &error))?;
        let (identity, first_lsn) = read_header(file.as_ref(), &self.log)?;
        if identity.store != self.identity.store {
            return Err(Error::Corrupt(format!("{} belongs to another store", self.log.display())));
        }
        let mut scanner = Scanner::new(file.as_ref(), &self.log, identity, HEADER as u64, first_lsn);
        while scanner.next_lsn <= committed {
            match scanner.next()? {
                Some(record) => decode(&record.payload)?,
                None => return Err(scanner.missing(committed)),
            };
        }
        let lsn = scanner.next_lsn - 1;
        Ok(Verified { records: scanner.next_lsn - first_lsn, bytes: scanner.offset, lsn })
    }

    /// Numbers about the store.
    pub fn stats(&self) -> Result<Stats> {
        let snapshot = self.snapshot();
        let table = |(name, definition): (&str, &TableDefinition)| {
            let (rows, versions) = (snapshot.count(name)?, snapshot.table(name)?.versions());
            Ok((name.to_owned(), TableStats { rows, versions, fingerprint: definition.fingerprint().to_owned() }))
        };
        Ok(Stats {
            path: self.path.clone(),
            store: hex(&self.identity.store.0),
            epoch: self.page.epoch(),
            lsn: snapshot.lsn(),
            log_bytes: match &self.role {
                Role::Owner { writer, .. } => writer.length(),
                Role::Reader { follower } => follower.length(),
            },
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
        }
    }

    fn apply(&self, commits: Vec<(u64, Vec<Named>)>) -> Result<()> {
        let Some(&(last, _)) = commits.last() else { return Ok(()) };
        for (lsn, changes) in commits {
            self.tables.add(lsn, changes)?;
        }
        self.tables.committed.store(last, Ordering::Release);
        self.page.publish(last);
        Ok(())
    }
}

/// Checks a change against the table it is for.
fn prepare(snapshot: &Snapshot, (name, change): Named) -> Result<Named> {
    let definition = snapshot.definition(&name)?;
    let change = match change {
        Change::Create(_) => return Err(Error::Invalid("tables are created by create_table".into())),
        Change::Delete(keys) => {
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

/// A store whose log somebody took away.
fn log_missing(log: &Path, page: &Path) -> Error {
    Error::Corrupt(format!(
        "{} is missing, but {} says that there was a store; restore the store from a copy",
        log.display(),
        page.display()
    ))
}

fn log_path(store: &Path) -> PathBuf {
    store.join("wal").join(format!("{:020}.wal", 1))
}

fn open_page(path: &Path, writable: bool, identity: Identity) -> Result<Page> {
    let page = Page::open(path, writable)?;
    if page.store() != identity.store {
        return Err(Error::Corrupt(format!("{} belongs to another store than the log", path.display())));
    }
    Ok(page)
}

fn random_id() -> Result<StoreId> {
    let path = Path::new("/dev/urandom");
    let mut id = StoreId::default();
    let mut source = File::open(path).map_err(|error| Error::io("read", path, &error))?;
    source.read_exact(&mut id.0).map_err(|error| Error::io("read", path, &error))?;
    Ok(id)
}
