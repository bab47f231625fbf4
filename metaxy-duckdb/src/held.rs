//! Records whether a table has ever had a row. DuckDB does not, so a line at the end of the table's comment does.

use duckdb::Connection;
use metaxy_core::backend::{has_held_mark, with_held_mark};

use crate::sql::names::{quoted, text};

/// Reads the comment of a table; `None` if there is no such table.
fn comment(connection: &Connection, sql_name: &str) -> duckdb::Result<Option<String>> {
    let mut statement = connection.prepare(
        "SELECT coalesce(comment, '') FROM duckdb_tables() WHERE database_name = current_database() \
         AND schema_name = current_schema() AND table_name = ?",
    )?;
    let mut found = statement.query_map([sql_name], |row| row.get(0))?;
    found.next().transpose()
}

fn has_rows(connection: &Connection, sql_name: &str) -> duckdb::Result<bool> {
    let sql = format!("SELECT count(*) > 0 FROM (SELECT 1 FROM {} LIMIT 1)", quoted(sql_name));
    connection.query_row(&sql, [], |row| row.get(0))
}

/// Returns whether a table has a row, or is known to have had one. A missing table had none.
pub(crate) fn has_held_rows(connection: &Connection, sql_name: &str) -> duckdb::Result<bool> {
    let Some(comment) = comment(connection, sql_name)? else { return Ok(false) };
    Ok(has_held_mark(&comment) || has_rows(connection, sql_name)?)
}

/// Records that a table has had rows, within the transaction that fills or empties it.
pub(crate) fn mark(connection: &Connection, sql_name: &str) -> duckdb::Result<()> {
    match comment(connection, sql_name)?.as_deref().and_then(with_held_mark) {
        None => Ok(()),
        Some(comment) => {
            connection.execute_batch(&format!("COMMENT ON TABLE {} IS {}", quoted(sql_name), text(&comment)))
        }
    }
}

/// Records that a table has had rows, if no row is left.
pub(crate) fn mark_if_empty(connection: &Connection, sql_name: &str) -> duckdb::Result<()> {
    if has_rows(connection, sql_name)? { Ok(()) } else { mark(connection, sql_name) }
}
