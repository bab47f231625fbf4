//! Rows that a query gives, as Arrow batches: binary `COPY … TO STDOUT`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::BatchStream;
use metaxy_core::{Error, Result, Scan, ScanRequest, fence};
use tokio::sync::mpsc;

use crate::catalog::{Column, Table, TableName};
use crate::connection::{Session, closed};
use crate::error::During;
use crate::spill::Spill;
use crate::sql::{self, Pushdown};
use crate::types::decode::{self, Decoder, Fields};
use crate::types::{SIGNATURE, Storage};

/// How large a batch of rows that are read becomes.
const BATCH_ROWS: usize = 16 * 1024;
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Reads a table, as far as the server takes the request.
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

/// Rows that a query gives, one decoder for each of its columns.
pub(crate) struct RowReader {
    table: String,
    columns: Vec<(String, Box<dyn Decoder>)>,
    /// The columns that rows are known by.
    ids: Vec<usize>,
    /// Rows before those that are collected.
    before: usize,
    rows: usize,
    bytes: usize,
    started: bool,
    bad: Vec<BadValue>,
}

/// A value that Arrow does not have.
struct BadValue {
    row: usize,
    column: String,
    reason: String,
}

/// Rows that have been read, and an error for each row that cannot be.
struct Piece {
    arrays: Vec<ArrayRef>,
    rows: usize,
    errors: Vec<Error>,
}

impl RowReader {
    pub(crate) fn new<'a>(table: &str, columns: impl IntoIterator<Item = (&'a str, &'a Storage)>) -> Result<Self> {
        let columns = columns.into_iter().map(|(name, storage)| {
            let decoder =
                fence::decode(table, || decode::decoder(storage).map_err(|reason| corrupt(table, name, &reason)))?;
            Ok((name.to_owned(), decoder))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let table = table.to_owned();
        Ok(Self { table, columns, ids: Vec::new(), before: 0, rows: 0, bytes: 0, started: false, bad: Vec::new() })
    }

    /// Names the columns that tell which row an error is about.
    pub(crate) fn with_ids(mut self, ids: &[String]) -> Self {
        let position = |id: &String| self.columns.iter().position(|(name, _)| name == id);
        self.ids = ids.iter().filter_map(position).collect();
        if self.ids.is_empty() {
            let is_own = |(_, (name, _)): &(usize, &(String, _))| !metaxy_core::columns::is_system(name);
            self.ids = self.columns.iter().enumerate().filter(is_own).map(|(index, _)| index).take(3).collect();
        }
        self
    }

    /// Takes one message, which holds whole rows.
    fn take(&mut self, message: &[u8]) -> Result<()> {
        let mut rest = message;
        if !self.started {
            let header = rest.split_at_checked(SIGNATURE.len() + 8).filter(|(header, _)| header.starts_with(SIGNATURE));
            rest = header.ok_or_else(|| self.broken("the server sent something else than rows"))?.1;
            self.started = true;
        }
        self.bytes += rest.len();
        while let Some((count, fields)) = rest.split_first_chunk::<2>() {
            let count = i16::from_be_bytes(*count);
            if count < 0 {
                break;
            }
            if usize::from(count.unsigned_abs()) != self.columns.len() {
                return Err(self.broken("the server sent another number of columns than it was asked for"));
            }
            rest = self.take_row(fields)?;
        }
        Ok(())
    }

    fn broken(&self, reason: &str) -> Error {
        Error::corrupt(&self.table, reason)
    }

    /// Takes a row; gives the bytes that follow it.
    fn take_row<'a>(&mut self, row: &'a [u8]) -> Result<&'a [u8]> {
        let mut fields = Fields(row);
        for (name, decoder) in &mut self.columns {
            let field = fields.field().map_err(|reason| corrupt(&self.table, name, &reason))?;
            let Some(bytes) = field else {
                decoder.null();
                continue;
            };
            let Err(reason) = decoder.value(bytes) else { continue };
            if !decoder.recovers() {
                return Err(corrupt(&self.table, name, &reason));
            }
            decoder.null();
            self.bad.push(BadValue { row: self.rows, column: name.clone(), reason });
        }
        self.rows += 1;
        Ok(fields.0)
    }

    fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// The rows taken since the last call.
    fn finish(&mut self) -> Result<Piece> {
        let finished = self
            .columns
            .iter_mut()
            .map(|(name, decoder)| decoder.finish().map_err(|reason| corrupt(&self.table, name, &reason)));
        let arrays = finished.collect::<Result<Vec<_>>>()?;
        let (rows, bad) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.bad));
        let errors = bad.iter().map(|bad| self.bad_value(bad, &arrays)).collect();
        self.bytes = 0;
        self.before += rows;
        if bad.is_empty() {
            return Ok(Piece { arrays, rows, errors });
        }
        let good: BooleanArray = (0..rows).map(|row| Some(bad.iter().all(|bad| bad.row != row))).collect();
        let arrays = arrays.iter().map(|array| filter(array, &good)).collect::<Result<_, _>>()?;
        Ok(Piece { arrays, rows: good.true_count(), errors })
    }

    /// The error of a row, which tells by its ids which one it is.
    fn bad_value(&self, bad: &BadValue, arrays: &[ArrayRef]) -> Error {
        let shown = |index: &usize| {
            let (name, array) = (&self.columns.get(*index)?.0, arrays.get(*index)?);
            let options = FormatOptions::default().with_null("null");
            let value = ArrayFormatter::try_new(array.as_ref(), &options).ok()?.value(bad.row).try_to_string().ok()?;
            Some(format!("{name}={}", value.chars().take(80).collect::<String>()))
        };
        let ids: Vec<String> = self.ids.iter().filter_map(shown).collect();
        Error::InvalidValue {
            table: self.table.clone(),
            column: bad.column.clone(),
            row: self.before + bad.row,
            reason: format!("{} (in the row with {}); correct or delete that row", bad.reason, ids.join(", ")),
        }
    }
}

fn corrupt(table: &str, column: &str, reason: &str) -> Error {
    Error::corrupt(table, format!("column `{column}`: {reason}"))
}

/// What comes out of the task that reads.
enum Message {
    Rows(Vec<ArrayRef>, usize),
    /// A row that cannot be read; others follow.
    BadRow(Error),
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

/// A query whose rows go to a stream.
struct Reading<'a> {
    session: &'a Session,
    query: String,
    planner: Planner,
    sender: &'a mpsc::Sender<Result<Message>>,
}

/// Where rows go while the connection is held.
enum Sink<'a> {
    /// To the stream, as it takes them: slowly, or never.
    Stream(&'a mpsc::Sender<Result<Message>>),
    /// To a place where they wait, at once.
    Spill(Box<Spill>, Vec<Error>),
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
            Self::Spill(spill, errors) => {
                errors.extend(piece.errors);
                spill.push(piece.arrays, piece.rows).await
            }
        }
    }
}

/// An error means that the stream has been dropped, and no one sees it.
async fn send(sender: &mpsc::Sender<Result<Message>>, message: Message) -> Result<()> {
    sender.send(Ok(message)).await.map_err(|_| Error::Task("the stream of rows was dropped".to_owned()))
}

impl Reading<'_> {
    /// Half of the connections are lent to streams, which may be read slowly. For more streams the rows are read at once,
    /// and wait elsewhere.
    async fn run(self, reader: RowReader) -> Result<()> {
        let permit = self.session.reader();
        let mut sink = match permit {
            Some(_) => Sink::Stream(self.sender),
            None => Sink::Spill(Box::default(), Vec::new()),
        };
        self.query(reader, &mut sink).await?;
        let Sink::Spill(spill, errors) = sink else { return Ok(()) };
        for error in errors {
            send(self.sender, Message::BadRow(error)).await?;
        }
        let mut spilled = spill.finish().await?;
        while let Some((arrays, rows)) = spilled.next().await? {
            send(self.sender, Message::Rows(arrays, rows)).await?;
        }
        Ok(())
    }

    /// Runs the query and hands over its rows.
    async fn query(&self, mut reader: RowReader, sink: &mut Sink<'_>) -> Result<()> {
        let table = reader.table.clone();
        let during = During::table("read", &table);
        let planner = match self.planner {
            Planner::AsItIs => "",
            Planner::ForWholeTables => "SET LOCAL enable_nestloop = off; ",
        };
        let mut connection = self.session.connection().await?;
        connection.begin_with(during, planner).await?;
        let watcher = connection.watcher();
        {
            let statement = format!("COPY ({}) TO STDOUT (FORMAT binary)", self.query);
            let mut rows = watcher.over(during, connection.copy_out_raw(&statement)).await?;
            while let Some(message) = watcher.over(during, rows.try_next()).await? {
                self.session.counters.add_received(message.len());
                fence::decode(&table, || reader.take(&message))?;
                if reader.is_full() {
                    sink.take(fence::decode(&table, || reader.finish())?).await?;
                }
            }
        }
        connection.commit(during).await?;
        if reader.rows > 0 {
            sink.take(fence::decode(&table, || reader.finish())?).await?;
        }
        Ok(())
    }
}

/// Batches of a schema from the columns of a stream.
fn batches(schema: SchemaRef, columns: ColumnStream) -> BatchStream {
    columns
        .map(move |piece| {
            let (arrays, rows) = piece?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?)
        })
        .boxed()
}
