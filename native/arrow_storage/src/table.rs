//! The rows of a table in memory, every version of them.
//!
//! Rows live in chunks, one per put, in the order of their LSNs. A row carries the LSN that wrote it (its chunk's) and
//! the one that replaced or deleted it; at LSN `n` exactly the rows with `born ≤ n < dead` are there. So the writer may
//! apply a commit while readers look at an earlier LSN, and nothing is copied for a snapshot. A chunk restored from a
//! segment mixes generations; its table is looked at only from the LSN of its manifest on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;

use crate::error::{Error, Result};
use crate::schema::{Key, TableDefinition};
use crate::segment::size;

/// `dead` of a row that is still there.
const ALIVE: u64 = u64::MAX;

/// Where a version of a row is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) chunk: u32,
    pub(crate) row: u32,
}

/// The rows of one put, or of a batch of a segment.
pub(crate) struct Chunk {
    /// LSN of its last row.
    pub(crate) born: u64,
    /// LSN of each row, where they differ.
    generations: Option<Box<[u64]>>,
    /// Number of its first row in the table.
    pub(crate) first: u64,
    pub(crate) batch: RecordBatch,
    /// Length of each row's vector.
    pub(crate) lengths: Vec<f32>,
    dead: Box<[AtomicU64]>,
    /// Whether any row is not [`ALIVE`].
    touched: AtomicBool,
    /// The version of the same key before this one.
    earlier: Box<[Option<Place>]>,
}

impl Chunk {
    /// Whether row `row` is there at `lsn`; the chunk itself must be.
    pub(crate) fn is_alive(&self, row: usize, lsn: u64) -> bool {
        self.dead[row].load(Ordering::Acquire) > lsn
    }

    /// LSN of the commit that wrote row `row`.
    pub(crate) fn generation(&self, row: usize) -> u64 {
        self.generations.as_ref().map_or(self.born, |generations| generations[row])
    }

    /// The rows that are there at `lsn`, with their generations.
    pub(crate) fn alive_at(&self, lsn: u64) -> std::result::Result<(RecordBatch, Vec<u64>), ArrowError> {
        let rows = 0..self.batch.num_rows();
        if self.is_untouched() {
            return Ok((self.batch.clone(), rows.map(|row| self.generation(row)).collect()));
        }
        let alive: Vec<bool> = rows.clone().map(|row| self.is_alive(row, lsn)).collect();
        let generations = rows.filter(|&row| alive[row]).map(|row| self.generation(row)).collect();
        Ok((filter_record_batch(&self.batch, &BooleanArray::from(alive))?, generations))
    }

    /// Whether all its rows are there for ever so far.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.touched.load(Ordering::Acquire)
    }

    /// The vectors, row-major.
    pub(crate) fn vectors(&self, column: usize) -> &[f32] {
        self.batch.column(column).as_fixed_size_list().values().as_primitive::<Float32Type>().values()
    }

    fn bury(&self, row: u32, lsn: u64) {
        self.touched.store(true, Ordering::Release);
        let _ = self.dead[row as usize].compare_exchange(ALIVE, lsn, Ordering::AcqRel, Ordering::Acquire);
    }
}

#[derive(Default)]
struct Rows {
    chunks: Vec<Arc<Chunk>>,
    latest: HashMap<Key, Place>,
    count: u64,
}

/// A table of a store.
pub(crate) struct Table {
    pub(crate) definition: TableDefinition,
    /// LSN that created it.
    pub(crate) born: u64,
    rows: RwLock<Rows>,
}

impl Table {
    pub(crate) fn new(definition: TableDefinition, born: u64) -> Self {
        Self { definition, born, rows: RwLock::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Rows> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds rows, each in place of the one with its key.
    pub(crate) fn put(&self, lsn: u64, batch: RecordBatch) -> Result<()> {
        self.add(lsn, None, batch)
    }

    /// Adds rows of a segment, each with its own generation; refuses disorder and a key that is there.
    pub(crate) fn restore(&self, generations: Vec<u64>, batch: RecordBatch) -> Result<()> {
        let Some(&last) = generations.last() else { return Ok(()) };
        let before = self.read().chunks.last().map_or(0, |chunk| chunk.born);
        if !generations.is_sorted() || generations[0] < before.max(self.born) {
            return Err(Error::Corrupt("generations are out of order".into()));
        }
        self.add(last, Some(generations.into()), batch)?;
        let rows = self.read();
        if rows.latest.len() as u64 != rows.count {
            return Err(Error::Corrupt("a key is there twice".into()));
        }
        Ok(())
    }

    fn add(&self, lsn: u64, generations: Option<Box<[u64]>>, batch: RecordBatch) -> Result<()> {
        let keys = self.definition.keys(batch.column(self.definition.key_index()))?;
        let lengths = self.definition.lengths(&batch)?;
        let mut guard = self.write();
        let rows = &mut *guard;
        let chunk = rows.chunks.len() as u32;
        let earlier = keys.into_iter().zip(0..).map(|(key, row)| {
            let before = rows.latest.insert(key, Place { chunk, row })?;
            rows.chunks.get(before.chunk as usize)?.bury(before.row, lsn);
            Some(before)
        });
        let earlier = earlier.collect();
        let dead = (0..batch.num_rows()).map(|_| AtomicU64::new(ALIVE)).collect();
        let first = rows.count;
        rows.count += batch.num_rows() as u64;
        let touched = AtomicBool::new(false);
        rows.chunks.push(Arc::new(Chunk { born: lsn, generations, first, batch, lengths, dead, touched, earlier }));
        Ok(())
    }

    /// Removes the rows of `keys`, those that exist.
    pub(crate) fn delete(&self, lsn: u64, keys: &dyn Array) -> Result<()> {
        let keys = self.definition.keys(keys)?;
        let rows = self.write();
        for key in keys {
            if let Some(&Place { chunk, row }) = rows.latest.get(&key) {
                rows.chunks[chunk as usize].bury(row, lsn);
            }
        }
        Ok(())
    }

    /// The chunks written up to `lsn`, in order.
    pub(crate) fn chunks(&self, lsn: u64) -> Vec<Arc<Chunk>> {
        let rows = self.read();
        rows.chunks[..rows.chunks.partition_point(|chunk| chunk.born <= lsn)].to_vec()
    }

    /// The chunk and row that hold `key` at `lsn`.
    pub(crate) fn find(&self, key: &Key, lsn: u64) -> Option<(Arc<Chunk>, usize)> {
        let rows = self.read();
        let mut place = rows.latest.get(key).copied();
        while let Some(Place { chunk, row }) = place {
            let (chunk, row) = (&rows.chunks[chunk as usize], row as usize);
            if chunk.born <= lsn {
                return chunk.is_alive(row, lsn).then(|| (Arc::clone(chunk), row));
            }
            place = chunk.earlier[row];
        }
        None
    }

    /// Bytes of the rows that are there at `lsn`, about.
    pub(crate) fn live_bytes(&self, lsn: u64) -> u64 {
        let live = |chunk: Arc<Chunk>| {
            let rows = chunk.batch.num_rows();
            let alive =
                if chunk.is_untouched() { rows } else { (0..rows).filter(|&row| chunk.is_alive(row, lsn)).count() };
            (size(&chunk.batch) as u64) * (alive as u64) / (rows.max(1) as u64)
        };
        self.chunks(lsn).into_iter().map(live).sum()
    }

    /// Versions held, replaced ones included.
    pub(crate) fn versions(&self) -> u64 {
        self.read().count
    }
}
