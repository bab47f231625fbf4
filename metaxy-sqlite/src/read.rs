//! Reading rows as Arrow batches.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use metaxy_core::backend::{BatchStream, Position, stream_of};
use metaxy_core::spill::Spill;
use metaxy_core::{Error, FeatureKey, Result, Scan, ScanRequest, ScanStage, blocking, fence};
use rusqlite::{Connection, InterruptHandle};

use crate::catalog::{Catalog, StoredTable};
use crate::changes;
use crate::connection::{Database, Held, Snapshot, try_hold};
use crate::error::During;
use crate::keys;
use crate::sql::{self, Select};
use crate::types::{Batch, FEW_ROWS, MAX_ROWS};

/// The smallest possible number of a row.
const FIRST_ROW: i64 = i64::MIN;

/// A read of one table.
pub(crate) struct Reading {
    pub(crate) database: Arc<Database>,
    pub(crate) prefix: String,
    pub(crate) key: FeatureKey,
    pub(crate) request: ScanRequest,
    /// Limits the read to rows that were appended later.
    pub(crate) since: Option<Arc<Since>>,
}

/// A position after which rows are read, and what was found there.
#[derive(Debug)]
pub(crate) struct Since {
    position: Position,
    found: OnceLock<std::result::Result<Later, &'static str>>,
}

/// The rows after a position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Later {
    /// The number of the first of them.
    first: i64,
    /// The number of the last row of the table.
    pub(crate) last: i64,
}

impl Since {
    pub(crate) fn new(position: Position) -> Arc<Self> {
        Arc::new(Self { position, found: OnceLock::new() })
    }

    /// Returns what the read has found, or why it cannot be told what is later.
    pub(crate) fn found(&self) -> std::result::Result<Later, &'static str> {
        self.found.get().copied().unwrap_or(Err("it was not read"))
    }

    /// Finds the position in the snapshot that is read.
    fn find(&self, connection: &Connection, table: &StoredTable, during: During<'_>) -> Result<Option<Later>> {
        let found = match changes::state(connection, table, during)? {
            None => Err("its changes are not counted yet; the next write begins to"),
            Some(now) => changes::last_row_at(connection, table, &self.position, &now, during)?
                .map(|last| Later { first: last.saturating_add(1), last: now.last() }),
        };
        Ok(self.found.get_or_init(|| found).ok())
    }
}

impl Reading {
    /// Begins the scan.
    pub(crate) async fn scan(self) -> Result<Scan> {
        if self.database.is_memory() { self.scan_memory().await } else { self.scan_file().await }
    }

    /// Reads all rows at once: a database in memory has one connection, which a stream must not hold.
    async fn scan_memory(self) -> Result<Scan> {
        let mut guard = self.database.lock().await;
        blocking::run(move || {
            let connection = self.database.writer(&mut guard)?;
            // The rollback of the transaction removes what the scan has prepared.
            let transaction = connection.unchecked_transaction();
            let transaction = transaction.map_err(|error| self.during().error(error))?;
            let mut rows = self.rows(&transaction)?;
            let mut batches = Vec::new();
            while let Some(batch) = rows.next(&transaction, self.during())? {
                batches.push(batch);
            }
            Ok(Scan { schema: rows.schema, stream: stream_of(batches), applied: rows.select.applied })
        })
        .await
    }

    /// Reads the first batch, and more if it must be read at once; see [`Rest`].
    async fn scan_file(self) -> Result<Scan> {
        let cancel = Cancel::default();
        let running = cancel.0.clone();
        let Begun { schema, applied, rest } = blocking::run(move || self.begin(running)).await?;
        let stream = match rest {
            Rest::Ready(batches) => futures::stream::iter(batches).boxed(),
            Rest::Held(first, cursor) => read_on(first, cursor, cancel),
            Rest::Spilled(stream) => stream,
        };
        Ok(Scan { schema, stream, applied })
    }

    fn begin(&self, running: Running) -> Result<Begun> {
        let snapshot = Snapshot::take(self.database.clone())?;
        let mut cursor = Cursor::open(snapshot, running, |connection| self.rows(connection))?;
        let (schema, applied) = (cursor.rows.schema.clone(), cursor.rows.select.applied);
        let rest = match cursor.next() {
            Ok(Some(first)) if !cursor.is_done() => cursor.keep(first)?,
            only => Rest::Ready(only.transpose().into_iter().collect()),
        };
        Ok(Begun { schema, applied, rest })
    }

    /// Finds the table, and prepares the scan. Called in a transaction, so that all of it is from one snapshot.
    fn rows(&self, connection: &Connection) -> Result<Rows> {
        let name = self.key.table_name();
        let during = self.during().of(&name);
        let catalog = Catalog { connection, prefix: &self.prefix, during };
        let table = catalog.find(&self.key)?.ok_or_else(|| self.missing())?;
        let next = match &self.since {
            None => Some(FIRST_ROW),
            Some(since) => since.find(connection, &table, during)?.map(|later| later.first),
        };
        let by_keys = match &self.request.keys {
            Some(keys) => keys::find_rows(connection, &table, keys, during)?,
            None => false,
        };
        let select = sql::select(&table, &self.request, by_keys);
        for (statement, parameters) in &select.preparation {
            connection.execute(statement, parameters.bound()).map_err(|error| during.error(error))?;
        }
        let schema = Arc::new(table.schema.project(&select.columns)?);
        Ok(Rows { name, schema, select, next })
    }

    fn during(&self) -> During<'_> {
        During::new(&self.database.location, "scan")
    }

    fn missing(&self) -> Error {
        Error::FeatureNotFound { feature: self.key.clone(), searched: vec![self.database.location.name.clone()] }
    }
}

/// A scan whose first batch has been read.
struct Begun {
    schema: SchemaRef,
    applied: ScanStage,
    rest: Rest,
}

/// The batches of a scan. A process may have many streams and few connections, so a stream that is not read holds no
/// thread, and only some streams hold a connection.
enum Rest {
    /// All rows are in this batch, there are none, or the first batch could not be read.
    Ready(Vec<Result<RecordBatch>>),
    /// The first batch, and a connection that reads the others.
    Held(RecordBatch, Box<Cursor>),
    /// All rows, in a temporary file, because other streams hold all connections.
    Spilled(BatchStream),
}

/// The rows of a scan that have not been read yet.
struct Rows {
    /// The name of the table.
    name: String,
    schema: SchemaRef,
    select: Select,
    /// The number of the next row; `None` at the end.
    next: Option<i64>,
}

impl Rows {
    /// Reads the next batch. The connection is in the same transaction in each call.
    fn next(&mut self, connection: &Connection, during: During<'_>) -> Result<Option<RecordBatch>> {
        let Some(from) = self.next else { return Ok(None) };
        self.select.parameters.set_first(from);
        let name = self.name.clone();
        let (batch, next) = fence::decode(&name, || self.batch(connection, during.of(&name)))?;
        self.next = next;
        Ok(batch)
    }

    fn batch(&self, connection: &Connection, during: During<'_>) -> Result<(Option<RecordBatch>, Option<i64>)> {
        let error = |error| during.error(error);
        let mut statement = connection.prepare_cached(&self.select.sql).map_err(error)?;
        let mut rows = statement.query(self.select.parameters.bound()).map_err(error)?;
        // After a full batch, another full one is likely.
        let capacity = if self.next == Some(FIRST_ROW) { FEW_ROWS } else { MAX_ROWS };
        let mut batch = Batch::new(&self.schema, &self.name, capacity)?;
        while let Some(row) = rows.next().map_err(error)? {
            batch.push(row, 1, during)?;
            if batch.is_full() {
                let last: i64 = row.get(0).map_err(error)?;
                return Ok((Some(batch.finish()?), last.checked_add(1)));
            }
        }
        let rest = if batch.is_empty() { None } else { Some(batch.finish()?) };
        Ok((rest, None))
    }
}

/// A connection and the rows that it reads.
struct Cursor {
    rows: Rows,
    /// `None` once all rows are read.
    snapshot: Option<Snapshot>,
    running: Running,
    held: Option<Held>,
}

impl Cursor {
    fn open(mut snapshot: Snapshot, running: Running, find: impl FnOnce(&Connection) -> Result<Rows>) -> Result<Self> {
        let rows = running.during(&mut snapshot, find)?;
        Ok(Self { rows, snapshot: Some(snapshot), running, held: None })
    }

    fn is_done(&self) -> bool {
        self.snapshot.is_none()
    }

    /// Keeps the rows after the first batch: on the connection, or without it.
    fn keep(mut self, first: RecordBatch) -> Result<Rest> {
        self.held = try_hold();
        if self.held.is_some() {
            return Ok(Rest::Held(first, Box::new(self)));
        }
        let mut spill = Spill::new(&first.schema())?;
        spill.push(&first)?;
        while let Some(batch) = self.next()? {
            spill.push(&batch)?;
        }
        Ok(Rest::Spilled(spill.into_stream()))
    }

    /// Reads the next batch. The connection is returned with the last one.
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(mut snapshot) = self.snapshot.take() else { return Ok(None) };
        let database = snapshot.database.clone();
        let during = During::new(&database.location, "scan");
        let batch = self.running.during(&mut snapshot, |connection| self.rows.next(connection, during))?;
        if self.rows.next.is_some() {
            self.snapshot = Some(snapshot);
        } else {
            self.held = None;
        }
        Ok(batch)
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let (snapshot, held) = (self.snapshot.take(), self.held.take());
        if snapshot.is_some() {
            // Closing a connection may write.
            drop(blocking::spawn(move || {
                drop((snapshot, held));
                Ok(())
            }));
        }
    }
}

/// The next step of a stream.
enum Next {
    Give(RecordBatch, Box<Cursor>),
    Await(BoxFuture<'static, Result<(Option<RecordBatch>, Box<Cursor>)>>),
}

/// Returns a stream that reads one batch ahead.
fn read_on(first: RecordBatch, cursor: Box<Cursor>, cancel: Cancel) -> BatchStream {
    let next = |(next, cancel): (Next, Cancel)| async move {
        let (batch, mut cursor) = match next {
            Next::Give(batch, cursor) => (Some(batch), cursor),
            Next::Await(answer) => answer.await?,
        };
        let Some(batch) = batch else { return Ok(None) };
        let ahead = blocking::spawn(move || Ok((cursor.next()?, cursor)));
        Ok(Some((batch, (Next::Await(FutureExt::boxed(ahead)), cancel))))
    };
    futures::stream::try_unfold((Next::Give(first, cursor), cancel), next).boxed()
}

/// The read that a stream waits for, which may be interrupted.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    handle: Option<InterruptHandle>,
    is_cancelled: bool,
}

impl Running {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a read interruptible while it runs; afterwards another read may use the connection.
    fn during<T>(&self, snapshot: &mut Snapshot, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut state = self.state();
        if state.is_cancelled {
            return Err(Error::Task("a stream was dropped while it was being read".to_owned()));
        }
        state.handle = snapshot.interrupt_handle();
        drop(state);
        let answer = snapshot.read(work);
        self.state().handle = None;
        answer
    }
}

/// Interrupts the read when its stream is dropped, even during a sort.
#[derive(Default)]
struct Cancel(Running);

impl Drop for Cancel {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_cancelled = true;
        if let Some(handle) = &state.handle {
            handle.interrupt();
        }
    }
}
