//! Records whether a table has ever had a row. DuckDB does not, so a line at the end of the table's comment does.

use duckdb::Connection;
use metaxy_core::backend::{has_held_mark, with_held_mark};

use crate::catalog;
use crate::sql::names::{TableName, text};

/// Reads the comment of a table; `None` if there is no such table.
fn comment(connection: &Connection, table: &TableName) -> duckdb::Result<Option<String>> {
    let sql = format!("SELECT coalesce(comment, '') FROM duckdb_tables() WHERE {}", catalog::condition("table_name"));
    connection.prepare(&sql)?.query_map(catalog::parameters(table), |row| row.get(0))?.next().transpose()
}

fn has_rows(connection: &Connection, table: &TableName) -> duckdb::Result<bool> {
    let sql = format!("SELECT count(*) > 0 FROM (SELECT 1 FROM {table} LIMIT 1)");
    connection.query_row(&sql, [], |row| row.get(0))
}

/// Returns whether a table has a row, or is known to have had one. A missing table had none.
pub(crate) fn has_held_rows(connection: &Connection, table: &TableName) -> duckdb::Result<bool> {
    let Some(comment) = comment(connection, table)? else { return Ok(false) };
    Ok(has_held_mark(&comment) || has_rows(connection, table)?)
}

/// Records that a table has had rows, within the transaction that fills or empties it.
pub(crate) fn mark(connection: &Connection, table: &TableName) -> duckdb::Result<()> {
    match comment(connection, table)?.as_deref().and_then(with_held_mark) {
        None => Ok(()),
        Some(comment) => connection.execute_batch(&format!("COMMENT ON TABLE {table} IS {}", text(&comment))),
    }
}

/// Records that a table has had rows, if no row is left.
pub(crate) fn mark_if_empty(connection: &Connection, table: &TableName) -> duckdb::Result<()> {
    if has_rows(connection, table)? { Ok(()) } else { mark(connection, table) }
}
