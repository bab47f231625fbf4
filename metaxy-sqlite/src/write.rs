//! Adding and removing rows, each call in one transaction.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use metaxy_core::Result;
use metaxy_core::filter::Predicate;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::catalog::{Catalog, StoredTable, quoted};
use crate::connection::Place;
use crate::error::During;
use crate::read;
use crate::sql;
use crate::types::{encoder, merge_schemas, plain};

/// One call that writes: which store it belongs to, and which of its tables it changes.
pub(crate) struct Writing<'a> {
    pub(crate) place: &'a Place,
    pub(crate) prefix: &'a str,
    pub(crate) feature: &'a str,
}

impl Writing<'_> {
    fn during(&self, operation: &'static str) -> During<'_> {
        During::new(self.place, operation).of(self.feature)
    }

    /// Runs `work` in a transaction that takes the right to write at once, so that it never fails half way for want of it.
    fn in_transaction<T>(
        &self,
        connection: &mut Connection,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>, &Catalog<'_>, During<'_>) -> Result<T>,
    ) -> Result<T> {
        let during = self.during(operation);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| during.error(error))?;
        let catalog = Catalog { connection: &transaction, prefix: self.prefix, during };
        let answer = work(&transaction, &catalog, during)?;
        transaction.commit().map_err(|error| during.error(error))?;
        Ok(answer)
    }

    /// Adds rows; makes or widens the table where it has to.
    pub(crate) fn append(
        &self,
        connection: &mut Connection,
        schema: &SchemaRef,
        batches: &[RecordBatch],
    ) -> Result<()> {
        self.in_transaction(connection, "append", |transaction, catalog, during| {
            let stored = catalog.find(self.feature)?;
            let merged = merge_schemas(self.feature, stored.as_ref().map(|table| table.schema.as_ref()), schema)?;
            let table = catalog.evolve(self.feature, stored, merged)?;
            insert(transaction, &table, schema, batches, during)
        })
    }

    /// Removes the rows for which a predicate is true.
    pub(crate) fn delete(&self, connection: &mut Connection, predicate: &Predicate) -> Result<u64> {
        self.in_transaction(connection, "delete", |transaction, catalog, during| {
            let Some(table) = catalog.find(self.feature)? else { return Ok(0) };
            let mut parameters = sql::Parameters::default();
            match sql::condition(&table, predicate, &mut parameters) {
                Some(condition) => {
                    let sql = format!("DELETE FROM {} WHERE {condition}", table.quoted_name());
                    let removed = transaction.execute(&sql, parameters.bound());
                    removed.map(|rows| rows as u64).map_err(|error| during.error(error))
                }
                None => delete_one_by_one(transaction, &table, self.feature, predicate, during),
            }
        })
    }

    /// Removes the table.
    pub(crate) fn drop_table(&self, connection: &mut Connection) -> Result<()> {
        self.in_transaction(connection, "drop the table", |_, catalog, _| catalog.drop(self.feature))
    }
}

fn insert(
    transaction: &Transaction<'_>,
    table: &StoredTable,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    during: During<'_>,
) -> Result<()> {
    let columns: Vec<String> =
        schema.fields().iter().filter_map(|field| table.column(field.name())).map(|(column, _)| column).collect();
    let places: Vec<String> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
    let sql = match columns.is_empty() {
        true => format!("INSERT INTO {} DEFAULT VALUES", table.quoted_name()),
        false => {
            format!("INSERT INTO {} ({}) VALUES ({})", table.quoted_name(), columns.join(", "), places.join(", "))
        }
    };
    let mut statement = transaction.prepare_cached(&sql).map_err(|error| during.error(error))?;
    let mut scratch = String::new();
    for batch in batches {
        let arrays = batch.columns().iter().map(plain).collect::<Result<Vec<ArrayRef>>>()?;
        let binds = arrays.iter().map(encoder).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            for (position, bind) in binds.iter().enumerate() {
                bind(&mut statement, position + 1, row, &mut scratch).map_err(|error| during.error(error))?;
            }
            statement.raw_execute().map_err(|error| during.error(error))?;
        }
    }
    Ok(())
}

/// Removes rows by a predicate that SQL cannot express: the core evaluates it.
fn delete_one_by_one(
    transaction: &Transaction<'_>,
    table: &StoredTable,
    feature: &str,
    predicate: &Predicate,
    during: During<'_>,
) -> Result<u64> {
    let doomed = read::matching_rows(transaction, table, feature, predicate, during)?;
    let sql = format!("DELETE FROM {} WHERE {} = ?1", table.quoted_name(), quoted("rowid"));
    let mut statement = transaction.prepare(&sql).map_err(|error| during.error(error))?;
    for row in &doomed {
        statement.execute([row]).map_err(|error| during.error(error))?;
    }
    Ok(doomed.len() as u64)
}
