//! Removes rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::filter;
use arrow::datatypes::{Field, Int64Type, Schema};
use metaxy_core::filter::Predicate;
use metaxy_core::{Error, Result};

use crate::arrow_border::source::Source;
use crate::arrow_border::to_duckdb;
use crate::catalog::{StoredColumn, StoredTable};
use crate::held;
use crate::read::Rows;
use crate::sql::names::quoted;
use crate::sql::predicate::condition;
use crate::types::convert;
use crate::write::Writing;

impl Writing<'_> {
    /// Removes the rows for which the predicate is true.
    pub(crate) fn delete(&self, predicate: &Predicate) -> Result<u64> {
        self.transaction(|| {
            let Some(table) = self.find()? else { return Ok(0) };
            let deleted = self.delete_from(&table, predicate)?;
            if deleted > 0 {
                held::mark_if_empty(self.connection(), self.sql_name).map_err(self.during.fails())?;
            }
            Ok(deleted)
        })
    }

    fn delete_from(&self, table: &StoredTable, predicate: &Predicate) -> Result<u64> {
        let from = format!("DELETE FROM {} WHERE ", self.sql_name);
        if let Some(condition) = condition(table, predicate) {
            return self.count(&format!("{from}{condition}"));
        }
        let rows = self.matching_rows(table, predicate)?;
        if rows.is_empty() {
            return Ok(0);
        }
        let rows = RecordBatch::try_from_iter([("row", Arc::new(rows) as ArrayRef)])?;
        let source = Source::new(vec![to_duckdb(rows)?]);
        self.count(&format!("{from}rowid IN (SELECT \"row\" FROM {})", source.call()))
    }

    fn count(&self, sql: &str) -> Result<u64> {
        self.connection().execute(sql, []).map(|count| count as u64).map_err(self.during.fails())
    }

    /// Returns the numbers of the rows for which a predicate that DuckDB cannot evaluate is true.
    fn matching_rows(&self, table: &StoredTable, predicate: &Predicate) -> Result<Int64Array> {
        if table.has_own_rowid() {
            return Err(Error::Unsupported {
                what: format!("deleting rows of `{}`, which has a column `rowid`, by such a filter", self.table),
                hint: "rename that column".to_owned(),
            });
        }
        let names = predicate.columns();
        let columns: Vec<&StoredColumn> = table.columns.iter().filter(|column| names.contains(&column.name)).collect();
        let selected: String = columns.iter().map(|column| format!(", {}", quoted(&column.sql_name))).collect();
        let sql = format!("SELECT rowid{selected} FROM {}", self.sql_name);
        let mut statement = self.connection().prepare(&sql).map_err(self.during.fails())?;
        let mut found: Vec<i64> = Vec::new();
        for batch in Rows::new(&mut statement, self.during)? {
            let batch = batch?;
            let Some((numbers, values)) = batch.columns().split_first() else { continue };
            let mask = predicate.evaluate(&in_types(&columns, values, batch.num_rows())?)?;
            let matching = filter(numbers, &mask)?;
            found.extend(matching.as_primitive::<Int64Type>().values());
        }
        Ok(found.into())
    }
}

/// Converts columns of a table into the types and names of the core.
fn in_types(columns: &[&StoredColumn], values: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
    let fields: Vec<Field> =
        columns.iter().map(|column| Field::new(&column.name, column.data_type.clone(), true)).collect();
    let arrays = columns.iter().zip(values).map(|(column, array)| convert(array, &column.data_type));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let schema = Arc::new(Schema::new(fields));
    Ok(RecordBatch::try_new_with_options(schema, arrays.collect::<Result<_, _>>()?, &options)?)
}
