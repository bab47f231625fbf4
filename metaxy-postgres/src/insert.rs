//! Few rows over the wire: one `INSERT` instead of a `COPY`.
//!
//! The end of a `COPY` is a small packet behind another one that the server has nothing to answer to, and TCP holds it
//! back until that one is acknowledged: 40 milliseconds, as a rule. An `INSERT` waits for nothing.

use arrow::array::RecordBatch;
use metaxy_core::Result;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgConnection, PgTypeInfo, Postgres};
use sqlx::{Arguments, AssertSqlSafe, Encode, Type};

use crate::catalog::{Column, TableName};
use crate::copy::{bad_value, encoders};
use crate::session::Session;
use crate::sql::quote;
use crate::types;

/// How many values are sent so at most; beyond that the server takes longer over the statement than over a `COPY`.
const VALUES: usize = 2_000;

/// Whether the rows are few.
pub(crate) fn is_better(columns: &[Column], batches: &[RecordBatch]) -> bool {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    rows > 0 && !columns.is_empty() && rows.saturating_mul(columns.len()) <= VALUES
}

/// Sends the rows.
pub(crate) async fn insert(
    session: &Session,
    connection: &mut PgConnection,
    name: &TableName,
    columns: &[Column],
    batches: &[RecordBatch],
) -> Result<()> {
    let failed = |error| session.error("write", Some(&name.plain), error);
    let mut arguments = PgArguments::default();
    let mut rows = Vec::new();
    for batch in batches {
        let encoders = encoders(name, columns, batch)?;
        for row in 0..batch.num_rows() {
            let mut places = Vec::with_capacity(columns.len());
            for (encoder, column) in encoders.iter().zip(columns) {
                let mut field = Vec::new();
                encoder.encode(row, &mut field).map_err(|reason| bad_value(name, &column.name, reason))?;
                session.counters.add_sent(field.len());
                let value = Value { field, oid: types::oid_of(&column.storage.wire) };
                arguments.add(value).map_err(|error| failed(sqlx::Error::Encode(error)))?;
                places.push(format!("${}", arguments.len()));
            }
            rows.push(format!("({})", places.join(", ")));
        }
    }
    let names: Vec<String> = columns.iter().map(|column| quote(&column.name)).collect();
    let statement = format!("INSERT INTO {} ({}) VALUES {}", name.quoted, names.join(", "), rows.join(", "));
    let insert = sqlx::query_with(AssertSqlSafe(statement), arguments).persistent(false);
    insert.execute(connection).await.map_err(failed)?;
    Ok(())
}

/// A value as a `COPY` has it, which is how a statement has it too.
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
