//! Rows by their keys: the keys are a temporary table, and an index on the id columns of a large table finds their rows.

use metaxy_core::Result;
use metaxy_core::backend::ScanKeys;
use rusqlite::{Connection, OptionalExtension};

use crate::catalog::StoredTable;
use crate::error::During;
use crate::sql::quoted;
use crate::types::{binder, encode};

/// The temporary tables of the keys, and of the numbers of their rows. No table of a feature has a `$` in its name.
const KEYS: &str = "temp.metaxy$keys";
pub(crate) const ROWS: &str = "temp.metaxy$rows";

/// The number of rows from which on a table gets an index when rows are first looked up by keys. Smaller tables are read
/// in milliseconds.
const LARGE: i64 = 100_000;

/// The share of a table's rows beyond which reading all of them costs less than to find those of the keys, one by one:
/// measured with the benchmark of this crate, at 3,000,000 to 10,000,000 samples.
const LARGEST_SHARE: i64 = 64;

/// Finds the numbers of the rows that have one of the keys, and stores them in [`ROWS`]. Called within a transaction.
/// Returns `false` if the table lacks a key column, or if there are too many keys: then all rows are to be read.
pub(crate) fn find_rows(
    connection: &Connection,
    table: &StoredTable,
    keys: &ScanKeys,
    during: During<'_>,
) -> Result<bool> {
    let columns: Option<Vec<String>> = keys.columns().map(|name| Some(table.column(name)?.0)).collect();
    let Some(columns) = columns else { return Ok(false) };
    let rows = last_row(connection, table).map_err(|error| during.error(error))?;
    if rows >= LARGE && keys.rows().num_rows() as i64 > rows / LARGEST_SHARE {
        return Ok(false);
    }
    let arrays = keys.rows().columns().iter().map(encode).collect::<Result<Vec<_>>>()?;
    let find = || {
        let names: Vec<String> = (0..columns.len()).map(|column| format!("k{column}")).collect();
        let names = names.join(", ");
        connection.execute(&format!("CREATE TABLE {KEYS} ({names}, PRIMARY KEY ({names})) WITHOUT ROWID"), [])?;
        connection.execute(&format!("CREATE TABLE {ROWS} (row INTEGER PRIMARY KEY)"), [])?;
        let values: Vec<String> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
        let mut insert =
            connection.prepare_cached(&format!("INSERT OR IGNORE INTO {KEYS} VALUES ({})", values.join(", ")))?;
        let binds: Vec<_> = arrays.iter().map(binder).collect();
        let mut scratch = String::new();
        for row in 0..keys.rows().num_rows() {
            for (position, bind) in binds.iter().enumerate() {
                bind(&mut insert, position + 1, row, &mut scratch)?;
            }
            insert.raw_execute()?;
        }
        connection.execute(&statement(connection, table, &columns)?, []).map(drop)
    };
    find().map(|()| true).map_err(|error: rusqlite::Error| during.error(error))
}

/// Returns the statement that finds the rows: through the index if there is one, otherwise in one pass over the table.
fn statement(connection: &Connection, table: &StoredTable, columns: &[String]) -> rusqlite::Result<String> {
    let matches: Vec<String> =
        columns.iter().enumerate().map(|(number, column)| format!("t.{column} = k.k{number}")).collect();
    let (name, matches) = (table.quoted_name(), matches.join(" AND "));
    // CROSS JOIN keeps the order of the tables.
    let tables = match has_index(connection, table)? {
        true => format!("{KEYS} AS k CROSS JOIN {name} AS t"),
        false => format!("{name} AS t CROSS JOIN {KEYS} AS k"),
    };
    Ok(format!("INSERT OR IGNORE INTO {ROWS} SELECT t.rowid FROM {tables} ON {matches}"))
}

/// Creates the index of a large table that has none. A table without one is read as a whole each time.
pub(crate) fn index(connection: &Connection, table: &StoredTable, keys: &ScanKeys, during: During<'_>) -> Result<()> {
    let columns: Option<Vec<String>> = keys.columns().map(|name| Some(table.column(name)?.0)).collect();
    let Some(columns) = columns else { return Ok(()) };
    let create = || {
        if !is_missing(connection, table)? {
            return Ok(());
        }
        let (index, columns) = (quoted(&index_name(table)), columns.join(", "));
        connection.execute(&format!("CREATE INDEX {index} ON {} ({columns})", table.quoted_name()), []).map(drop)
    };
    create().map_err(|error: rusqlite::Error| during.error(error))
}

/// Returns whether a table is large and has no index.
pub(crate) fn is_missing(connection: &Connection, table: &StoredTable) -> rusqlite::Result<bool> {
    Ok(last_row(connection, table)? >= LARGE && !has_index(connection, table)?)
}

/// Returns the number of the last row, which is about the number of rows.
fn last_row(connection: &Connection, table: &StoredTable) -> rusqlite::Result<i64> {
    let sql = format!("SELECT max(rowid) FROM {}", table.quoted_name());
    let last: Option<i64> = connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
    Ok(last.unwrap_or_default())
}

fn has_index(connection: &Connection, table: &StoredTable) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?1")?;
    Ok(statement.query_row([index_name(table)], |_| Ok(())).optional()?.is_some())
}

fn index_name(table: &StoredTable) -> String {
    format!("metaxy$ids${}", table.name)
}
