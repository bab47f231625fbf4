//! Predicates in DuckDB's SQL, if its result equals that of the core.

use arrow::datatypes::{DataType, TimeUnit};
use metaxy_core::filter::{BoundColumn, Predicate, Scalar, SqlDialect, to_sql};
use metaxy_core::{Error, Result};

use crate::catalog::StoredTable;
use crate::sql::names::text;
use crate::types::storage;

/// The maximum size of a condition; the core evaluates larger ones. DuckDB refuses expressions that are nested deeper
/// than 1000, and is slow with lists of this length.
const MAX_NODES: usize = 400;
const MAX_LIST: usize = 5_000;

/// Returns a predicate in SQL; `None` if DuckDB's result would differ from that of the core.
pub(crate) fn condition(table: &StoredTable, predicate: &Predicate) -> Option<String> {
    let mut nodes = 0;
    if !is_exact(table, predicate, &mut nodes) || nodes > MAX_NODES {
        return None;
    }
    to_sql(predicate, &mut Dialect { table }).ok()
}

/// Returns whether stored values compare like the values themselves. Counts the nodes.
fn is_exact(table: &StoredTable, predicate: &Predicate, nodes: &mut usize) -> bool {
    *nodes += 1;
    let comparable = |column: &BoundColumn| table.is_stored_as_written(column.path.first());
    match predicate {
        Predicate::Constant(_) | Predicate::Decided { .. } => true,
        Predicate::IsNull(column) => column.value_type() != &DataType::Null && comparable(column),
        Predicate::Column(column) | Predicate::Compare { column, .. } => comparable(column),
        Predicate::In { column, list } => comparable(column) && list.values().len() <= MAX_LIST,
        Predicate::CompareColumns { left, right, .. } => {
            comparable(left) && comparable(right) && compare_alike(left.value_type(), right.value_type())
        }
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().all(|part| is_exact(table, part, nodes)),
        Predicate::Not(inner) => is_exact(table, inner, nodes),
    }
}

/// Returns whether DuckDB compares two columns without rounding one of them, or rounds like the core.
fn compare_alike(left: &DataType, right: &DataType) -> bool {
    let kept = |data_type: &DataType| storage(data_type).map(|storage| storage.sql).ok();
    (left.is_signed_integer() && right.is_signed_integer()) || (left == right && kept(left).is_some())
}

/// The dialect of DuckDB. Texts are compared byte by byte, because columns have no collation.
struct Dialect<'a> {
    table: &'a StoredTable,
}

impl SqlDialect for Dialect<'_> {
    fn identifier(&self, path: &[String], _: &DataType) -> Result<String> {
        self.table.expression(path).ok_or_else(|| not_in_sql(&path.join(".")))
    }

    fn literal(&mut self, scalar: &Scalar, data_type: &DataType) -> Result<String> {
        let refuse = || not_in_sql(&scalar.to_string());
        Ok(match scalar {
            Scalar::Boolean(value) => value.to_string(),
            Scalar::Int(_) => format!("'{scalar}'::BIGINT"),
            Scalar::UInt(_) => format!("'{scalar}'::UBIGINT"),
            Scalar::Float(value) if value.is_nan() => "'nan'::DOUBLE".to_owned(),
            Scalar::Float(value) => format!("'{value:e}'::DOUBLE"),
            Scalar::Text(value) if value.contains('\0') => return Err(refuse()),
            Scalar::Text(value) => text(value),
            Scalar::Binary(bytes) => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("unhex('{digits}')")
            }
            Scalar::Date(days) if *data_type == DataType::Date32 => format!("(DATE '1970-01-01' + ({days}))"),
            Scalar::Time { unit, .. } if *unit != TimeUnit::Nanosecond => format!("'{scalar}'::TIME"),
            Scalar::Timestamp { unit, zoned, .. } => {
                let year = scalar.to_datetime().map(|moment| moment.format("%Y").to_string());
                if year.is_none_or(|year| year.len() != 4) {
                    return Err(refuse());
                }
                match (unit, zoned) {
                    (TimeUnit::Nanosecond, _) => format!("'{scalar}'::TIMESTAMP_NS"),
                    (_, true) => format!("'{scalar}+00'::TIMESTAMPTZ"),
                    (_, false) => format!("'{scalar}'::TIMESTAMP"),
                }
            }
            _ => return Err(refuse()),
        })
    }
}

/// Returns an error that is never shown, because the core evaluates such predicates.
fn not_in_sql(what: &str) -> Error {
    Error::Unsupported { what: format!("`{what}` in SQL"), hint: "the core evaluates it".to_owned() }
}
