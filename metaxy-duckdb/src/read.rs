//! Reads rows as Arrow batches. A scan that is not read occupies no thread.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use duckdb::arrow::compute::concat_batches;
use duckdb::{ArrowStream, Connection, InterruptHandle, Statement};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use metaxy_core::backend::{not_found, stream_of};
use metaxy_core::spill::Spill;
use metaxy_core::{BackendInfo, Error, FeatureKey, Result, Scan, ScanRequest, ScanStage, blocking, fence};
use tokio::sync::OwnedSemaphorePermit;

use crate::KIND;
use crate::arrow_border::cursor::Cursor;
use crate::arrow_border::{DuckBatch, from_duckdb};
use crate::catalog::StoredTable;
use crate::changes::LastRow;
use crate::connection::{Database, Link};
use crate::error::During;
use crate::keys::Keys;
use crate::known::Moment;
use crate::sql::names::TableName;
use crate::sql::select::{Select, select};
use crate::types::convert;

/// The rows, or bytes, of one batch. DuckDB returns 2048 rows at a time.
const ROWS: usize = 32 * 1024;
const BYTES: usize = 8 << 20;

/// A table to be read.
pub(crate) struct Reading {
    pub(crate) database: Arc<Database>,
    /// The table's name in DuckDB.
    pub(crate) sql_name: TableName,
    /// The table's name, for messages.
    pub(crate) table: String,
    pub(crate) key: FeatureKey,
    pub(crate) info: BackendInfo,
    pub(crate) request: ScanRequest,
    /// Limits the read to later rows.
    pub(crate) after: Option<Arc<After>>,
}

/// A row after which the others are read.
#[derive(Debug)]
pub(crate) struct After {
    last: LastRow,
    /// About how many rows the table has; `None` if the row was not found.
    rows: Mutex<Option<i64>>,
}

impl After {
    pub(crate) fn new(last: LastRow) -> Arc<Self> {
        Arc::new(Self { last, rows: Mutex::default() })
    }

    /// Returns about how many rows the table has; `None` if the row was not found in what was read.
    pub(crate) fn rows(&self) -> Option<i64> {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for the row in the transaction that is read, and returns the condition of the later ones.
    fn condition(&self, connection: &Connection, table: &StoredTable, during: During<'_>) -> Result<String> {
        let is_in = self.last.is_in(connection, table, during)?;
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = is_in.then_some(table.rows);
        Ok(match self.last.number {
            _ if !is_in => "false".to_owned(),
            None => "true".to_owned(),
            Some(number) => format!("rowid > {number}"),
        })
    }
}

impl Reading {
    /// Starts the scan, and reads its first batch. If there are more, it keeps a connection, or writes its rows to a
    /// file if many streams already have a connection.
    pub(crate) async fn start(self) -> Result<Scan> {
        let reading = Arc::new(self);
        let database = reading.database.clone();
        let moment = database.known().now();
        let mut begun = reading.begin(moment).await;
        if database.known().may_have_changed(moment) {
            begun = reading.begin(Moment::UNKNOWN).await;
        }
        let Begun { reader, first, stop, applied } = begun?;
        let schema = reader.schema.clone();
        let stream = match first {
            Some(first) if !reader.is_ended() => match database.stream() {
                Some(permit) => {
                    let next = Next::Begun(first, Box::new(reader));
                    Batches { next, _stop: stop, _permit: permit }.boxed()
                }
                None => blocking::run(move || reader.spill(&first)).await?.into_stream(),
            },
            first => stream_of(first.into_iter().collect()),
        };
        Ok(Scan { schema, stream, applied })
    }

    async fn begin(self: &Arc<Self>, moment: Moment) -> Result<Begun> {
        let reading = self.clone();
        let (mut reader, applied) = blocking::run(move || reading.prepare(moment)).await?;
        let stop = Interrupting(reader.interrupt.clone());
        let (reader, first) = blocking::run(move || reader.read().map(|first| (reader, first))).await?;
        Ok(Begun { reader, first, stop, applied })
    }

    /// Reads the rows in the transaction that describes the table, so that both are from one snapshot. With a known
    /// description the statement is a transaction of its own.
    fn prepare(&self, moment: Moment) -> Result<(Reader, ScanStage)> {
        let during = During::new(&self.database.location, "read").of(&self.table);
        let link = self.database.connect()?;
        let table = match self.database.known().get(&self.sql_name, moment).filter(|_| self.after.is_none()) {
            None => {
                link.connection.execute_batch("BEGIN TRANSACTION").map_err(during.fails())?;
                link.table(&self.sql_name, moment, during)?.ok_or_else(|| not_found(&self.info, &self.key))?
            }
            Some(table) => table,
        };
        let keys = self.request.keys.as_ref().map(|keys| Keys::new(&table, keys)).transpose()?.flatten();
        let rows = match (&self.after, &keys) {
            (Some(after), _) => Some(after.condition(&link.connection, &table, during)?),
            (None, keys) => keys.as_ref().map(Keys::condition),
        };
        let Select { sql, columns, applied } = select(&table, &self.request, rows);
        let schema = Arc::new(table.schema.project(&columns)?);
        let interrupt = link.connection.interrupt_handle();
        let (location, table) = (self.database.location.clone(), self.table.clone());
        Ok((Reader { state: State::Planned(link, sql, keys), schema, interrupt, location, table }, applied))
    }
}

/// A scan whose first batch has been read.
struct Begun {
    reader: Reader,
    first: Option<RecordBatch>,
    stop: Interrupting,
    applied: ScanStage,
}

/// The rows of a scan that have not been read yet.
struct Reader {
    state: State,
    schema: SchemaRef,
    interrupt: Arc<InterruptHandle>,
    location: String,
    table: String,
}

/// The state of a scan.
enum State {
    /// Its transaction has started; the statement, with its keys, runs when it is read.
    Planned(Link, String, Option<Keys>),
    Running(Cursor<Link>),
    Ended,
}

impl Reader {
    fn read(&mut self) -> Result<Option<RecordBatch>> {
        let during = During::new(&self.location, "read").of(&self.table);
        if let State::Planned(..) = self.state
            && let State::Planned(link, sql, _keys) = std::mem::replace(&mut self.state, State::Ended)
        {
            self.state = State::Running(Cursor::new(link, &sql).map_err(during.fails())?);
        }
        let State::Running(cursor) = &mut self.state else { return Ok(None) };
        let Some(chunks) = cursor.chunks() else { return Ok(None) };
        let gathered = fence::decode(&self.table, || gather(chunks, during));
        if !matches!(gathered, Ok(Gathered { ended: false, .. })) {
            // On this thread, and before the stream ends: a store that is closed then releases its file.
            self.state = State::Ended;
        }
        gathered?.batch.map(|batch| in_types(&batch, &self.schema, &self.table)).transpose()
    }

    /// Returns whether nothing is left to read.
    fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Writes a batch, and all rows that have not been read yet, to a file.
    fn spill(mut self, first: &RecordBatch) -> Result<Spill> {
        let mut spill = Spill::new(&self.schema)?;
        spill.push(first)?;
        while let Some(batch) = self.read()? {
            spill.push(&batch)?;
        }
        Ok(spill)
    }
}

/// Converts a batch into the types of the schema.
fn in_types(batch: &RecordBatch, schema: &SchemaRef, table: &str) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        columns.push(convert(column, field.data_type()).map_err(|error| unreadable(table, field.name(), error))?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// Returns the error of values that do not have the type in the comment of their column.
fn unreadable(table: &str, column: &str, error: ArrowError) -> Error {
    let reason = format!(
        "the values of column `{column}` do not have the type in its comment ({error}); remove the comment to read \
         them in DuckDB's type"
    );
    Error::corrupt(table, reason).with_source(error)
}

/// Some rows of a statement.
struct Gathered {
    batch: Option<RecordBatch>,
    /// Whether they were the last.
    ended: bool,
}

/// Reads the next rows of a statement into one batch of a suitable size.
fn gather(stream: &mut ArrowStream<'_>, during: During<'_>) -> Result<Gathered> {
    let mut chunks: Vec<DuckBatch> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    let mut ended = false;
    while rows < ROWS && bytes < BYTES {
        let Some(chunk) = stream.next() else {
            ended = true;
            break;
        };
        let chunk = chunk.map_err(during.fails())?;
        rows += chunk.num_rows();
        bytes += chunk.get_array_memory_size();
        chunks.push(chunk);
    }
    let Some(first) = chunks.first() else { return Ok(Gathered { batch: None, ended }) };
    let batch = concat_batches(&first.schema(), &chunks).map_err(|error| Error::backend(KIND, "read", error))?;
    Ok(Gathered { batch: Some(from_duckdb(batch)?), ended })
}

/// Reads the rows of a statement to its end on one thread.
pub(crate) struct Rows<'a> {
    chunks: ArrowStream<'a>,
    during: During<'a>,
}

impl<'a> Rows<'a> {
    /// Runs a statement.
    pub(crate) fn new(statement: &'a mut Statement<'_>, during: During<'a>) -> Result<Self> {
        Ok(Self { chunks: statement.stream_arrow([]).map_err(during.fails())?, during })
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let gathered = fence::decode(self.during.table_name(), || gather(&mut self.chunks, self.during));
        gathered.map(|gathered| gathered.batch).transpose()
    }
}

/// Stops a statement when it is dropped.
pub(crate) struct Interrupting(pub(crate) Arc<InterruptHandle>);

impl Drop for Interrupting {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

/// The rows of a scan. Dropping them stops the statement.
struct Batches {
    next: Next,
    _stop: Interrupting,
    _permit: OwnedSemaphorePermit,
}

/// The next batch.
enum Next {
    /// The first batch, which was read already.
    Begun(RecordBatch, Box<Reader>),
    /// A batch that is being read while the previous one is processed.
    Reading(BoxFuture<'static, Result<(Box<Reader>, Option<RecordBatch>)>>),
    Ended,
}

impl Next {
    fn read(mut reader: Box<Reader>) -> Self {
        let read = move || reader.read().map(|batch| (reader, batch));
        Self::Reading(blocking::spawn(read).boxed())
    }
}

impl Stream for Batches {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Next::Begun(..) = self.next
            && let Next::Begun(first, reader) = std::mem::replace(&mut self.next, Next::Ended)
        {
            self.next = Next::read(reader);
            return Poll::Ready(Some(Ok(first)));
        }
        let Next::Reading(reading) = &mut self.next else { return Poll::Ready(None) };
        match ready!(reading.poll_unpin(context)) {
            Ok((reader, Some(batch))) => {
                self.next = Next::read(reader);
                Poll::Ready(Some(Ok(batch)))
            }
            Ok((_, None)) => {
                self.next = Next::Ended;
                Poll::Ready(None)
            }
            Err(error) => {
                self.next = Next::Ended;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}
