//! Scans: a statement that runs in a thread of its own and hands batches over as they are asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use duckdb::arrow::compute::concat_batches;
use duckdb::{ArrowStream, InterruptHandle, Statement};
use futures::{Stream, StreamExt};
use metaxy_core::backend::not_found;
use metaxy_core::{BackendInfo, Error, FeatureKey, Result, Scan, ScanRequest, ScanStage};
use tokio::sync::{mpsc, oneshot};

use crate::KIND;
use crate::arrow_border::{DuckBatch, from_duckdb};
use crate::catalog::StoredTable;
use crate::database::{Database, Link};
use crate::error::During;
use crate::sql::{Select, select};
use crate::types::convert;

/// DuckDB gives 2048 rows at a time; so many, or so many bytes, go into one batch.
const ROWS: usize = 32 * 1024;
const BYTES: usize = 8 << 20;

/// Batches that are ready before anybody asks for them.
const AHEAD: usize = 2;

/// What to read.
pub(crate) struct Reading {
    pub(crate) database: Arc<Database>,
    /// The table's name in DuckDB.
    pub(crate) sql_name: String,
    /// The table's name, for messages.
    pub(crate) table: String,
    pub(crate) key: FeatureKey,
    pub(crate) info: BackendInfo,
    pub(crate) request: ScanRequest,
}

/// What is known of a scan before its first row.
struct Started {
    schema: SchemaRef,
    applied: ScanStage,
    interrupt: Arc<InterruptHandle>,
}

type Answers = mpsc::Sender<Result<RecordBatch>>;

impl Reading {
    /// Starts the scan.
    pub(crate) async fn start(self) -> Result<Scan> {
        let (send, receive) = mpsc::channel(AHEAD);
        let (started, starts) = oneshot::channel();
        let thread = tokio::task::spawn_blocking(move || self.run(started, &send));
        match starts.await {
            Ok(started) => {
                let Started { schema, applied, interrupt } = started?;
                Ok(Scan { schema, stream: Batches { receive, _stop: Interrupting(interrupt) }.boxed(), applied })
            }
            Err(_) => Err(thread.await.err().map_or_else(|| Error::Task("a scan never began".to_owned()), Error::from)),
        }
    }

    fn run(self, started: oneshot::Sender<Result<Started>>, send: &Answers) {
        let during = During::new(&self.database.location, "read").on(&self.table);
        let prepared = self.prepare(during);
        let (link, select, schema) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let interrupt = link.connection.interrupt_handle();
        let answer = Started { schema: schema.clone(), applied: select.applied, interrupt };
        if started.send(Ok(answer)).is_err() {
            return;
        }
        if let Err(error) = stream(&link, &select, &schema, send, during) {
            let _ = send.blocking_send(Err(error));
        }
    }

    /// The table and the rows are read in one transaction, so that both are of one state.
    fn prepare(&self, during: During<'_>) -> Result<(Link, Select, SchemaRef)> {
        let link = self.database.connect()?;
        link.connection.execute_batch("BEGIN TRANSACTION").map_err(during.fails())?;
        let table = StoredTable::find(&link.connection, &self.sql_name, during)?;
        let table = table.ok_or_else(|| not_found(&self.info, &self.key))?;
        let select = select(&table, &self.request);
        let schema = Arc::new(table.schema.project(&select.columns)?);
        Ok((link, select, schema))
    }
}

fn stream(link: &Link, select: &Select, schema: &SchemaRef, send: &Answers, during: During<'_>) -> Result<()> {
    let mut statement = link.connection.prepare(&select.sql).map_err(during.fails())?;
    for batch in Rows::new(&mut statement, during)? {
        if send.blocking_send(batch.and_then(|batch| in_types(&batch, schema))).is_err() {
            // Nobody listens any more.
            break;
        }
    }
    Ok(())
}

/// A batch in the types that the core has been told.
fn in_types(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| convert(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// The rows of a statement, in batches of a good size.
pub(crate) struct Rows<'a> {
    chunks: ArrowStream<'a>,
    during: During<'a>,
}

impl<'a> Rows<'a> {
    /// Runs a statement.
    pub(crate) fn new(statement: &'a mut Statement<'_>, during: During<'a>) -> Result<Self> {
        Ok(Self { chunks: statement.stream_arrow([]).map_err(during.fails())?, during })
    }

    fn read(&mut self) -> Result<Option<RecordBatch>> {
        let mut chunks: Vec<DuckBatch> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while rows < ROWS && bytes < BYTES {
            let Some(chunk) = self.chunks.next() else { break };
            let chunk = chunk.map_err(self.during.fails())?;
            rows += chunk.num_rows();
            bytes += chunk.get_array_memory_size();
            chunks.push(chunk);
        }
        let Some(first) = chunks.first() else { return Ok(None) };
        let batch = concat_batches(&first.schema(), &chunks).map_err(|error| Error::backend(KIND, "read", error))?;
        from_duckdb(batch).map(Some)
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Stops a statement when it is dropped.
pub(crate) struct Interrupting(pub(crate) Arc<InterruptHandle>);

impl Drop for Interrupting {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

/// The rows of a scan. Whoever drops them stops the statement.
struct Batches {
    // Dropped first, so that the thread finds that nobody listens.
    receive: mpsc::Receiver<Result<RecordBatch>>,
    _stop: Interrupting,
}

impl Stream for Batches {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receive.poll_recv(context)
    }
}
