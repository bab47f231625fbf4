//! Calls that write, each in one transaction.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use metaxy_core::filter::Predicate;
use metaxy_core::schema::{convert, grown_schema};
use metaxy_core::{FeatureKey, Result};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::catalog::{Catalog, StoredTable};
use crate::delete;
use crate::error::During;
use crate::location::Location;
use crate::types::{check_columns, check_storable, common, encoder};

/// A call that writes: its store, and the table that it changes.
pub(crate) struct Writing<'a> {
    pub(crate) location: &'a Location,
    pub(crate) prefix: &'a str,
    pub(crate) key: &'a FeatureKey,
}

impl Writing<'_> {
    /// Runs `work` in a transaction that locks the database from the beginning, so that it cannot fail halfway because
    /// of a missing lock.
    fn in_transaction<T>(
        &self,
        connection: &mut Connection,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>, &Catalog<'_>, During<'_>) -> Result<T>,
    ) -> Result<T> {
        let name = self.key.table_name();
        let during = During::new(self.location, operation).of(&name);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| during.error(error))?;
        let catalog = Catalog { connection: &transaction, prefix: self.prefix, during };
        let answer = work(&transaction, &catalog, during)?;
        transaction.commit().map_err(|error| during.error(error))?;
        Ok(answer)
    }

    /// Appends rows; creates the table, or adds columns to it, if necessary.
    pub(crate) fn append(
        &self,
        connection: &mut Connection,
        schema: &SchemaRef,
        batches: impl IntoIterator<Item = Result<RecordBatch>>,
    ) -> Result<()> {
        self.in_transaction(connection, "append", |transaction, catalog, during| {
            let stored = catalog.find(self.key)?;
            let known =
                stored.as_ref().map_or_else(|| schema.project(&[]), |table| Ok(table.schema.as_ref().clone()))?;
            let grown = grown_schema(self.key, &known, schema)?;
            grown.fields().iter().try_for_each(|field| check_storable(field.name(), field.data_type()))?;
            check_columns(&self.key.table_name(), grown.fields().len())?;
            let table = catalog.evolve(self.key, stored, grown)?;
            batches.into_iter().try_for_each(|batch| self.insert(transaction, &table, &batch?, during))
        })
    }

    fn insert(
        &self,
        transaction: &Transaction<'_>,
        table: &StoredTable,
        batch: &RecordBatch,
        during: During<'_>,
    ) -> Result<()> {
        let schema = batch.schema();
        let (mut columns, mut arrays): (Vec<String>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
        for (field, array) in schema.fields().iter().zip(batch.columns()) {
            // A column without a type is not stored, and has no values.
            let Some((column, stored)) = table.column(field.name()) else { continue };
            columns.push(column);
            arrays.push(common(&convert(self.key, field.name(), array, stored.data_type())?)?);
        }
        let sql = insertion(table, &columns);
        let mut statement = transaction.prepare_cached(&sql).map_err(|error| during.error(error))?;
        let binds = arrays.iter().map(encoder).collect::<Result<Vec<_>>>()?;
        let mut scratch = String::new();
        for row in 0..batch.num_rows() {
            for (position, bind) in binds.iter().enumerate() {
                bind(&mut statement, position + 1, row, &mut scratch).map_err(|error| during.error(error))?;
            }
            statement.raw_execute().map_err(|error| during.error(error))?;
        }
        Ok(())
    }

    /// Removes the rows for which a predicate is true.
    pub(crate) fn delete(&self, connection: &mut Connection, predicate: &Predicate) -> Result<u64> {
        self.in_transaction(connection, "delete", |transaction, catalog, during| match catalog.find(self.key)? {
            Some(table) => delete::delete(transaction, &table, self.key, predicate, during),
            None => Ok(0),
        })
    }

    /// Removes the table.
    pub(crate) fn drop_table(&self, connection: &mut Connection) -> Result<()> {
        self.in_transaction(connection, "drop the table", |_, catalog, _| catalog.drop(self.key))
    }
}

fn insertion(table: &StoredTable, columns: &[String]) -> String {
    if columns.is_empty() {
        return format!("INSERT INTO {} DEFAULT VALUES", table.quoted_name());
    }
    let values: Vec<String> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
    format!("INSERT INTO {} ({}) VALUES ({})", table.quoted_name(), columns.join(", "), values.join(", "))
}
