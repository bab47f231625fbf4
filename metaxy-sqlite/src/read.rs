//! Reading rows as Arrow batches.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use futures::StreamExt;
use metaxy_core::backend::{BatchStream, stream_of};
use metaxy_core::filter::Predicate;
use metaxy_core::{Error, FeatureKey, Result, Scan, ScanRequest, ScanStage};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, InterruptHandle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::catalog::{Catalog, StoredTable, quoted};
use crate::connection::Database;
use crate::error::{During, corrupt};
use crate::sql::{self, Select};
use crate::types::{Decoder, decoder, max_rows};

/// How many rows a batch has at most.
const BATCH_ROWS: usize = 64 * 1024;

/// How many bytes of text and blobs a batch has at most, unless single rows are larger.
const BATCH_BYTES: usize = 64 << 20;

/// How many batches wait for the reader of a stream.
const BATCHES_AHEAD: usize = 2;

/// One table to be read.
pub(crate) struct Reading {
    pub(crate) database: Arc<Database>,
    pub(crate) prefix: String,
    pub(crate) key: FeatureKey,
    pub(crate) request: ScanRequest,
}

/// What is known of a scan before its first row.
struct Opening {
    schema: SchemaRef,
    applied: ScanStage,
}

impl Reading {
    /// Starts reading.
    pub(crate) async fn scan(self) -> Result<Scan> {
        if self.database.is_memory() { self.scan_memory().await } else { self.scan_file().await }
    }

    /// Reads everything at once: a database in memory has a single connection, which a stream must not hold.
    async fn scan_memory(self) -> Result<Scan> {
        let mut guard = self.database.lock().await;
        tokio::task::spawn_blocking(move || {
            let connection = self.database.writer(&mut guard)?;
            let (mut opening, mut batches) = (None, Vec::new());
            self.read(
                connection,
                |found| opening = Some(found),
                |batch| {
                    batches.push(batch);
                    true
                },
            )?;
            let Some(Opening { schema, applied }) = opening else { return Err(self.missing()) };
            Ok(Scan { schema, stream: stream_of(batches), applied })
        })
        .await?
    }

    /// Reads on a thread of its own, a few batches ahead of whoever takes them.
    async fn scan_file(self) -> Result<Scan> {
        let (announce, announced) = oneshot::channel();
        let (send, receive) = mpsc::channel(BATCHES_AHEAD);
        let running = Running::default();
        let cancel = Cancel(running.clone());
        let task = tokio::task::spawn_blocking(move || self.run(&running, announce, &send));
        match announced.await {
            Ok(Opening { schema, applied }) => Ok(Scan { schema, stream: stream(receive, task, cancel), applied }),
            Err(_) => match task.await? {
                Err(error) => Err(error),
                Ok(()) => Err(Error::Task("a reader ended before it began".to_owned())),
            },
        }
    }

    fn run(
        &self,
        running: &Running,
        announce: oneshot::Sender<Opening>,
        send: &mpsc::Sender<RecordBatch>,
    ) -> Result<()> {
        let connection = self.database.reader()?;
        running.set(Some(connection.get_interrupt_handle()));
        let mut announce = Some(announce);
        let done = self.read(
            &connection,
            |opening| {
                let _ = announce.take().map(|announce| announce.send(opening));
            },
            |batch| send.blocking_send(batch).is_ok(),
        );
        // From here on nobody may interrupt the connection: the next reader uses it.
        running.set(None);
        if done.is_ok() {
            self.database.put_back(connection);
        }
        done
    }

    /// Reads in one transaction, so that all of it is of one state. `emit` says whether anybody wants more.
    fn read(
        &self,
        connection: &Connection,
        open: impl FnOnce(Opening),
        emit: impl FnMut(RecordBatch) -> bool,
    ) -> Result<()> {
        let name = self.key.table_name();
        let during = During::new(&self.database.place, "scan").of(&name);
        let transaction = connection.unchecked_transaction().map_err(|error| during.error(error))?;
        let catalog = Catalog { connection: &transaction, prefix: &self.prefix, during };
        let table = catalog.find(&name)?.ok_or_else(|| self.missing())?;
        let select = sql::select(&table, &self.request);
        let schema = Arc::new(table.schema.project(&select.columns)?);
        open(Opening { schema: schema.clone(), applied: select.applied });
        read_batches(&transaction, &select, &schema, &name, during, emit)
    }

    fn missing(&self) -> Error {
        Error::FeatureNotFound { feature: self.key.clone(), searched: vec![self.database.place.location.clone()] }
    }
}

/// The connection that a stream reads from, while it may be interrupted.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<Option<InterruptHandle>>>);

impl Running {
    fn set(&self, handle: Option<InterruptHandle>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }
}

/// Stops the reading thread when nobody wants its rows any more, also in the middle of a sort.
struct Cancel(Running);

impl Drop for Cancel {
    fn drop(&mut self) {
        if let Some(handle) = &*self.0.0.lock().unwrap_or_else(PoisonError::into_inner) {
            handle.interrupt();
        }
    }
}

/// The batches that a thread sends, and at their end what became of it.
fn stream(receive: mpsc::Receiver<RecordBatch>, task: JoinHandle<Result<()>>, cancel: Cancel) -> BatchStream {
    let next = |(mut receive, task, cancel): (mpsc::Receiver<RecordBatch>, JoinHandle<Result<()>>, Cancel)| async move {
        match receive.recv().await {
            Some(batch) => Ok(Some((batch, (receive, task, cancel)))),
            None => task.await?.map(|()| None),
        }
    };
    futures::stream::try_unfold((receive, task, cancel), next).boxed()
}

fn read_batches(
    connection: &Connection,
    select: &Select,
    schema: &SchemaRef,
    table: &str,
    during: During<'_>,
    mut emit: impl FnMut(RecordBatch) -> bool,
) -> Result<()> {
    let mut statement = connection.prepare(&select.sql).map_err(|error| during.error(error))?;
    let mut rows = statement.query(select.parameters.bound()).map_err(|error| during.error(error))?;
    let mut batch = Batch::new(schema, table);
    while let Some(row) = rows.next().map_err(|error| during.error(error))? {
        batch.push(row, 0, during)?;
        if batch.is_full() && !emit(batch.finish()?) {
            return Ok(());
        }
    }
    if batch.rows > 0 {
        emit(batch.finish()?);
    }
    Ok(())
}

/// The batch that is being collected.
struct Batch<'a> {
    schema: &'a SchemaRef,
    table: &'a str,
    decoders: Vec<Box<dyn Decoder>>,
    rows: usize,
    bytes: usize,
    max_rows: usize,
}

impl<'a> Batch<'a> {
    fn new(schema: &'a SchemaRef, table: &'a str) -> Self {
        let countable = schema.fields().iter().map(|field| max_rows(field.data_type())).min();
        let max_rows = countable.unwrap_or(BATCH_ROWS).min(BATCH_ROWS);
        let decoders = schema.fields().iter().map(|field| decoder(field.data_type(), 1024)).collect();
        Self { schema, table, decoders, rows: 0, bytes: 0, max_rows }
    }

    fn is_full(&self) -> bool {
        self.rows >= self.max_rows || self.bytes >= BATCH_BYTES
    }

    /// Takes the values of a row, of which the first column of the batch is at `offset`.
    fn push(&mut self, row: &rusqlite::Row<'_>, offset: usize, during: During<'_>) -> Result<()> {
        for (position, decoder) in self.decoders.iter_mut().enumerate() {
            let value = row.get_ref(position + offset).map_err(|error| during.error(error))?;
            if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = value {
                self.bytes += bytes.len();
            }
            decoder.push(value).map_err(|reason| damaged(self.table, self.schema, position, &reason))?;
        }
        self.rows += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let finish = |(position, decoder): (usize, &mut Box<dyn Decoder>)| {
            decoder.finish().map_err(|reason| damaged(self.table, self.schema, position, &reason))
        };
        let columns = self.decoders.iter_mut().enumerate().map(finish).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

fn damaged(table: &str, schema: &Schema, position: usize, reason: &str) -> Error {
    corrupt(table, format!("column `{}` holds {reason}", schema.field(position).name()))
}

/// The numbers of the rows for which a predicate is true, found by the core.
pub(crate) fn matching_rows(
    connection: &Connection,
    table: &StoredTable,
    feature: &str,
    predicate: &Predicate,
    during: During<'_>,
) -> Result<Vec<i64>> {
    let needed: Vec<String> = predicate.columns().into_iter().collect();
    let positions: Vec<usize> = needed.iter().filter_map(|name| table.schema.index_of(name).ok()).collect();
    let schema = Arc::new(table.schema.project(&positions)?);
    let names: Vec<String> = std::iter::once("rowid".to_owned())
        .chain(needed.iter().filter_map(|name| table.column(name)).map(|(column, _)| column))
        .collect();
    let sql = format!("SELECT {} FROM {}", names.join(", "), quoted(&table.name));
    let mut statement = connection.prepare(&sql).map_err(|error| during.error(error))?;
    let mut rows = statement.query([]).map_err(|error| during.error(error))?;
    let (mut batch, mut numbers, mut matching) = (Batch::new(&schema, feature), Vec::new(), Vec::new());
    let mut check = |batch: &mut Batch<'_>, numbers: &mut Vec<i64>| -> Result<()> {
        let mask = predicate.evaluate(&batch.finish()?)?;
        let hits = numbers.drain(..).enumerate().filter(|(row, _)| mask.is_valid(*row) && mask.value(*row));
        matching.extend(hits.map(|(_, number)| number));
        Ok(())
    };
    while let Some(row) = rows.next().map_err(|error| during.error(error))? {
        numbers.push(row.get(0).map_err(|error| during.error(error))?);
        batch.push(row, 1, during)?;
        if batch.is_full() {
            check(&mut batch, &mut numbers)?;
        }
    }
    check(&mut batch, &mut numbers)?;
    Ok(matching)
}
