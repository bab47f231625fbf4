//! Rows over the wire: binary `COPY` in both directions.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::BatchStream;
use metaxy_core::{Error, Result};
use tokio::sync::mpsc;

use crate::KIND;
use crate::catalog::{Column, TableName};
use crate::session::{Counters, Session};
use crate::types::Storage;
use crate::types::decode::{self, Decoder, Fields};
use crate::types::encode::Encoder;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// How many bytes of rows are gathered before they are sent.
const CHUNK_BYTES: usize = 512 * 1024;
/// How large a batch of rows that are read becomes.
const BATCH_ROWS: usize = 16 * 1024;
const BATCH_BYTES: usize = 16 * 1024 * 1024;

// ---- writing ---------------------------------------------------------------------------------------------------------

/// Bytes of encoded rows.
pub(crate) struct Chunk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_last: bool,
}

/// Encodes batches on a thread of its own, a few chunks ahead of the one that sends them.
pub(crate) fn encode(
    name: TableName,
    columns: Vec<Column>,
    batches: Vec<RecordBatch>,
) -> mpsc::Receiver<Result<Chunk>> {
    let (sender, receiver) = mpsc::channel(3);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = encode_batches(&name, &columns, &batches, &sender) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

fn encode_batches(
    name: &TableName,
    columns: &[Column],
    batches: &[RecordBatch],
    sender: &mpsc::Sender<Result<Chunk>>,
) -> Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
    chunk.extend(SIGNATURE);
    chunk.extend([0; 8]);
    let count = i16::try_from(columns.len()).map_err(|_| Error::Unsupported {
        what: format!("a table of {} columns", columns.len()),
        hint: "PostgreSQL has at most 1600; nest some of them in a struct".to_owned(),
    })?;
    for batch in batches {
        let encoders = encoders(name, columns, batch)?;
        for row in 0..batch.num_rows() {
            chunk.extend(count.to_be_bytes());
            for (encoder, column) in encoders.iter().zip(columns) {
                encoder.encode(row, &mut chunk).map_err(|reason| bad_value(name, &column.name, reason))?;
            }
            if chunk.len() >= CHUNK_BYTES {
                let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4));
                // Nobody listens any more: the write was given up.
                if sender.blocking_send(Ok(Chunk { bytes: full, is_last: false })).is_err() {
                    return Ok(());
                }
            }
        }
    }
    chunk.extend((-1_i16).to_be_bytes());
    let _ = sender.blocking_send(Ok(Chunk { bytes: chunk, is_last: true }));
    Ok(())
}

/// An encoder for each column of a batch.
pub(crate) fn encoders(name: &TableName, columns: &[Column], batch: &RecordBatch) -> Result<Vec<Encoder>> {
    let encoder = |(column, array): (&Column, &ArrayRef)| {
        Encoder::new(&column.name, &column.storage, array).map_err(|reason| bad_value(name, &column.name, reason))
    };
    columns.iter().zip(batch.columns()).map(encoder).collect()
}

/// The error of a value that PostgreSQL cannot hold.
pub(crate) fn bad_value(name: &TableName, column: &str, reason: String) -> Error {
    Error::InvalidColumn { feature: name.key.clone(), column: column.to_owned(), reason }
}

// ---- reading ---------------------------------------------------------------------------------------------------------

/// Rows that a query gives, one decoder for each of its columns.
pub(crate) struct RowReader {
    table: String,
    columns: Vec<(String, Box<dyn Decoder>)>,
    rows: usize,
    bytes: usize,
    started: bool,
}

impl RowReader {
    pub(crate) fn new<'a>(table: &str, columns: impl IntoIterator<Item = (&'a str, &'a Storage)>) -> Result<Self> {
        let corrupt = |column: &str, reason: String| corrupt(table, column, &reason);
        let columns = columns.into_iter().map(|(name, storage)| {
            Ok((name.to_owned(), decode::decoder(storage).map_err(|reason| corrupt(name, reason))?))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(Self { table: table.to_owned(), columns, rows: 0, bytes: 0, started: false })
    }

    /// Takes one message, which holds whole rows.
    fn take(&mut self, message: &[u8]) -> Result<()> {
        let broken = |reason: &str| Error::Corrupt { table: self.table.clone(), reason: reason.to_owned() };
        let mut rest = message;
        if !self.started {
            let header = rest.split_at_checked(SIGNATURE.len() + 8).filter(|(header, _)| header.starts_with(SIGNATURE));
            rest = header.ok_or_else(|| broken("the server sent something else than rows"))?.1;
            self.started = true;
        }
        self.bytes += rest.len();
        while let Some((count, fields)) = rest.split_first_chunk::<2>() {
            let count = i16::from_be_bytes(*count);
            if count < 0 {
                break;
            }
            if usize::from(count.unsigned_abs()) != self.columns.len() {
                return Err(broken("the server sent another number of columns than it was asked for"));
            }
            let mut fields = Fields(fields);
            for (name, decoder) in &mut self.columns {
                let added = fields.field().and_then(|field| match field {
                    Some(bytes) => decoder.value(bytes),
                    None => {
                        decoder.null();
                        Ok(())
                    }
                });
                added.map_err(|reason| corrupt(&self.table, name, &reason))?;
            }
            self.rows += 1;
            rest = fields.0;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// The columns of the rows taken since the last call, and how many they are.
    fn finish(&mut self) -> Result<(Vec<ArrayRef>, usize)> {
        let finished = self
            .columns
            .iter_mut()
            .map(|(name, decoder)| decoder.finish().map_err(|reason| corrupt(&self.table, name, &reason)));
        let arrays = finished.collect::<Result<Vec<_>>>()?;
        self.bytes = 0;
        Ok((arrays, std::mem::take(&mut self.rows)))
    }
}

fn corrupt(table: &str, column: &str, reason: &str) -> Error {
    Error::Corrupt { table: table.to_owned(), reason: format!("column `{column}`: {reason}") }
}

/// What comes out of the task that reads.
enum Message {
    Rows(Vec<ArrayRef>, usize),
    End,
}

/// The columns of the rows that a query gives, piece by piece.
pub(crate) type ColumnStream = futures::stream::BoxStream<'static, Result<(Vec<ArrayRef>, usize)>>;

/// How the server plans a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planner {
    /// As it likes.
    AsItIs,
    /// Knowing that whole tables are joined. A table that was just written has no statistics, and a nested loop over what
    /// was thought to be a few rows would never end.
    ForWholeTables,
}

/// Runs a query and streams its rows. Dropping the stream stops the query.
pub(crate) fn read(session: Arc<Session>, query: String, reader: RowReader, planner: Planner) -> ColumnStream {
    let (sender, receiver) = mpsc::channel::<Result<Message>>(2);
    let task = tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = read_rows(&session, &query, reader, planner, &sender) => outcome,
            () = session.closed() => Err(Error::Closed { store: format!("{KIND} at {}", session.location) }),
        };
        drop(session);
        let _ = sender.send(outcome.map(|()| Message::End)).await;
    });
    let running = Running { receiver, task };
    futures::stream::unfold(Some(running), |running| async move {
        let mut running = running?;
        match running.receiver.recv().await {
            Some(Ok(Message::Rows(arrays, rows))) => Some((Ok((arrays, rows)), Some(running))),
            Some(Ok(Message::End)) => None,
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(Error::Task("the reader of a table ended before its rows did".to_owned())), None)),
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

async fn read_rows(
    session: &Session,
    query: &str,
    mut reader: RowReader,
    planner: Planner,
    sender: &mpsc::Sender<Result<Message>>,
) -> Result<()> {
    let table = reader.table.clone();
    let failed = |error| session.error("read", Some(&table), error);
    let mut stream = session.stream().await?;
    let connection = &mut stream.connection;
    if planner == Planner::ForWholeTables {
        sqlx::raw_sql("BEGIN READ ONLY; SET LOCAL enable_nestloop = off")
            .execute(&mut **connection)
            .await
            .map_err(failed)?;
    }
    {
        let statement = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
        let mut rows = connection.copy_out_raw(&statement).await.map_err(failed)?;
        let counters: &Counters = &session.counters;
        while let Some(message) = rows.try_next().await.map_err(failed)? {
            counters.add_received(message.len());
            reader.take(&message)?;
            if reader.is_full() {
                let (arrays, count) = reader.finish()?;
                if sender.send(Ok(Message::Rows(arrays, count))).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    if planner == Planner::ForWholeTables {
        sqlx::raw_sql("COMMIT").execute(&mut **connection).await.map_err(failed)?;
    }
    stream.connection.done();
    if reader.rows > 0 {
        let (arrays, count) = reader.finish()?;
        let _ = sender.send(Ok(Message::Rows(arrays, count))).await;
    }
    Ok(())
}

/// Batches of a schema from the columns of a stream.
pub(crate) fn batches(schema: SchemaRef, columns: ColumnStream) -> BatchStream {
    columns
        .map(move |piece| {
            let (arrays, rows) = piece?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?)
        })
        .boxed()
}
