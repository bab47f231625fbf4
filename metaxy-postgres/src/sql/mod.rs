//! The SQL of requests to PostgreSQL.

use arrow::datatypes::DataType;
use metaxy_core::columns;
use metaxy_core::filter::Predicate;

use crate::catalog::{Column, Table};
use crate::types::Wire;

pub(crate) mod alter;
pub(crate) mod names;
mod predicate;
mod select;

pub(crate) use names::{literal, quoted};
pub(crate) use select::{Pushdown, Relation};

/// Returns a column of the relation `t`.
pub(crate) fn column(name: &str) -> String {
    format!("t.{}", quoted(name))
}

/// Returns a column in the form in which it is sent.
pub(crate) fn output(column: &Column) -> String {
    let name = self::column(&column.name);
    if column.storage.wire == Wire::Other { format!("({name})::text") } else { name }
}

/// Returns a column as a key, which is compared as in the engine; `None` if the two might differ.
pub(crate) fn key(column: &Column) -> Option<String> {
    comparable(&column.storage.wire).then(|| collated(self::column(&column.name), &column.storage.wire))
}

/// Returns whether values are equal in PostgreSQL exactly if they are equal in Arrow. Floats are not, because of
/// `-0.0`.
pub(crate) fn comparable(wire: &Wire) -> bool {
    match wire {
        Wire::Float4 | Wire::Float8 | Wire::Jsonb | Wire::Json | Wire::Array(_, _) | Wire::Other => false,
        Wire::Bool | Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Text | Wire::Bytea | Wire::Date | Wire::Time => true,
        Wire::Timestamp | Wire::Timestamptz | Wire::Numeric | Wire::Uuid => true,
    }
}

/// Returns an expression under which text is compared byte by byte, with any setting of the database.
pub(crate) fn collated(expression: String, wire: &Wire) -> String {
    if *wire == Wire::Text { format!("{expression} COLLATE \"C\"") } else { expression }
}

/// Returns a predicate in SQL, over the relation `t`.
///
/// # Errors
/// The reason why PostgreSQL's result might differ from the core's.
pub(crate) fn condition(table: &Table, predicate: &Predicate) -> Result<String, String> {
    predicate::write(table, predicate)
}

/// Returns the time when a row was written or deleted, over the relation `t`; `None` if the table has no times.
pub(crate) fn touched(table: &Table) -> Option<String> {
    let (deleted, updated) = (table.find(columns::DELETED_AT)?, table.find(columns::UPDATED_AT)?);
    let is_time = matches!(updated.storage.data_type, DataType::Timestamp(_, _));
    let same = deleted.storage.wire == updated.storage.wire;
    (is_time && same).then(|| format!("coalesce({}, {})", column(columns::DELETED_AT), column(columns::UPDATED_AT)))
}
