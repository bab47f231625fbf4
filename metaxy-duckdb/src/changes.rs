//! What has changed in a table since a position. DuckDB has no counter of changes, but while a process has a file open for
//! writing, no other can: this process counts the writes that remove rows. New rows get greater numbers.
//!
//! Rows may get other numbers when DuckDB packs a table from which rows were removed before, so a position has a hash of
//! the last row too.

use duckdb::{Connection, OptionalExt as _};
use metaxy_core::Result;
use metaxy_core::backend::Position;

use crate::catalog::StoredTable;
use crate::error::During;
use crate::sql::names::TableName;

/// The row of a table, as a name that no column has.
const ROW: &str = "\"metaxy$row\"";

/// The last row of a table: its number, and a hash of its values. A table without rows has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastRow {
    pub(crate) number: Option<i64>,
    hash: u64,
}

impl LastRow {
    /// Finds the last row; `None` for a table whose rows have no numbers, because a column has their name.
    pub(crate) fn find(connection: &Connection, table: &StoredTable, during: During<'_>) -> Result<Option<Self>> {
        if table.has_own_rowid() {
            return Ok(None);
        }
        let sql = format!("SELECT max(rowid) FROM {}", table.sql_name);
        let number: Option<i64> = connection.query_row(&sql, [], |row| row.get(0)).map_err(during.fails())?;
        let Some(number) = number else { return Ok(Some(Self::default())) };
        let hash = hash_of(connection, &table.sql_name, number, during)?;
        Ok(hash.map(|hash| Self { number: Some(number), hash }))
    }

    /// Returns whether the row is still there, under its number.
    pub(crate) fn is_in(&self, connection: &Connection, table: &StoredTable, during: During<'_>) -> Result<bool> {
        match self.number {
            None => Ok(true),
            Some(number) => Ok(hash_of(connection, &table.sql_name, number, during)? == Some(self.hash)),
        }
    }

    /// Returns the position, given the state of the process.
    pub(crate) fn to_position(self, process: &str, removals: u64) -> Position {
        let number = self.number.unwrap_or(-1);
        Position::new(format!("row {number} {:016x} {removals} {process}", self.hash))
    }

    /// Returns the row of a position, if no row was removed since.
    pub(crate) fn of_position(
        position: &Position,
        process: &str,
        removals: u64,
    ) -> std::result::Result<Self, &'static str> {
        let parts: Vec<&str> = position.as_str().split(' ').collect();
        let ["row", number, hash, removals_then, process_then] = parts[..] else {
            return Err("the table was not there");
        };
        if process_then != process {
            return Err("the file was closed since, so other programs may have changed it");
        }
        if removals_then != removals.to_string() {
            return Err("rows were removed, or the table was made anew");
        }
        match (number.parse::<i64>(), u64::from_str_radix(hash, 16)) {
            (Ok(number), Ok(hash)) => Ok(Self { number: (number >= 0).then_some(number), hash }),
            _ => Err("its position is damaged"),
        }
    }
}

fn hash_of(connection: &Connection, sql_name: &TableName, row: i64, during: During<'_>) -> Result<Option<u64>> {
    let sql = format!("SELECT hash({ROW}) FROM {sql_name} AS {ROW} WHERE rowid = {row}");
    connection.query_row(&sql, [], |row| row.get(0)).optional().map_err(during.fails())
}
