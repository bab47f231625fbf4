//! The backend that keeps its rows in memory: the plainest one there is, and an example of [`StoreBackend`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use metaxy_core::backend::{
    self, AccessMode, Appended, BackendInfo, Capabilities, OtherProcesses, Position, Scan, ScanRequest, ScanStage,
    SharedBackend, StoreBackend, Writers,
};
use metaxy_core::filter::Predicate;
use metaxy_core::registry::{BackendRegistration, BackendSettings};
use metaxy_core::schema::{conform, grown_schema};
use metaxy_core::{FeatureKey, HashAlgorithm, Result, columns};
use serde::Deserialize;

const KIND: &str = "memory";

/// A table: its schema, and batches that may have been written under a smaller one.
#[derive(Debug)]
struct Table {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// The latest time of its rows.
    newest: Option<i64>,
    /// Distinguishes the table, as it was after rows were last removed, from all others of the process.
    incarnation: u64,
}

/// Returns a number that no table has had.
fn next_incarnation() -> u64 {
    static INCARNATIONS: AtomicU64 = AtomicU64::new(0);
    INCARNATIONS.fetch_add(1, Ordering::SeqCst)
}

impl Table {
    /// Returns its incarnation and the number of its batches, which only grows.
    fn position(&self) -> Position {
        Position::new(format!("{} {}", self.incarnation, self.batches.len()))
    }

    /// Returns the number of batches at a position, if only batches were added since.
    fn batches_at(&self, position: &Position) -> Option<usize> {
        let (incarnation, batches) = position.as_str().split_once(' ')?;
        (incarnation.parse() == Ok(self.incarnation)).then(|| batches.parse().ok()).flatten()
    }

    /// Returns the batches from a number on, in the current schema.
    fn scan(&self, table: &FeatureKey, from: usize) -> Result<Scan> {
        let batches = self.batches.iter().skip(from).map(|batch| conform(table, &self.schema, batch));
        let stream = backend::stream_of(batches.collect::<Result<_>>()?);
        Ok(Scan { schema: self.schema.clone(), stream, applied: ScanStage::Nothing })
    }
}

type Tables = Arc<Mutex<BTreeMap<String, Table>>>;

/// A store in memory. Backends of one name see the same tables, as two programs on one database do; they last as long
/// as the process.
#[derive(Debug)]
pub struct MemoryBackend {
    name: String,
    tables: Tables,
    open: AtomicBool,
}

/// The settings of a store in memory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySettings {
    /// Which tables to use: those of all stores of the process that give this name.
    pub name: String,
}

impl MemoryBackend {
    /// Tables of its own, which go when it goes.
    pub fn new() -> Self {
        Self { name: "memory".to_owned(), tables: Tables::default(), open: AtomicBool::new(false) }
    }

    /// Returns the tables of a name.
    pub fn named(name: impl Into<String>) -> Self {
        static NAMED: LazyLock<Mutex<HashMap<String, Tables>>> = LazyLock::new(Mutex::default);
        let name = name.into();
        let tables = lock(&NAMED).entry(name.clone()).or_default().clone();
        Self { name, tables, open: AtomicBool::new(false) }
    }

    /// Returns the tables, if the backend is open.
    fn tables(&self) -> Result<MutexGuard<'_, BTreeMap<String, Table>>> {
        if self.open.load(Ordering::SeqCst) { Ok(lock(&self.tables)) } else { Err(backend::closed(&self.info())) }
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

/// Locks a mutex. A panic elsewhere leaves the tables whole, because they are only ever replaced.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl StoreBackend for MemoryBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            kind: KIND,
            location: self.name.clone(),
            default_hash: HashAlgorithm::Xxhash32,
            flat_names: true,
            auto_create_tables: true,
            capabilities: Capabilities {
                writers: Writers::OneProcess,
                other_processes: OtherProcesses::Never,
                ..Capabilities::default()
            },
        }
    }

    async fn open(&self, _mode: AccessMode) -> Result<()> {
        self.open.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.open.store(false, Ordering::SeqCst);
        Ok(())
    }

    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        Ok(self.tables()?.get(&table.table_name()).map(|stored| stored.schema.clone()))
    }

    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        let mut tables = self.tables()?;
        let created =
            || Table { schema: schema.clone(), batches: Vec::new(), newest: None, incarnation: next_incarnation() };
        let stored = tables.entry(table.table_name()).or_insert_with(created);
        stored.schema = grown_schema(table, &stored.schema, &schema)?;
        for batch in &batches {
            stored.newest = stored.newest.max(columns::newest_time(batch)?);
        }
        stored.batches.extend(batches);
        Ok(())
    }

    async fn scan(&self, table: &FeatureKey, _request: &ScanRequest) -> Result<Scan> {
        let tables = self.tables()?;
        let stored = tables.get(&table.table_name()).ok_or_else(|| backend::not_found(&self.info(), table))?;
        stored.scan(table, 0)
    }

    async fn newest_stamp(&self, table: &FeatureKey) -> Result<Option<i64>> {
        Ok(self.tables()?.get(&table.table_name()).and_then(|stored| stored.newest))
    }

    async fn position(&self, table: &FeatureKey) -> Result<Option<Position>> {
        Ok(Some(self.tables()?.get(&table.table_name()).map_or_else(Position::absent, Table::position)))
    }

    async fn appended(&self, table: &FeatureKey, since: &Position, _columns: &[String]) -> Result<Appended> {
        let tables = self.tables()?;
        let stored = tables.get(&table.table_name()).ok_or_else(|| backend::not_found(&self.info(), table))?;
        let Some(from) = stored.batches_at(since) else {
            return Ok(Appended::CannotTell("rows were removed, or the table was made anew".to_owned()));
        };
        let rows = stored.batches.iter().map(|batch| batch.num_rows() as u64).sum();
        Ok(Appended::Rows { rows: stored.scan(table, from)?, of: Some(rows) })
    }

    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        let mut tables = self.tables()?;
        let Some(stored) = tables.get_mut(&table.table_name()) else { return Ok(0) };
        let mut kept = Vec::with_capacity(stored.batches.len());
        let mut deleted = 0;
        for batch in &stored.batches {
            let rest = predicate.remove_from(&conform(table, &stored.schema, batch)?)?;
            deleted += (batch.num_rows() - rest.num_rows()) as u64;
            kept.push(rest);
        }
        stored.batches = kept;
        stored.incarnation = next_incarnation();
        Ok(deleted)
    }

    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        self.tables()?.remove(&table.table_name());
        Ok(())
    }

    async fn tables(&self) -> Result<Vec<String>> {
        Ok(self.tables()?.keys().cloned().collect())
    }
}

inventory::submit! {
    BackendRegistration {
        kind: KIND,
        aliases: &[],
        crate_name: "metaxy-testkit",
        ignored_settings: &[],
        create,
    }
}

fn create(settings: BackendSettings) -> Result<SharedBackend> {
    let settings: MemorySettings = settings.parse()?;
    Ok(Arc::new(MemoryBackend::named(settings.name)))
}
