//! Removing rows.

use std::sync::Arc;

use arrow::array::Array;
use metaxy_core::filter::Predicate;
use metaxy_core::{FeatureKey, Result, fence};
use rusqlite::Connection;

use crate::catalog::StoredTable;
use crate::error::During;
use crate::sql;
use crate::types::{Batch, FEW_ROWS};

/// Removes the rows for which a predicate is true, and returns their number. Called within a transaction.
pub(crate) fn delete(
    connection: &Connection,
    table: &StoredTable,
    key: &FeatureKey,
    predicate: &Predicate,
    during: During<'_>,
) -> Result<u64> {
    let mut parameters = sql::Parameters::default();
    match sql::condition(table, predicate, &mut parameters) {
        Some(condition) => {
            let sql = format!("DELETE FROM {} WHERE {condition}", table.quoted_name());
            let removed = connection.execute(&sql, parameters.bound());
            removed.map(|rows| rows as u64).map_err(|error| during.error(error))
        }
        None => {
            let name = key.table_name();
            let rows = fence::decode(&name, || matching_rows(connection, table, &name, predicate, during))?;
            delete_rows(connection, table, &rows, during)
        }
    }
}

fn delete_rows(connection: &Connection, table: &StoredTable, rows: &[i64], during: During<'_>) -> Result<u64> {
    let sql = format!("DELETE FROM {} WHERE rowid = ?1", table.quoted_name());
    let mut statement = connection.prepare(&sql).map_err(|error| during.error(error))?;
    for row in rows {
        statement.execute([row]).map_err(|error| during.error(error))?;
    }
    Ok(rows.len() as u64)
}

/// Returns the numbers of the rows for which a predicate that SQL cannot express is true; the core evaluates it.
fn matching_rows(
    connection: &Connection,
    table: &StoredTable,
    name: &str,
    predicate: &Predicate,
    during: During<'_>,
) -> Result<Vec<i64>> {
    let error = |error| during.error(error);
    let columns: Vec<String> = predicate.columns().into_iter().filter(|name| table.column(name).is_some()).collect();
    let positions = columns.iter().map(|name| table.schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let schema = Arc::new(table.schema.project(&positions)?);
    let sql = sql::numbered_rows(table, columns.iter().map(String::as_str));
    let mut statement = connection.prepare(&sql).map_err(error)?;
    let mut rows = statement.query([i64::MIN]).map_err(error)?;
    let (mut batch, mut numbers, mut matching) = (Batch::new(&schema, name, FEW_ROWS)?, Vec::new(), Vec::new());
    loop {
        let row = rows.next().map_err(error)?;
        if batch.is_full() || row.is_none() {
            let mask = predicate.evaluate(&batch.finish()?)?;
            let hits = numbers.drain(..).enumerate().filter(|(row, _)| mask.is_valid(*row) && mask.value(*row));
            matching.extend(hits.map(|(_, number): (usize, i64)| number));
        }
        let Some(row) = row else { return Ok(matching) };
        numbers.push(row.get(0).map_err(error)?);
        batch.push(row, 1, during)?;
    }
}
