//! Calls that write, each in one transaction.

use std::sync::mpsc;
use std::thread;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use metaxy_core::backend::ScanKeys;
use metaxy_core::filter::Predicate;
use metaxy_core::schema::{convert, grown_schema, slices};
use metaxy_core::{Error, FeatureKey, Result};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::catalog::{Catalog, StoredTable};
use crate::changes;
use crate::delete;
use crate::error::During;
use crate::keys;
use crate::location::Location;
use crate::types::{binder, check_columns, check_storable, encode};

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
        batches: impl Iterator<Item = Result<RecordBatch>> + Send,
    ) -> Result<()> {
        self.in_transaction(connection, "append", |transaction, catalog, during| {
            let stored = catalog.find(self.key)?;
            let known =
                stored.as_ref().map_or_else(|| schema.project(&[]), |table| Ok(table.schema.as_ref().clone()))?;
            let grown = grown_schema(self.key, &known, schema)?;
            grown.fields().iter().try_for_each(|field| check_storable(field.name(), field.data_type()))?;
            check_columns(&self.key.table_name(), grown.fields().len())?;
            let table = catalog.evolve(self.key, stored, grown)?;
            changes::count_changes(transaction, &table, during)?;
            // Nested values take more memory when they are encoded.
            let mut pieces = batches.flat_map(|batch| match batch {
                Ok(batch) => slices(&batch).into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            });
            let (Some(first), second) = (pieces.next(), pieces.next()) else { return Ok(()) };
            let first = self.encode(&table, &first?)?;
            match second {
                None => insert(transaction, &table, &first, during),
                Some(second) => {
                    let others = std::iter::once(second).chain(pieces);
                    self.insert_all(transaction, &table, first, others, during)
                }
            }
        })
    }

    /// Inserts rows while another thread encodes the next ones.
    fn insert_all(
        &self,
        transaction: &Transaction<'_>,
        table: &StoredTable,
        first: Encoded,
        others: impl Iterator<Item = Result<RecordBatch>> + Send,
        during: During<'_>,
    ) -> Result<()> {
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(1);
            let encode_others = move || {
                for rows in others {
                    let encoded = rows.and_then(|rows| self.encode(table, &rows));
                    let failed = encoded.is_err();
                    // The receiver is gone if an insertion has failed.
                    if sender.send(encoded).is_err() || failed {
                        return;
                    }
                }
            };
            thread::Builder::new()
                .name("metaxy-sqlite-encoder".to_owned())
                .spawn_scoped(scope, encode_others)
                .map_err(|error| Error::Task(format!("the system refuses another thread: {error}")))?;
            insert(transaction, table, &first, during)?;
            receiver.into_iter().try_for_each(|rows| insert(transaction, table, &rows?, during))
        })
    }

    /// Converts rows into the values that their table stores.
    fn encode(&self, table: &StoredTable, batch: &RecordBatch) -> Result<Encoded> {
        let schema = batch.schema();
        let mut encoded = Encoded { columns: Vec::new(), arrays: Vec::new(), rows: batch.num_rows() };
        for (field, array) in schema.fields().iter().zip(batch.columns()) {
            // A column without a type is not stored, and has no values.
            let Some((column, stored)) = table.column(field.name()) else { continue };
            encoded.columns.push(column);
            encoded.arrays.push(encode(&convert(self.key, field.name(), array, stored.data_type())?)?);
        }
        Ok(encoded)
    }

    /// Creates the index by which rows are found, if the table is large and has none.
    pub(crate) fn index(&self, connection: &mut Connection, by: &ScanKeys) -> Result<()> {
        self.in_transaction(connection, "index the table", |transaction, catalog, during| {
            match catalog.find(self.key)? {
                Some(table) => keys::index(transaction, &table, by, during),
                None => Ok(()),
            }
        })
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
        self.in_transaction(connection, "drop the table", |transaction, catalog, during| {
            match catalog.drop(self.key)? {
                Some(name) => changes::forget(transaction, &name).map_err(|error| during.error(error)),
                None => Ok(()),
            }
        })
    }
}

/// Rows as the values that a table stores.
struct Encoded {
    columns: Vec<String>,
    arrays: Vec<ArrayRef>,
    rows: usize,
}

fn insert(transaction: &Transaction<'_>, table: &StoredTable, rows: &Encoded, during: During<'_>) -> Result<()> {
    let sql = insertion(table, &rows.columns);
    let mut statement = transaction.prepare_cached(&sql).map_err(|error| during.error(error))?;
    let binds = rows.arrays.iter().map(binder).collect::<Vec<_>>();
    let mut scratch = String::new();
    for row in 0..rows.rows {
        for (position, bind) in binds.iter().enumerate() {
            bind(&mut statement, position + 1, row, &mut scratch).map_err(|error| during.error(error))?;
        }
        statement.raw_execute().map_err(|error| during.error(error))?;
    }
    Ok(())
}

fn insertion(table: &StoredTable, columns: &[String]) -> String {
    if columns.is_empty() {
        return format!("INSERT INTO {} DEFAULT VALUES", table.quoted_name());
    }
    let values: Vec<String> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
    format!("INSERT INTO {} ({}) VALUES ({})", table.quoted_name(), columns.join(", "), values.join(", "))
}
