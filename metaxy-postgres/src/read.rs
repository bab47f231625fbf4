//! Reads the rows of a query as Arrow batches: binary `COPY … TO STDOUT`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::BatchStream;
use metaxy_core::spill::Spill;
use metaxy_core::{Error, Result, Scan, ScanRequest, blocking, fence};
use tokio::sync::mpsc;

use crate::catalog::{Column, Table, TableName};
use crate::connection::{Connection, Session, closed};
use crate::error::During;
use crate::sql::{self, Pushdown};
use crate::types::rows::{Piece, RowReader};

/// Scans a table, as far as the server can evaluate the request.
pub(crate) fn scan(session: Arc<Session>, name: &TableName, table: &Table, request: &ScanRequest) -> Result<Scan> {
    let schema = table.schema();
    let pushdown = Pushdown::new(table, request);
    let needed = request.columns_needed(&schema, pushdown.applied);
    let relation = pushdown.relation(name, table, request, &needed, false);
    let indices = needed.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<&Column> = indices.iter().filter_map(|index| table.columns.get(*index)).collect();
    let outputs: Vec<String> = columns.iter().map(|column| sql::output(column)).collect();
    let query = format!("SELECT {} {}", outputs.join(", "), relation.sql());
    let sent = columns.iter().map(|column| (column.name.as_str(), &column.storage));
    let reader = RowReader::new(&name.plain, sent)?.with_ids(request.keep_latest.as_deref().unwrap_or_default());
    let schema = Arc::new(schema.project(&indices)?);
    let stream = batches(schema.clone(), read(session, query, reader, Planner::AsItIs));
    Ok(Scan { schema, stream, applied: pushdown.applied })
}

/// A message of the task that reads.
enum Message {
    Rows(Vec<ArrayRef>, usize),
    /// A row that cannot be decoded; others follow.
    BadRow(Error),
    End,
}

/// The columns of the rows of a query, batch by batch.
pub(crate) type ColumnStream = futures::stream::BoxStream<'static, Result<(Vec<ArrayRef>, usize)>>;

/// The settings of the server's planner for a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planner {
    /// The defaults.
    AsItIs,
    /// For joins of whole tables. A table that was just written has no statistics, and a nested loop that was planned
    /// for a few rows would never end.
    ForWholeTables,
}

/// Runs a query and streams its rows. Dropping the stream cancels the query.
pub(crate) fn read(session: Arc<Session>, query: String, reader: RowReader, planner: Planner) -> ColumnStream {
    let (sender, receiver) = mpsc::channel::<Result<Message>>(2);
    let task = tokio::spawn(async move {
        let reading = Reading { session: &session, query, planner, sender: &sender };
        let outcome = tokio::select! {
            outcome = reading.run(reader) => outcome,
            () = session.closed() => Err(closed(&session.location)),
        };
        drop(session);
        let _ = sender.send(outcome.map(|()| Message::End)).await;
    });
    let running = Running { receiver, task };
    futures::stream::unfold(Some(running), |running| async move {
        let mut running = running?;
        match running.receiver.recv().await {
            Some(Ok(Message::Rows(arrays, rows))) => Some((Ok((arrays, rows)), Some(running))),
            Some(Ok(Message::BadRow(error))) => Some((Err(error), Some(running))),
            Some(Ok(Message::End)) => None,
            Some(Err(error)) => Some((Err(error), None)),
            None => {
                Some((Err(Error::Task("the task that reads a table ended before all rows were read".to_owned())), None))
            }
        }
    })
    .boxed()
}

struct Running {
    receiver: mpsc::Receiver<Result<Message>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A query whose rows are sent to a stream.
struct Reading<'a> {
    session: &'a Session,
    query: String,
    planner: Planner,
    sender: &'a mpsc::Sender<Result<Message>>,
}

/// The target of rows while the connection is held.
enum Sink<'a> {
    /// The stream, which may take them slowly, or never.
    Stream(&'a mpsc::Sender<Result<Message>>),
    /// To a temporary file, at once.
    Wait(&'a mut Waiting),
}

/// Rows that wait in a file, and the errors of those that cannot be read.
#[derive(Default)]
struct Waiting {
    spill: Option<Spill>,
    errors: Vec<Error>,
}

/// Runs a query in the transaction of a connection, and gives its rows to a sink. The last ones remain in the reader.
async fn copy(
    connection: &mut Connection<'_>,
    during: During<'_>,
    query: &str,
    reader: &mut RowReader,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let (watcher, counters, table) = (connection.watcher(), connection.counters(), reader.table.clone());
    let statement = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
    let mut rows = watcher.over(during, connection.copy_out_raw(&statement)).await?;
    while let Some(message) = watcher.over(during, rows.try_next()).await? {
        counters.add_received(message.len());
        fence::decode(&table, || reader.take(&message))?;
        if reader.is_full() {
            sink.take(fence::decode(&table, || reader.finish())?).await?;
        }
    }
    Ok(())
}

/// Reads all rows of a query in the transaction of a connection. They wait in a temporary file.
///
/// # Errors
/// Those of the connection and of the file, and that of the first row that cannot be read.
pub(crate) async fn collect(
    connection: &mut Connection<'_>,
    during: During<'_>,
    query: &str,
    mut reader: RowReader,
) -> Result<BatchStream> {
    let mut waiting = Waiting::default();
    let mut sink = Sink::Wait(&mut waiting);
    copy(connection, during, query, &mut reader, &mut sink).await?;
    let table = reader.table.clone();
    if reader.rows > 0 {
        sink.take(fence::decode(&table, || reader.finish())?).await?;
    }
    match waiting.errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(waiting.spill.map_or_else(|| futures::stream::empty().boxed(), Spill::into_stream)),
    }
}

impl Sink<'_> {
    async fn take(&mut self, piece: Piece) -> Result<()> {
        match self {
            Self::Stream(sender) => {
                for error in piece.errors {
                    send(sender, Message::BadRow(error)).await?;
                }
                send(sender, Message::Rows(piece.arrays, piece.rows)).await
            }
            Self::Wait(waiting) => {
                waiting.errors.extend(piece.errors);
                let batch = unnamed(piece.arrays, piece.rows)?;
                waiting.spill = Some(spilled(waiting.spill.take(), batch).await?);
                Ok(())
            }
        }
    }
}

/// Sends a message to the stream. An error means that the stream was dropped; it is not shown.
async fn send(sender: &mpsc::Sender<Result<Message>>, message: Message) -> Result<()> {
    sender.send(Ok(message)).await.map_err(|_| Error::Task("the stream of rows was dropped".to_owned()))
}

/// Adds rows to the temporary file.
async fn spilled(spill: Option<Spill>, rows: RecordBatch) -> Result<Spill> {
    blocking::run(move || {
        let mut spill = spill.map_or_else(|| Spill::new(rows.schema_ref()), Ok)?;
        spill.push(&rows)?;
        Ok(spill)
    })
    .await
}

/// Builds a batch from columns; their names do not matter.
fn unnamed(arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let fields = arrays.iter().map(|array| Field::new("", array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(RecordBatch::try_new_with_options(schema, arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))?)
}

impl Reading<'_> {
    /// Runs the query. Half of the connections are for streams, which may be read slowly. For further streams the rows
    /// are read at once and written to a temporary file.
    async fn run(self, reader: RowReader) -> Result<()> {
        if let Some(_permit) = self.session.reader() {
            return self.query(reader, &mut Sink::Stream(self.sender)).await;
        }
        let mut waiting = Waiting::default();
        self.query(reader, &mut Sink::Wait(&mut waiting)).await?;
        for error in waiting.errors {
            send(self.sender, Message::BadRow(error)).await?;
        }
        let Some(mut rows) = waiting.spill.map(Spill::into_stream) else { return Ok(()) };
        while let Some(batch) = rows.try_next().await? {
            send(self.sender, Message::Rows(batch.columns().to_vec(), batch.num_rows())).await?;
        }
        Ok(())
    }

    /// Runs the query and passes its rows to the sink.
    async fn query(&self, mut reader: RowReader, sink: &mut Sink<'_>) -> Result<()> {
        let table = reader.table.clone();
        let during = During::table("read", &table);
        let planner = match self.planner {
            Planner::AsItIs => "",
            Planner::ForWholeTables => "SET LOCAL enable_nestloop = off; ",
        };
        let mut connection = self.session.connection().await?;
        connection.begin_with(during, planner).await?;
        copy(&mut connection, during, &self.query, &mut reader, sink).await?;
        connection.commit(during).await?;
        if reader.rows > 0 {
            sink.take(fence::decode(&table, || reader.finish())?).await?;
        }
        Ok(())
    }
}

/// Builds batches of a schema from the columns of a stream.
fn batches(schema: SchemaRef, columns: ColumnStream) -> BatchStream {
    columns
        .map(move |piece| {
            let (arrays, rows) = piece?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?)
        })
        .boxed()
}
