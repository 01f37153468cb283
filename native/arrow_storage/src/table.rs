//! The rows of a table in memory, every version of them.
//!
//! Rows are numbered and live in chunks, in the order of their LSNs. A row carries the LSN that wrote it (its generation)
//! and the one that replaced or deleted it (dead); at LSN `n` exactly the rows with `generation ≤ n < dead` are there. So
//! the writer may apply a commit while readers look at an earlier LSN, and nothing is copied for a snapshot.
//!
//! A put is a chunk; small ones are copied together now and then, because a scan or a search pays for each chunk. Rows
//! keep their numbers, and who looks at the chunks from before keeps those. A chunk restored from a segment mixes
//! generations as a merged one does; its table is looked at only from the LSN of its manifest on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use perfuse_vector_search::Codes;

use crate::error::{Error, Result};
use crate::planted::{Bug, planted};
use crate::schema::{Key, TableDefinition, VectorColumn};
use crate::segment::size;

/// Rows of a chunk from which on its vectors are also kept in int8, and it is not copied into a larger one any more.
const LARGE: usize = 256;
/// Bytes of a chunk from which on it is not copied either: a scan reads them longer than it takes to come to them.
const HEAVY: usize = 1 << 20;
/// Puts after which small chunks are made into one. Rows are copied twice at most: by 32 puts, and into a large chunk.
const PUTS: usize = 32;
/// `dead` of a row that is still there.
const ALIVE: u64 = u64::MAX;

/// The rows of some puts, or of a batch of a segment.
pub(crate) struct Chunk {
    /// LSN of its last row.
    born: u64,
    /// LSN of each row, where they differ.
    generations: Option<Box<[u64]>>,
    /// Number of its first row in the table.
    pub(crate) first: u64,
    pub(crate) batch: RecordBatch,
    /// Length of each row's vector.
    pub(crate) lengths: Vec<f32>,
    /// Its vectors in int8, made by the first search of the table, or by the put after one.
    codes: OnceLock<Option<Arc<Codes>>>,
    dead: Box<[AtomicU64]>,
    /// Whether any row is not [`ALIVE`].
    touched: AtomicBool,
    /// Number of the row that was the same key's before this one.
    earlier: Box<[Option<u64>]>,
}

impl Chunk {
    fn new(
        born: u64,
        generations: Option<Box<[u64]>>,
        first: u64,
        batch: RecordBatch,
        lengths: Vec<f32>,
        earlier: Box<[Option<u64>]>,
    ) -> Self {
        let dead = (0..batch.num_rows()).map(|_| AtomicU64::new(ALIVE)).collect();
        let touched = AtomicBool::new(false);
        Self { born, generations, first, batch, lengths, codes: OnceLock::new(), dead, touched, earlier }
    }

    /// The rows of consecutive chunks.
    fn merged(chunks: &[Arc<Self>]) -> std::result::Result<Self, ArrowError> {
        let (first, last) = (&chunks[0], &chunks[chunks.len() - 1]);
        let batch = concat_batches(first.batch.schema_ref(), chunks.iter().map(|chunk| &chunk.batch))?;
        let generations = |chunk: &Arc<Self>| (0..chunk.batch.num_rows()).map(|row| chunk.generation(row)).collect();
        let generations: Vec<Vec<u64>> = chunks.iter().map(generations).collect();
        let lengths = chunks.iter().flat_map(|chunk| chunk.lengths.iter().copied()).collect();
        let earlier = chunks.iter().flat_map(|chunk| chunk.earlier.iter().copied()).collect();
        let merged = Self::new(last.born, Some(generations.concat().into()), first.first, batch, lengths, earlier);
        let touched = chunks.iter().any(|chunk| !chunk.is_untouched());
        Ok(merged.with_dead(chunks.iter().flat_map(|chunk| &chunk.dead), touched))
    }

    fn with_dead<'a>(mut self, dead: impl Iterator<Item = &'a AtomicU64>, touched: bool) -> Self {
        self.dead = dead.map(|row| AtomicU64::new(row.load(Ordering::Acquire))).collect();
        self.touched = AtomicBool::new(touched);
        self
    }

    /// Whether a scan or a search pays more for the chunk than for its rows.
    fn is_small(&self) -> bool {
        self.batch.num_rows() < LARGE && size(&self.batch) < HEAVY
    }

    /// LSN of its first row.
    fn oldest(&self) -> u64 {
        self.generations.as_ref().and_then(|generations| generations.first().copied()).unwrap_or(self.born)
    }

    /// Whether row `row` is there at `lsn`.
    pub(crate) fn is_alive(&self, row: usize, lsn: u64) -> bool {
        self.dead[row].load(Ordering::Acquire) > lsn && (self.born <= lsn || self.generation(row) <= lsn)
    }

    /// LSN of the commit that wrote row `row`.
    pub(crate) fn generation(&self, row: usize) -> u64 {
        self.generations.as_ref().map_or(self.born, |generations| generations[row])
    }

    /// The rows that are there at `lsn`, with their generations.
    pub(crate) fn alive_at(&self, lsn: u64) -> std::result::Result<(RecordBatch, Vec<u64>), ArrowError> {
        let rows = 0..self.batch.num_rows();
        if self.is_whole(lsn) || planted(Bug::TombstoneLost) {
            return Ok((self.batch.clone(), rows.map(|row| self.generation(row)).collect()));
        }
        let alive: Vec<bool> = rows.clone().map(|row| self.is_alive(row, lsn)).collect();
        let generations = rows.filter(|&row| alive[row]).map(|row| self.generation(row)).collect();
        Ok((filter_record_batch(&self.batch, &BooleanArray::from(alive))?, generations))
    }

    /// Whether none of its rows was replaced or deleted.
    fn is_untouched(&self) -> bool {
        !self.touched.load(Ordering::Acquire)
    }

    /// Whether all its rows are there at `lsn`, as far as can be told at once.
    pub(crate) fn is_whole(&self, lsn: u64) -> bool {
        self.born <= lsn && self.is_untouched()
    }

    /// How many of its rows are there at `lsn`.
    pub(crate) fn count(&self, lsn: u64) -> usize {
        let rows = self.batch.num_rows();
        if self.is_whole(lsn) { rows } else { (0..rows).filter(|&row| self.is_alive(row, lsn)).count() }
    }

    /// The vectors, row-major.
    pub(crate) fn vectors(&self, column: &VectorColumn) -> &[f32] {
        vectors_of(&self.batch, column)
    }

    /// The vectors in int8, where there are enough of them.
    pub(crate) fn codes(&self, column: &VectorColumn) -> Option<&Codes> {
        self.codes.get_or_init(|| codes_of(&self.batch, column)).as_deref()
    }

    /// The same rows in a later version of their table.
    fn evolved(&self, definition: &TableDefinition) -> Result<Self> {
        let batch = definition.widen(self.batch.clone())?;
        let (generations, lengths) = (self.generations.clone(), self.lengths.clone());
        let evolved = Self::new(self.born, generations, self.first, batch, lengths, self.earlier.clone());
        let evolved = evolved.with_dead(self.dead.iter(), !self.is_untouched());
        Ok(Self { codes: self.codes.clone(), ..evolved })
    }

    fn bury(&self, row: usize, lsn: u64) {
        self.touched.store(true, Ordering::Release);
        let _ = self.dead[row].compare_exchange(ALIVE, lsn, Ordering::AcqRel, Ordering::Acquire);
    }
}

fn vectors_of<'a>(batch: &'a RecordBatch, column: &VectorColumn) -> &'a [f32] {
    batch.column(column.index).as_fixed_size_list().values().as_primitive::<Float32Type>().values()
}

fn codes_of(batch: &RecordBatch, column: &VectorColumn) -> Option<Arc<Codes>> {
    if batch.num_rows() < LARGE {
        return None;
    }
    Codes::of(column.width, vectors_of(batch, column)).map(Arc::new)
}

#[derive(Default)]
struct Rows {
    chunks: Vec<Arc<Chunk>>,
    /// Number of each key's last row.
    latest: HashMap<Key, u64>,
    count: u64,
    /// Puts since small chunks were last looked for.
    puts: usize,
}

impl Rows {
    /// Where the row of this number is.
    fn at(&self, number: u64) -> (&Arc<Chunk>, usize) {
        let chunk = &self.chunks[self.chunks.partition_point(|chunk| chunk.first <= number) - 1];
        (chunk, usize::try_from(number - chunk.first).expect("a row of a chunk in memory"))
    }

    /// Makes the last small chunks into one, if together they are large; else those smaller than what 32 puts of one row
    /// become.
    fn merge(&mut self) -> Result<Option<Arc<Chunk>>> {
        let small = self.chunks.iter().rev().take_while(|chunk| chunk.is_small());
        let (count, rows) = small.fold((0, 0), |(count, rows), chunk| (count + 1, rows + chunk.batch.num_rows()));
        let smallest = self.chunks.iter().rev().take_while(|chunk| chunk.batch.num_rows() < PUTS).count();
        let many = if rows >= LARGE { count } else { smallest.min(count) };
        if many < 2 {
            return Ok(None);
        }
        let from = self.chunks.len() - many;
        let merged = Chunk::merged(&self.chunks[from..]).map(Arc::new);
        let merged = merged.map_err(|error| Error::Failed(format!("rows could not be put together: {error}")))?;
        self.chunks.truncate(from);
        self.chunks.push(Arc::clone(&merged));
        Ok(Some(merged))
    }
}

/// A table of a store.
pub(crate) struct Table {
    pub(crate) definition: TableDefinition,
    /// LSN that created it.
    pub(crate) born: u64,
    /// Whether its vectors were ever searched: then codes are made when rows come.
    searched: AtomicBool,
    rows: RwLock<Rows>,
}

impl Table {
    pub(crate) fn new(definition: TableDefinition, born: u64) -> Self {
        Self { definition, born, searched: AtomicBool::new(false), rows: RwLock::default() }
    }

    /// The table with more columns; this one is for those who look at earlier commits.
    pub(crate) fn evolved(&self, definition: TableDefinition) -> Result<Self> {
        if self.definition.evolved(&definition).as_ref() != Ok(&definition) {
            return Err(Error::Corrupt("a stored table becomes one that does not follow it".into()));
        }
        let rows = self.read();
        let chunks = rows.chunks.iter().map(|chunk| chunk.evolved(&definition).map(Arc::new)).collect::<Result<_>>()?;
        let rows = RwLock::new(Rows { chunks, latest: rows.latest.clone(), count: rows.count, puts: 0 });
        Ok(Self { definition, born: self.born, searched: AtomicBool::new(self.is_searched()), rows })
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
        let unfit = |what: &dyn std::fmt::Display| Error::Corrupt(format!("rows do not fit their table: {what}"));
        let key = self.definition.key_index();
        // A key takes bytes in each row, so that no number of rows is believed without them.
        let expected = self.definition.schema().field(key).data_type();
        if batch.columns().get(key).is_none_or(|column| column.data_type() != expected) {
            return Err(unfit(&"they have no key"));
        }
        let (_, columns, _) = self.definition.widen(batch)?.into_parts();
        let batch =
            RecordBatch::try_new(Arc::clone(self.definition.schema()), columns).map_err(|error| unfit(&error))?;
        let keys = self.definition.keys(batch.column(self.definition.key_index()))?;
        let lengths = self.definition.lengths(&batch)?;
        let mut guard = self.write();
        let rows = &mut *guard;
        let first = rows.count;
        let earlier = keys.into_iter().zip(first..).map(|(key, number)| {
            let before = rows.latest.insert(key, number).filter(|&before| before < first)?;
            let (chunk, row) = rows.at(before);
            chunk.bury(row, lsn);
            Some(before)
        });
        let earlier = earlier.collect();
        rows.count += batch.num_rows() as u64;
        let mut chunk = Arc::new(Chunk::new(lsn, generations, first, batch, lengths, earlier));
        rows.chunks.push(Arc::clone(&chunk));
        rows.puts += 1;
        if rows.puts == PUTS {
            rows.puts = 0;
            chunk = rows.merge()?.unwrap_or(chunk);
        }
        drop(guard);
        if let Some(column) = self.definition.vector_column().filter(|_| self.is_searched()) {
            chunk.codes(column);
        }
        Ok(())
    }

    /// Removes the rows of `keys`, those that exist.
    pub(crate) fn delete(&self, lsn: u64, keys: &dyn Array) -> Result<()> {
        let keys = self.definition.keys(keys)?;
        let rows = self.write();
        for key in keys {
            if let Some(&number) = rows.latest.get(&key) {
                let (chunk, row) = rows.at(number);
                chunk.bury(row, lsn);
            }
        }
        Ok(())
    }

    fn is_searched(&self) -> bool {
        self.searched.load(Ordering::Relaxed)
    }

    /// Its vectors, which are going to be searched.
    pub(crate) fn to_search(&self) -> Option<&VectorColumn> {
        self.searched.store(true, Ordering::Relaxed);
        self.definition.vector_column()
    }

    /// Makes the codes of a table that takes the place of `before`, if that was searched.
    pub(crate) fn make_codes_as(&self, before: &Self) {
        if before.is_searched()
            && let Some(column) = self.to_search()
        {
            for chunk in &self.read().chunks {
                chunk.codes(column);
            }
        }
    }

    /// The chunks with rows written up to `lsn`, in order; the last may have later ones, too.
    pub(crate) fn chunks(&self, lsn: u64) -> Vec<Arc<Chunk>> {
        let rows = self.read();
        rows.chunks[..rows.chunks.partition_point(|chunk| chunk.oldest() <= lsn)].to_vec()
    }

    /// The chunk and row that hold `key` at `lsn`.
    pub(crate) fn find(&self, key: &Key, lsn: u64) -> Option<(Arc<Chunk>, usize)> {
        let rows = self.read();
        let mut number = rows.latest.get(key).copied();
        while let Some((chunk, row)) = number.map(|number| rows.at(number)) {
            if chunk.generation(row) <= lsn {
                return chunk.is_alive(row, lsn).then(|| (Arc::clone(chunk), row));
            }
            number = chunk.earlier[row];
        }
        None
    }

    /// Bytes of the rows that are there at `lsn`, about.
    pub(crate) fn live_bytes(&self, lsn: u64) -> u64 {
        let live = |chunk: Arc<Chunk>| {
            (size(&chunk.batch) as u64) * (chunk.count(lsn) as u64) / (chunk.batch.num_rows().max(1) as u64)
        };
        self.chunks(lsn).into_iter().map(live).sum()
    }

    /// Versions held, replaced ones included.
    pub(crate) fn versions(&self) -> u64 {
        self.read().count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow_array::types::Int64Type;
    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use arrow_schema::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;

    fn numbers() -> Table {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        Table::new(TableDefinition::new(&schema, "n", None).expect("good"), 1)
    }

    fn column(keys: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(keys.to_vec()))
    }

    fn put(table: &Table, lsn: u64, keys: &[i64]) {
        table.put(lsn, RecordBatch::try_from_iter([("n", column(keys))]).expect("rows")).expect("they fit");
    }

    /// What is there at `lsn`, in its order: keys and generations.
    fn there(table: &Table, lsn: u64) -> Vec<(i64, u64)> {
        let rows = |chunk: Arc<Chunk>| {
            let (batch, generations) = chunk.alive_at(lsn).expect("rows");
            assert_eq!(chunk.count(lsn), generations.len());
            let keys = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
            keys.into_iter().zip(generations).collect::<Vec<_>>()
        };
        table.chunks(lsn).into_iter().flat_map(rows).collect()
    }

    #[test]
    fn rows_put_one_by_one_are_in_chunks_of_hundreds() {
        let table = numbers();
        (0..10_000_i64).for_each(|n| put(&table, 2 + n.cast_unsigned(), &[n]));
        let chunks = table.chunks(u64::MAX).len();
        assert!(chunks <= 10_000 / LARGE + LARGE / PUTS + PUTS, "{chunks} chunks");
        let large: Vec<i64> = (0..256).collect();
        (0..100).for_each(|lsn| put(&table, 20_000 + lsn, &large));
        assert_eq!(table.chunks(u64::MAX).len(), chunks + 100, "large ones are not copied");
    }

    proptest! {
        #[test]
        fn at_every_commit_the_rows_stay_whatever_is_put_together_later(
            commits in proptest::collection::vec((any::<bool>(), proptest::collection::btree_set(0..60_i64, 0..40)), 1..200)
        ) {
            let (table, mut held) = (numbers(), vec![(1, BTreeMap::new(), Vec::new())]);
            for (lsn, (deletes, keys)) in (2..).zip(&commits) {
                let keys: Vec<i64> = keys.iter().copied().take(if lsn % 7 == 0 { 40 } else { 2 }).collect();
                let (_, mut model, _) = held[held.len() - 1].clone();
                if *deletes && lsn % 3 == 0 {
                    table.delete(lsn, column(&keys).as_ref()).expect("keys");
                    model.retain(|key, _| !keys.contains(key));
                } else {
                    put(&table, lsn, &keys);
                    model.extend(keys.iter().map(|&key| (key, lsn)));
                }
                held.push((lsn, model, table.chunks(lsn)));
            }
            for (lsn, model, chunks) in held {
                let mut rows: Vec<_> = model.iter().map(|(&key, &generation)| (key, generation)).collect();
                rows.sort_by_key(|&(key, generation)| (generation, key));
                prop_assert_eq!(&there(&table, lsn), &rows);
                let before: usize = chunks.iter().map(|chunk| chunk.count(lsn)).sum();
                prop_assert_eq!(before, rows.len(), "who holds the chunks from before");
                for key in 0..60 {
                    let found = table.find(&Key::Int(key), lsn).map(|(chunk, row)| chunk.generation(row));
                    prop_assert_eq!(found, model.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn rows_of_a_log_that_are_not_the_tables_are_corruption() {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("id", DataType::Utf8, false)]);
        let table = Table::new(TableDefinition::new(&schema, "id", None).expect("good"), 1);
        let ids = || Arc::new(StringArray::from(vec!["a"])) as ArrayRef;
        let put = |columns: Vec<ArrayRef>| {
            let named = ["n", "id", "more"].into_iter().zip(columns);
            table.put(2, RecordBatch::try_from_iter(named).expect("rows"))
        };
        assert_eq!(put(vec![Arc::new(Int64Array::from(vec![1])), ids()]), Ok(()));
        for columns in [vec![ids()], vec![ids(), ids()], vec![Arc::new(Int64Array::from(vec![1])), ids(), ids()]] {
            assert!(matches!(put(columns), Err(Error::Corrupt(_))));
        }
    }
}
