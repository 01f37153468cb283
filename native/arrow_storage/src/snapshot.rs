//! What a store holds at one LSN, for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;

use arrow_array::{Array, ArrayRef, BooleanArray, Float32Array, RecordBatch, UInt32Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use arrow_select::interleave::interleave;
use perfuse_vector_search::{Block, Found, nearest};

use crate::error::{Error, Result};
use crate::filter::{Filter, Scalar, column};
use crate::schema::{Key, TableDefinition};
use crate::table::{Chunk, Table};

/// Most threads of one search: it is bound by memory, which a few of them keep busy.
const MOST_THREADS: usize = 4;

/// The tables by name.
pub(crate) type Catalog = BTreeMap<String, Arc<Table>>;

/// Rows of one schema, in batches.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Schema of every batch.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A view of all tables at one LSN; later commits do not change it.
#[derive(Clone)]
pub struct Snapshot {
    lsn: u64,
    catalog: Arc<Catalog>,
}

impl Snapshot {
    pub(crate) fn new(lsn: u64, catalog: Arc<Catalog>) -> Self {
        Self { lsn, catalog }
    }

    /// The last commit it holds.
    pub fn lsn(&self) -> u64 {
        self.lsn
    }

    /// The tables, by name.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &TableDefinition)> {
        self.entries().map(|(name, table)| (name, &table.definition))
    }

    pub(crate) fn table(&self, name: &str) -> Result<&Table> {
        let table = self.catalog.get(name).filter(|table| table.born <= self.lsn);
        table.map(Arc::as_ref).ok_or_else(|| Error::NotFound(format!("the store has no table {name:?}")))
    }

    /// Bytes of the rows of all tables, about.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.entries().map(|(_, table)| table.live_bytes(self.lsn)).sum()
    }

    /// The tables that are there, in the order of their names.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Table)> {
        let there = self.catalog.iter().filter(|(_, table)| table.born <= self.lsn);
        there.map(|(name, table)| (name.as_str(), table.as_ref()))
    }

    /// A table's definition.
    pub fn definition(&self, table: &str) -> Result<&TableDefinition> {
        Ok(&self.table(table)?.definition)
    }

    /// Floats per vector of a table that has vectors.
    pub fn width(&self, table: &str) -> Result<Option<usize>> {
        Ok(self.table(table)?.definition.vector_column().map(|vector| vector.width))
    }

    /// Number of rows of a table.
    pub fn count(&self, table: &str) -> Result<usize> {
        Ok(self.table(table)?.chunks(self.lsn).iter().map(|chunk| chunk.count(self.lsn)).sum())
    }

    /// The row with `key`.
    pub fn get(&self, table: &str, key: &Key) -> Result<Option<RecordBatch>> {
        let table = self.table(table)?;
        Ok(table.find(key, self.lsn).map(|(chunk, row)| chunk.batch.slice(row, 1)))
    }

    /// LSN of the commit that wrote the row with `key`; 0 when there is none.
    pub fn generation(&self, table: &str, key: &Key) -> Result<u64> {
        Ok(self.table(table)?.find(key, self.lsn).map_or(0, |(chunk, row)| chunk.generation(row)))
    }

    /// The rows that match, in the order of their commits, with the columns asked for (all when `None`).
    pub fn scan(&self, table: &str, wanted: &[(String, Scalar)], columns: Option<&[String]>) -> Result<Rows> {
        let table = self.table(table)?;
        let filter = Filter::new(&table.definition, wanted)?;
        let (schema, indices) = projection(table.definition.schema(), columns)?;
        let mut batches = Vec::new();
        if let Some(key) = filter.key() {
            let found = table.find(key, self.lsn).filter(|(chunk, row)| filter.matches(&chunk.batch, *row));
            batches.extend(found.map(|(chunk, row)| chunk.batch.slice(row, 1)));
        } else {
            for chunk in table.chunks(self.lsn) {
                match self.alive(&chunk, &filter) {
                    None => batches.push(chunk.batch.clone()),
                    Some(alive) if alive.contains(&true) => {
                        batches.push(filter_record_batch(&chunk.batch, &BooleanArray::from(alive)).map_err(internal)?);
                    }
                    Some(_) => {}
                }
            }
        }
        let project = |batch: RecordBatch| {
            let columns = indices.iter().map(|&index| Arc::clone(batch.column(index))).collect();
            RecordBatch::try_new(Arc::clone(&schema), columns).map_err(internal)
        };
        let batches = batches.into_iter().map(project).collect::<Result<_>>()?;
        Ok(Rows { schema, batches })
    }

    /// The `k` rows nearest to each query (row-major), best first: `_query`, `_score`, then the columns asked for.
    ///
    /// Exact; rows with equal scores come in the order they were written. `_score` is in the terms of the table's
    /// metric.
    pub fn search(
        &self,
        table: &str,
        queries: &[f32],
        k: usize,
        wanted: &[(String, Scalar)],
        columns: Option<&[String]>,
    ) -> Result<RecordBatch> {
        let name = table;
        let table = self.table(name)?;
        let vector = table.to_search().ok_or_else(|| Error::Invalid(format!("table {name:?} has no vector column")))?;
        let filter = &Filter::new(&table.definition, wanted)?;
        let (schema, indices) = projection(table.definition.schema(), columns)?;
        let chunks = table.chunks(self.lsn);
        // One query asks about the few rows that its scores do not rule out; of many, each would.
        let beforehand = !filter.is_empty() && queries.len() > vector.width;
        let known: Vec<_> =
            chunks.iter().map(|chunk| if beforehand { self.alive(chunk, filter) } else { None }).collect();
        let alive: Vec<_> = (chunks.iter().zip(&known))
            .map(|(chunk, known)| {
                let ask = !filter.is_empty() || !chunk.is_whole(self.lsn);
                ask.then_some(move |row: usize| {
                    known.as_ref().map_or_else(|| self.holds(chunk, filter, row), |known| known[row])
                })
            })
            .collect();
        let blocks = chunks.iter().zip(&alive).map(|(chunk, alive)| Block {
            vectors: chunk.vectors(vector),
            lengths: &chunk.lengths,
            codes: chunk.codes(vector),
            first: chunk.first,
            alive: alive.as_ref().map(|alive| alive as _),
        });
        let found = nearest(vector.metric, vector.width, queries, k, blocks, threads())
            .map_err(|error| Error::Invalid(format!("queries of table {name:?}: {error}")))?;
        gather(&schema, &indices, &chunks, &found)
    }

    /// Which rows of a chunk are there and match; `None` = all of them.
    fn alive(&self, chunk: &Chunk, filter: &Filter) -> Option<Vec<bool>> {
        if filter.is_empty() && chunk.is_whole(self.lsn) {
            return None;
        }
        Some((0..chunk.batch.num_rows()).map(|row| self.holds(chunk, filter, row)).collect())
    }

    fn holds(&self, chunk: &Chunk, filter: &Filter, row: usize) -> bool {
        chunk.is_alive(row, self.lsn) && filter.matches(&chunk.batch, row)
    }
}

/// Threads that a search may take where it is worth it. One core alone waits for memory: 100,000 x 384 take 4.7 ms with
/// one thread and 1.7 with two (a Xeon with AMX).
fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| available_parallelism().map_or(1, usize::from).min(MOST_THREADS))
}

fn projection(schema: &SchemaRef, columns: Option<&[String]>) -> Result<(SchemaRef, Vec<usize>)> {
    let Some(names) = columns else { return Ok((Arc::clone(schema), (0..schema.fields().len()).collect())) };
    if names.is_empty() {
        return Err(Error::Invalid("expected at least one column, came an empty list".into()));
    }
    let indices = names.iter().map(|name| column(schema, name)).collect::<Result<Vec<_>>>()?;
    let fields: Vec<_> = indices.iter().map(|&index| Arc::clone(&schema.fields()[index])).collect();
    Ok((Arc::new(Schema::new(fields)), indices))
}

fn gather(schema: &Schema, indices: &[usize], chunks: &[Arc<Chunk>], found: &[Vec<Found>]) -> Result<RecordBatch> {
    let hits = || found.iter().flatten();
    let place = |hit: &Found| {
        let chunk = chunks.partition_point(|chunk| chunk.first <= hit.row) - 1;
        (chunk, usize::try_from(hit.row - chunks[chunk].first).expect("a row of a chunk in memory"))
    };
    let places: Vec<(usize, usize)> = hits().map(place).collect();
    let query_of = |(query, hits): (u32, &Vec<Found>)| std::iter::repeat_n(query, hits.len());
    let mut fields =
        vec![Field::new("_query", DataType::UInt32, false), Field::new("_score", DataType::Float32, false)];
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new((0..).zip(found).flat_map(query_of).collect::<UInt32Array>()),
        Arc::new(hits().map(|hit| hit.score).collect::<Float32Array>()),
    ];
    for (field, &index) in schema.fields().iter().zip(indices) {
        let sources: Vec<&dyn Array> = chunks.iter().map(|chunk| chunk.batch.column(index).as_ref()).collect();
        fields.push(field.as_ref().clone());
        columns.push(if places.is_empty() {
            arrow_array::new_empty_array(field.data_type())
        } else {
            interleave(&sources, &places).map_err(internal)?
        });
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(internal)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn internal(error: arrow_schema::ArrowError) -> Error {
    Error::Failed(error.to_string())
}
