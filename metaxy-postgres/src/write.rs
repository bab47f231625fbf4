//! Writing rows: the table is changed if necessary, then the rows are sent, all in one transaction.
//!
//! Many rows are sent as a binary `COPY`, few as one `INSERT`. The end of a `COPY` is a small packet after one to which
//! the server does not respond, so TCP delays it until that one is acknowledged, usually for 40 milliseconds. An
//! `INSERT` has no such delay.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use futures::FutureExt;
use futures::executor::block_on_stream;
use futures::future::BoxFuture;
use metaxy_core::backend::BatchStream;
use metaxy_core::schema::conform;
use metaxy_core::{Error, Result, blocking};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo, Postgres};
use sqlx::{Arguments, AssertSqlSafe, Encode, Type};

use crate::catalog::{self, Column, TableName};
use crate::connection::{Connection, Session};
use crate::error::During;
use crate::server::{newest, notifications};
use crate::sql::alter::{lock, plan_write};
use crate::sql::quoted;
use crate::types::encode::Encoder;
use crate::types::{self, SIGNATURE};

/// The maximum number of values in one `INSERT`; for more, the server takes longer than for a `COPY`.
const VALUES: usize = 2_000;
/// The number of bytes of a `COPY` that are collected before they are sent.
const CHUNK_BYTES: usize = 512 * 1024;

/// The rows of a write.
pub(crate) enum Given {
    Batches(Vec<RecordBatch>),
    /// Rows that may not fit into memory.
    Stream(BatchStream),
}

/// Appends rows; creates or changes the table if their schema requires it.
pub(crate) async fn append(
    session: &Session,
    name: &TableName,
    schema: &Schema,
    rows: Given,
    nested_as_jsonb: bool,
) -> Result<()> {
    let during = During::table("write", &name.plain);
    let mut connection = session.begin(during).await?;
    let columns = prepare(&mut connection, name, schema, nested_as_jsonb).await?;
    let stored = columns.iter().map(|column| Field::new(&column.name, column.storage.data_type.clone(), true));
    let stored = Arc::new(Schema::new(stored.collect::<Vec<_>>()));
    let key = name.key.clone();
    let conformed = move |batch: &RecordBatch| conform(&key, &stored, batch);
    match rows {
        Given::Batches(batches) if is_small(&columns, &batches) => {
            let batches = batches.iter().map(conformed).collect::<Result<Vec<_>>>()?;
            insert(session, &mut connection, name, &columns, &batches).await?;
        }
        Given::Batches(batches) => {
            let batches = batches.into_iter().map(move |batch| conformed(&batch));
            copy(session, &mut connection, name, columns, Box::new(batches)).await?;
        }
        Given::Stream(batches) => {
            let batches = block_on_stream(batches).map(move |batch| conformed(&batch?));
            copy(session, &mut connection, name, columns, Box::new(batches)).await?;
        }
    }
    notifications::commit(connection, during, name).await?;
    newest::index(session, name).await;
    Ok(())
}

/// Creates or changes the table if the schema requires it, and returns the columns to write.
async fn prepare(
    connection: &mut Connection<'_>,
    name: &TableName,
    schema: &Schema,
    nested_as_jsonb: bool,
) -> Result<Vec<Column>> {
    let table = catalog::for_write(connection, name, schema).await?;
    let plan = plan_write(name, table.as_ref(), schema, nested_as_jsonb)?;
    if plan.changes.is_empty() {
        return Ok(plan.columns);
    }
    // Another writer may be about to make the same change: they take turns, and each reads the table again.
    connection.execute(During::table("change", &name.plain), &lock(name)).await?;
    let table = catalog::for_write(connection, name, schema).await?;
    let plan = plan_write(name, table.as_ref(), schema, nested_as_jsonb)?;
    if !plan.changes.is_empty() {
        let operation = if table.is_none() { "create" } else { "change" };
        connection.execute(During::table(operation, &name.plain), &plan.changes).await?;
    }
    Ok(plan.columns)
}

/// Returns an encoder for each column of a batch.
fn encoders(name: &TableName, columns: &[Column], batch: &RecordBatch) -> Result<Vec<Encoder>> {
    let encoder = |(column, array): (&Column, &ArrayRef)| {
        Encoder::new(&column.name, &column.storage, array).map_err(|reason| name.invalid(&column.name, reason))
    };
    columns.iter().zip(batch.columns()).map(encoder).collect()
}

/// Returns the error of a value that PostgreSQL cannot store.
fn bad_value(name: &TableName, column: &str, row: usize, reason: String) -> Error {
    Error::InvalidValue { table: name.plain.clone(), column: column.to_owned(), row, reason }
}

// ---- few rows ----

fn is_small(columns: &[Column], batches: &[RecordBatch]) -> bool {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    rows > 0 && !columns.is_empty() && rows.saturating_mul(columns.len()) <= VALUES
}

/// Sends the rows as one statement. Its name is empty, so it cannot collide with other statements of a pooled session.
async fn insert(
    session: &Session,
    connection: &mut Connection<'_>,
    name: &TableName,
    columns: &[Column],
    batches: &[RecordBatch],
) -> Result<()> {
    let during = During::table("write", &name.plain);
    let mut arguments = PgArguments::default();
    let mut rows = Vec::new();
    for batch in batches {
        let encoders = encoders(name, columns, batch)?;
        for row in 0..batch.num_rows() {
            let mut places = Vec::with_capacity(columns.len());
            for (encoder, column) in encoders.iter().zip(columns) {
                let mut field = Vec::new();
                encoder.encode(row, &mut field).map_err(|reason| bad_value(name, &column.name, row, reason))?;
                session.counters.add_sent(field.len());
                let value = Value { field, oid: types::oid_of(&column.storage.wire) };
                let added = arguments.add(value);
                added.map_err(|error| connection.failed(during, sqlx::Error::Encode(error)))?;
                places.push(format!("${}", arguments.len()));
            }
            rows.push(format!("({})", places.join(", ")));
        }
    }
    let statement = format!("INSERT INTO {} ({}) VALUES {}", name.quoted, names(columns), rows.join(", "));
    let insert = sqlx::query_with(AssertSqlSafe(statement), arguments).persistent(false);
    let watcher = connection.watcher();
    watcher.over(during, insert.execute(&mut **connection)).await?;
    Ok(())
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
}

/// A value in the format of `COPY`, which statements use too.
struct Value {
    /// Its length, negative for a null, and its bytes.
    field: Vec<u8>,
    oid: u32,
}

impl Encode<'_, Postgres> for Value {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        match self.field.split_first_chunk::<4>() {
            Some((length, bytes)) if i32::from_be_bytes(*length) >= 0 => {
                buffer.extend_from_slice(bytes);
                Ok(IsNull::No)
            }
            _ => Ok(IsNull::Yes),
        }
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.oid)))
    }
}

impl Type<Postgres> for Value {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

// ---- many rows ----

/// Sends the rows in chunks, each encoded while the previous one is sent. After an error the transaction stays open;
/// closing the connection rolls it back.
async fn copy(
    session: &Session,
    connection: &mut Connection<'_>,
    name: &TableName,
    columns: Vec<Column>,
    batches: Batches,
) -> Result<()> {
    let during = During::table("write", &name.plain);
    let watcher = connection.watcher();
    let statement = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", name.quoted, names(&columns));
    let encoding = Encoding { name: name.clone(), columns, batches, current: None, started: false };
    let mut next = encoding.start();
    let mut copy = watcher.over(during, connection.copy_in_raw(&statement)).await?;
    loop {
        let (chunk, rest) = next.await?;
        let Some(encoding) = rest else {
            session.counters.add_sent(chunk.len());
            watcher.over(during, copy.send(chunk)).await?;
            break;
        };
        next = encoding.start();
        session.counters.add_sent(chunk.len());
        watcher.over(during, copy.send(chunk)).await?;
    }
    watcher.over(during, copy.finish()).await?;
    Ok(())
}

/// Rows in the types of the table.
type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// The state of rows that are encoded for a `COPY`.
struct Encoding {
    name: TableName,
    columns: Vec<Column>,
    batches: Batches,
    current: Option<Batch>,
    started: bool,
}

/// A batch with its encoders, and its next row.
struct Batch {
    encoders: Vec<Encoder>,
    row: usize,
    rows: usize,
}

impl Encoding {
    /// Begins to encode the next chunk.
    fn start(self) -> BoxFuture<'static, Result<(Vec<u8>, Option<Self>)>> {
        blocking::spawn(|| self.next()).boxed()
    }

    /// Returns a chunk and the remaining state; `None` after the last chunk.
    fn next(mut self) -> Result<(Vec<u8>, Option<Self>)> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        if !self.started {
            chunk.extend(SIGNATURE);
            chunk.extend([0; 8]);
            self.started = true;
        }
        while let Some(mut batch) = self.batch()? {
            self.encode(&mut batch, &mut chunk)?;
            self.current = Some(batch).filter(|batch| batch.row < batch.rows);
            if chunk.len() >= CHUNK_BYTES {
                return Ok((chunk, Some(self)));
            }
        }
        chunk.extend((-1_i16).to_be_bytes());
        Ok((chunk, None))
    }

    /// Returns the batch to continue with.
    fn batch(&mut self) -> Result<Option<Batch>> {
        if let Some(current) = self.current.take() {
            return Ok(Some(current));
        }
        let Some(batch) = self.batches.next().transpose()? else { return Ok(None) };
        let encoders = encoders(&self.name, &self.columns, &batch)?;
        Ok(Some(Batch { encoders, row: 0, rows: batch.num_rows() }))
    }

    /// Encodes rows until the chunk is full or the batch has no more.
    fn encode(&self, batch: &mut Batch, chunk: &mut Vec<u8>) -> Result<()> {
        let count = self.columns.len() as i16;
        while batch.row < batch.rows && chunk.len() < CHUNK_BYTES {
            chunk.extend(count.to_be_bytes());
            for (encoder, column) in batch.encoders.iter().zip(&self.columns) {
                let encoded = encoder.encode(batch.row, chunk);
                encoded.map_err(|reason| bad_value(&self.name, &column.name, batch.row, reason))?;
            }
            batch.row += 1;
        }
        Ok(())
    }
}
