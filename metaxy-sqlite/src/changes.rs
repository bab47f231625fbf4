//! What has changed in a table: rows only get greater numbers, and triggers count the rows that any program removes or
//! changes.
//!
//! A position names the last row and the state of the counter. Rows after it are those with greater numbers, as long as
//! the counter stands still and the last row is the one that it was: `VACUUM` may give rows other numbers, and a file may
//! be replaced by an older copy.

use std::hash::{DefaultHasher, Hash, Hasher};

use metaxy_core::Result;
use metaxy_core::backend::{Position, unrepeated};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};

use crate::catalog::StoredTable;
use crate::error::During;
use crate::sql::quoted;

const CREATE_COUNTERS: &str = "CREATE TABLE IF NOT EXISTS metaxy$changes (
  sql_table TEXT PRIMARY KEY,  -- the table whose rows are counted
  incarnation TEXT NOT NULL,   -- distinguishes it from other tables of its name
  changes INTEGER NOT NULL     -- the number of rows that were removed or changed
)";

/// The state of a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TableState {
    incarnation: String,
    changes: i64,
    /// The number of the last row, and a hash of its values.
    last: i64,
    hash: u64,
}

/// The statements that change rows, and have a trigger.
const CHANGES: [&str; 2] = ["DELETE", "UPDATE"];

/// Begins to count the changes of a table, if that is not done yet. Called within a transaction that writes.
pub(crate) fn count_changes(connection: &Connection, table: &StoredTable, during: During<'_>) -> Result<()> {
    let begin = || {
        if incarnation(connection, table)?.is_some() {
            return Ok(());
        }
        connection.execute(CREATE_COUNTERS, [])?;
        for change in CHANGES {
            connection.execute(&format!("DROP TRIGGER IF EXISTS {}", quoted(&trigger_name(table, change))), [])?;
            connection.execute(&trigger(table, change), [])?;
        }
        let sql = "INSERT OR REPLACE INTO metaxy$changes (sql_table, incarnation, changes) VALUES (?1, ?2, 0)";
        connection.execute(sql, params![table.name, unrepeated()]).map(drop)
    };
    begin().map_err(|error: rusqlite::Error| during.error(error))
}

/// Forgets a table that is dropped.
pub(crate) fn forget(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    if has_counters(connection)? {
        connection.execute("DELETE FROM metaxy$changes WHERE sql_table = ?1", [name])?;
    }
    Ok(())
}

/// Returns the state of a table; `None` if its changes are not counted.
pub(crate) fn state(connection: &Connection, table: &StoredTable, during: During<'_>) -> Result<Option<TableState>> {
    let look = || {
        let Some((incarnation, changes)) = incarnation(connection, table)? else { return Ok(None) };
        let first_and_last = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (first, last): (Option<i64>, Option<i64>) =
            connection.prepare_cached(&ends(&table.quoted_name()))?.query_row([], first_and_last)?;
        // SQLite itself numbers from 1, and at random once there is no greater number.
        if first.is_some_and(|first| first < 1) || last == Some(i64::MAX) {
            return Ok(None);
        }
        let last = last.unwrap_or_default();
        let hash = row_hash(connection, table, last)?.unwrap_or_default();
        Ok(Some(TableState { incarnation, changes, last, hash }))
    };
    look().map_err(|error: rusqlite::Error| during.error(error))
}

impl TableState {
    /// Returns the state as a position.
    pub(crate) fn to_position(&self) -> Position {
        Position::new(format!("row {} {:016x} {} {}", self.last, self.hash, self.changes, self.incarnation))
    }

    fn of_position(position: &Position) -> Option<Self> {
        let mut parts = position.as_str().strip_prefix("row ")?.split(' ');
        let (last, hash) = (parts.next()?.parse().ok()?, u64::from_str_radix(parts.next()?, 16).ok()?);
        let (changes, incarnation) = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
        Some(Self { incarnation, changes, last, hash })
    }

    /// Returns the number of the last row.
    pub(crate) fn last(&self) -> i64 {
        self.last
    }
}

/// Returns the number of the last row at a position, or why it cannot be told what was appended since.
pub(crate) fn last_row_at(
    connection: &Connection,
    table: &StoredTable,
    since: &Position,
    now: &TableState,
    during: During<'_>,
) -> Result<std::result::Result<i64, &'static str>> {
    let Some(then) = TableState::of_position(since) else { return Ok(Err("its changes were not counted then")) };
    if then.incarnation != now.incarnation {
        return Ok(Err("the table was made anew"));
    }
    if then.changes != now.changes {
        return Ok(Err("rows were removed or changed"));
    }
    let hash = row_hash(connection, table, then.last).map_err(|error| during.error(error))?;
    if hash.unwrap_or_default() != then.hash || then.last > now.last {
        return Ok(Err("the numbers of its rows have changed"));
    }
    Ok(Ok(then.last))
}

/// Returns the incarnation and the counter of a table, if every change is counted: both triggers are there, and no unique
/// index removes rows without them.
fn incarnation(connection: &Connection, table: &StoredTable) -> rusqlite::Result<Option<(String, i64)>> {
    let mut of_trigger =
        connection.prepare_cached("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?1")?;
    for change in CHANGES {
        let sql: Option<String> = of_trigger.query_row([trigger_name(table, change)], |row| row.get(0)).optional()?;
        if sql.as_deref() != Some(trigger(table, change).as_str()) {
            return Ok(None);
        }
    }
    let mut unique = connection.prepare_cached("SELECT 1 FROM pragma_index_list(?1) WHERE \"unique\"")?;
    if unique.exists([&table.name])? || !has_counters(connection)? {
        return Ok(None);
    }
    let sql = "SELECT incarnation, changes FROM metaxy$changes WHERE sql_table = ?1";
    let mut counter = connection.prepare_cached(sql)?;
    counter.query_row([&table.name], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

fn has_counters(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'metaxy$changes'";
    connection.prepare_cached(sql)?.exists([])
}

/// Returns the query for the numbers of the first and the last row. In one SELECT, SQLite would read the whole table.
fn ends(table: &str) -> String {
    format!("SELECT (SELECT min(rowid) FROM {table}), (SELECT max(rowid) FROM {table})")
}

fn trigger_name(table: &StoredTable, change: &str) -> String {
    format!("metaxy${}${}", change.to_ascii_lowercase(), table.name)
}

fn trigger(table: &StoredTable, change: &str) -> String {
    format!(
        "CREATE TRIGGER {} AFTER {change} ON {} BEGIN UPDATE metaxy$changes SET changes = changes + 1 WHERE sql_table = '{}'; END",
        quoted(&trigger_name(table, change)),
        table.quoted_name(),
        table.name.replace('\'', "''"),
    )
}

/// Returns a hash of the values of a row, without nulls, so that a new column does not change it.
fn row_hash(connection: &Connection, table: &StoredTable, row: i64) -> rusqlite::Result<Option<u64>> {
    let columns: Vec<String> = table.columns.iter().map(|name| quoted(name)).collect();
    let columns = if columns.is_empty() { "NULL".to_owned() } else { columns.join(", ") };
    let sql = format!("SELECT {columns} FROM {} WHERE rowid = ?1", table.quoted_name());
    let hash = |row: &rusqlite::Row<'_>| {
        let mut hasher = DefaultHasher::new();
        for (column, name) in table.columns.iter().enumerate() {
            match row.get_ref(column)? {
                ValueRef::Null => continue,
                ValueRef::Integer(value) => value.hash(&mut hasher),
                ValueRef::Real(value) => value.to_bits().hash(&mut hasher),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.hash(&mut hasher),
            }
            name.hash(&mut hasher);
        }
        Ok(hasher.finish())
    };
    connection.prepare_cached(&sql)?.query_row([row], hash).optional()
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn the_ends_of_a_table_are_found_without_reading_it() {
        let connection = Connection::open_in_memory().expect("a database");
        let rows = "CREATE TABLE t (id); CREATE INDEX i ON t (id);
                    WITH RECURSIVE n (id) AS (SELECT 5 UNION ALL SELECT id + 1 FROM n WHERE id < 1000)
                    INSERT INTO t (rowid, id) SELECT id, id FROM n";
        connection.execute_batch(rows).expect("rows");
        let mut statement = connection.prepare(&ends("t")).expect("a query");
        let found = statement.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        assert_eq!(found.expect("a row"), (5, 1000));
        assert_eq!(statement.get_status(StatementStatus::FullscanStep), 0);
    }
}
