//! Rows by their keys, which DuckDB reads as a table.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use metaxy_core::Result;
use metaxy_core::backend::ScanKeys;

use crate::arrow_border::source::Source;
use crate::arrow_border::to_duckdb;
use crate::catalog::StoredTable;
use crate::sql::names::quoted;

/// The keys of the needed rows, which SQL can read while this exists.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The key columns, quoted.
    columns: Vec<String>,
    source: Source,
}

impl Keys {
    /// Creates the keys of a table; `None` if DuckDB stores none of the key columns as they were written.
    pub(crate) fn new(table: &StoredTable, keys: &ScanKeys) -> Result<Option<Self>> {
        let is_usable = |name: &str| table.column(name).is_some_and(|column| column.is_stored_as_written());
        let usable: Vec<usize> =
            keys.columns().enumerate().filter(|(_, name)| is_usable(name)).map(|(index, _)| index).collect();
        let rows = keys.rows().project(&usable)?;
        let schema: &Schema = rows.schema_ref();
        let columns: Option<Vec<String>> =
            schema.fields().iter().map(|field| Some(quoted(&table.column(field.name())?.sql_name))).collect();
        let (Some(columns), false) = (columns, usable.is_empty()) else { return Ok(None) };
        Ok(Some(Self { columns, source: Source::new(vec![to_duckdb(numbered(rows)?)?]) }))
    }

    /// Returns the condition that a row has one of the keys.
    pub(crate) fn condition(&self) -> String {
        let names: Vec<String> = (0..self.columns.len()).map(|number| format!("k{number}")).collect();
        format!("({}) IN (SELECT ({}) FROM {})", self.columns.join(", "), names.join(", "), self.source.call())
    }
}

/// Returns the rows with the names `k0`, `k1`, … for their columns.
fn numbered(rows: RecordBatch) -> Result<RecordBatch> {
    let names = (0..rows.num_columns()).map(|number| format!("k{number}"));
    Ok(RecordBatch::try_from_iter(names.zip(rows.columns().iter().cloned()))?)
}
