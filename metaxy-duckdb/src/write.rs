//! Calls that write, each in one transaction.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use duckdb::Connection;
use metaxy_core::{Error, FeatureKey, Result, schema};

use crate::arrow_border::source::{Source, numbered};
use crate::arrow_border::{DuckBatch, to_duckdb};
use crate::catalog::{Indexes, StoredColumn, StoredTable, trigger};
use crate::connection::Link;
use crate::error::During;
use crate::held;
use crate::sql::alter::{Growth, check_storable, unsupported};
use crate::sql::names::{TableName, quoted};
use crate::types::{first_misfit, has_misfits, keep, storage};

/// Rows of about this size are inserted by one statement.
const INSERT_BYTES: usize = 256 << 20;

/// A table to be written.
pub(crate) struct Writing<'a> {
    pub(crate) link: &'a Link,
    pub(crate) key: &'a FeatureKey,
    /// The table's name in DuckDB.
    pub(crate) sql_name: &'a TableName,
    /// The table's name, for messages.
    pub(crate) table: &'a str,
    pub(crate) during: During<'a>,
}

/// A part of a batch, in the form of DuckDB.
struct Part {
    /// The number of the first row in its batch.
    first: usize,
    rows: DuckBatch,
}

impl Writing<'_> {
    pub(crate) fn connection(&self) -> &Connection {
        &self.link.connection
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.connection().execute_batch(sql).map_err(self.during.fails())
    }

    /// Finds the table, if there is one. Triggers are refused: they would change other rows, in this table or in
    /// others.
    pub(crate) fn find(&self) -> Result<Option<StoredTable>> {
        if let Some(trigger) = trigger(self.connection(), self.sql_name).map_err(self.during.fails())? {
            return Err(Error::Unsupported {
                what: format!("writing to table `{}` while the trigger `{trigger}` is on it", self.table),
                hint: "drop the trigger".to_owned(),
            });
        }
        StoredTable::find(self.connection(), self.sql_name, self.during)
    }

    /// Runs `work` in a transaction.
    pub(crate) fn transaction<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.run("BEGIN TRANSACTION")?;
        match work().and_then(|answer| self.run("COMMIT").map(|()| answer)) {
            // Writes to a removed file are lost.
            Ok(answer) => self.link.check_present().map(|()| answer),
            Err(error) => {
                // The first error is the cause; the rollback happens when the connection is closed, even if this fails.
                let _ = self.connection().execute_batch("ROLLBACK");
                Err(error)
            }
        }
    }

    /// Appends rows; creates the table, or adds columns to it, if necessary.
    pub(crate) fn append(
        &self,
        schema: &SchemaRef,
        mut batches: impl Iterator<Item = Result<RecordBatch>>,
    ) -> Result<()> {
        let blocking = self.transaction(|| {
            let table = self.find()?;
            let growth = Growth::new(self.key, table.as_ref(), schema)?;
            match table.as_ref().filter(|_| growth.changes_types()) {
                Some(table) if table.indexes.are_in_the_way() => Ok(Some(table.indexes.clone())),
                _ => self.append_rows(table.as_ref(), &growth, &mut batches).map(|()| None),
            }
        })?;
        let Some(indexes) = blocking else { return Ok(()) };
        self.transaction(|| indexes.set_aside(self.sql_name).iter().try_for_each(|sql| self.run(sql)))?;
        let outcome = self.transaction(|| {
            let table = self.find()?;
            self.append_rows(table.as_ref(), &Growth::new(self.key, table.as_ref(), schema)?, &mut batches)
        });
        if outcome.is_err() {
            // The first error is the cause. If this fails too, the next write restores them.
            let _ = self.transaction(|| self.restore(&indexes));
        }
        outcome
    }

    fn append_rows(
        &self,
        table: Option<&StoredTable>,
        growth: &Growth,
        batches: &mut impl Iterator<Item = Result<RecordBatch>>,
    ) -> Result<()> {
        growth.statements(self.sql_name, table.is_some()).iter().try_for_each(|sql| self.run(sql))?;
        if table.is_none() {
            held::mark(self.connection(), self.sql_name).map_err(self.during.fails())?;
        }
        let (mut piece, mut bytes) = (Vec::new(), 0);
        for batch in batches {
            let batch = batch?;
            bytes += batch.get_array_memory_size();
            piece.push(batch);
            if bytes >= INSERT_BYTES {
                self.insert(&growth.columns, &std::mem::take(&mut piece))?;
                bytes = 0;
            }
        }
        self.insert(&growth.columns, &piece)?;
        match table.filter(|table| table.indexes.are_aside()) {
            Some(table) => self.restore(&table.indexes),
            None => Ok(()),
        }
    }

    fn restore(&self, indexes: &Indexes) -> Result<()> {
        indexes.restore(self.sql_name).iter().try_for_each(|sql| self.run(sql))
    }

    fn insert(&self, columns: &[StoredColumn], batches: &[RecordBatch]) -> Result<()> {
        let mut parts = Vec::new();
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            let batch = self.in_stored_types(columns, batch)?;
            self.to_wire(columns, &batch, 0, &mut parts)?;
        }
        if parts.is_empty() {
            return Ok(());
        }
        self.check_foreign(columns, &parts)?;
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.sql_name)).collect();
        let names = names.join(", ");
        let source = Source::new(parts.into_iter().map(|part| part.rows).collect());
        self.run(&format!("INSERT INTO {} ({names}) SELECT {names} FROM {}", self.sql_name, source.call()))
    }

    /// Returns the columns that are written, in the types of the core.
    fn in_stored_types(&self, columns: &[StoredColumn], batch: &RecordBatch) -> Result<RecordBatch> {
        let fields: Vec<Field> = columns.iter().map(StoredColumn::field).collect();
        schema::conform(self.key, &Arc::new(Schema::new(fields)), batch)
    }

    /// Converts a batch into the form of DuckDB, in several parts if its values do not fit into one. `first` is the
    /// number of its first row.
    fn to_wire(&self, columns: &[StoredColumn], batch: &RecordBatch, first: usize, out: &mut Vec<Part>) -> Result<()> {
        match self.wire_batch(columns, batch, first) {
            Ok(rows) => out.push(Part { first, rows }),
            Err(Error::Arrow(_)) if batch.num_rows() > 1 => {
                let half = batch.num_rows() / 2;
                self.to_wire(columns, &batch.slice(0, half), first, out)?;
                self.to_wire(columns, &batch.slice(half, batch.num_rows() - half), first + half, out)?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns the columns by their names in DuckDB, in the types in which it stores them.
    fn wire_batch(&self, columns: &[StoredColumn], batch: &RecordBatch, first: usize) -> Result<DuckBatch> {
        let mut fields = Vec::with_capacity(columns.len());
        let mut arrays = Vec::with_capacity(columns.len());
        for (column, array) in columns.iter().zip(batch.columns()) {
            let wire = storage(&column.data_type).map_err(|hint| unsupported(&column.field(), hint))?.wire;
            arrays.push(keep(array, &wire).map_err(|error| match batch.num_rows() {
                1 => misfit(self.table, &column.name, first, &error),
                _ => Error::Arrow(error),
            })?);
            fields.push(Field::new(&column.sql_name, wire, true));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        to_duckdb(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
    }

    /// Refuses values that a column of another program's type, such as ENUM or UUID, would not return unchanged.
    fn check_foreign(&self, columns: &[StoredColumn], parts: &[Part]) -> Result<()> {
        for column in columns.iter().filter(|column| !column.is_stored_as_written()) {
            let Ok(kept) = storage(&column.data_type) else { continue };
            let sql_type = &column.sql_type;
            for part in parts {
                let Some((row, value)) = self.first_changed(column, &kept.sql, &part.rows)? else { continue };
                let (table, column) = (self.table.to_owned(), column.name.clone());
                let value: String = value.chars().take(80).collect();
                let reason = format!("`{value}` cannot be stored as {sql_type} without change");
                return Err(Error::InvalidValue { table, column, row: part.first + row, reason });
            }
        }
        Ok(())
    }

    /// Returns the first value of a column that changes when DuckDB stores it, with its row.
    fn first_changed(&self, column: &StoredColumn, kept: &str, batch: &DuckBatch) -> Result<Option<(usize, String)>> {
        let Some(values) = batch.column_by_name(&column.sql_name) else { return Ok(None) };
        let source = Source::new(vec![numbered(values)?]);
        let sql = format!(
            "SELECT \"row\", \"value\"::VARCHAR FROM {} WHERE \"value\" IS NOT NULL AND \
             TRY_CAST(TRY_CAST(\"value\" AS {}) AS {kept}) IS DISTINCT FROM \"value\" ORDER BY \"row\" ASC LIMIT 1",
            source.call(),
            column.sql_type,
        );
        let mut statement = self.connection().prepare(&sql).map_err(self.during.fails())?;
        let mut rows = statement.query([]).map_err(self.during.fails())?;
        let found = rows.next().map_err(self.during.fails())?;
        let read =
            |row: &duckdb::Row<'_>| Ok((usize::try_from(row.get::<_, i64>(0)?).unwrap_or_default(), row.get(1)?));
        found.map(read).transpose().map_err(self.during.fails())
    }

    /// Removes the table.
    pub(crate) fn drop_table(&self) -> Result<()> {
        self.run(&format!("DROP TABLE IF EXISTS {}", self.sql_name))
    }

    /// Moves the write-ahead log into the file, and packs the rows of many small writes.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        self.run(&format!("CHECKPOINT {}", quoted(&self.sql_name.database)))
    }
}

/// Checks the types and values of rows, without a table.
pub(crate) fn check_rows(table: &str, rows: &RecordBatch) -> Result<()> {
    check_storable(rows.schema_ref())?;
    for (field, array) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        let Ok(kept) = storage(field.data_type()) else { continue };
        if let Some((row, error)) = has_misfits(field.data_type()).then(|| first_misfit(array, &kept.wire)).flatten() {
            return Err(misfit(table, field.name(), row, &error));
        }
    }
    Ok(())
}

fn misfit(table: &str, column: &str, row: usize, error: &ArrowError) -> Error {
    let reason = format!("DuckDB cannot store it: {error}; correct it, or use another column");
    Error::InvalidValue { table: table.to_owned(), column: column.to_owned(), row, reason }
}
