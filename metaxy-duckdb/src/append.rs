//! Appending and deleting rows, each in one transaction.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StructArray, new_null_array};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use duckdb::Connection;
use metaxy_core::filter::Predicate;
use metaxy_core::{Error, Result};

use crate::KIND;
use crate::arrow_border::{from_duckdb, to_duckdb};
use crate::catalog::{StoredColumn, StoredTable};
use crate::database::Link;
use crate::error::During;
use crate::held;
use crate::source::Source;
use crate::sql::{condition, member_names, quoted};
use crate::types::{convert, distinct_name, row_numbers, storage};

/// What a write works on.
pub(crate) struct Writing<'a> {
    pub(crate) link: &'a Link,
    /// The table's name in DuckDB.
    pub(crate) sql_name: &'a str,
    /// The table's name, for messages.
    pub(crate) table: &'a str,
    pub(crate) during: During<'a>,
}

impl Writing<'_> {
    fn connection(&self) -> &Connection {
        &self.link.connection
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.connection().execute_batch(sql).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: duckdb::Error) -> Error {
        self.during.failed(error)
    }

    /// Does some work in a transaction: all of it or nothing.
    fn transaction<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.run("BEGIN TRANSACTION")?;
        match work() {
            Ok(answer) => {
                self.run("COMMIT")?;
                Ok(answer)
            }
            Err(error) => {
                // The first error says what is wrong; the connection goes, and what it has begun with it.
                let _ = self.connection().execute_batch("ROLLBACK");
                Err(error)
            }
        }
    }

    /// Appends rows, and creates or extends the table as they need it.
    pub(crate) fn append(&self, schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        self.transaction(|| {
            let columns = match StoredTable::find(self.connection(), self.sql_name, self.during)? {
                None => self.create(schema)?,
                Some(table) => self.extend(&table, schema)?,
            };
            let batches = batches.into_iter().filter(|batch| batch.num_rows() > 0);
            let batches = batches.map(|batch| to_duckdb(to_wire(&columns, &batch)?)).collect::<Result<Vec<_>>>()?;
            if batches.is_empty() {
                return Ok(());
            }
            let names: Vec<String> = columns.iter().map(|column| quoted(&column.sql_name)).collect();
            let names = names.join(", ");
            let source = Source::new(batches);
            self.run(&format!("INSERT INTO {} ({names}) SELECT {names} FROM {}", quoted(self.sql_name), source.call()))
        })
    }

    fn create(&self, schema: &SchemaRef) -> Result<Vec<StoredColumn>> {
        let mut taken = reserved_names();
        let columns = schema.fields().iter().map(|field| new_column(field, &mut taken)).collect::<Result<Vec<_>>>()?;
        let definitions: Vec<String> = columns.iter().map(StoredColumn::definition).collect();
        self.run(&format!("CREATE TABLE {} ({})", quoted(self.sql_name), definitions.join(", ")))?;
        self.comment(&columns)?;
        held::mark(self.connection(), self.sql_name).map_err(|error| self.failed(error))?;
        Ok(columns)
    }

    /// Adds what the table lacks; gives the columns that are written, in the batches' order.
    fn extend(&self, table: &StoredTable, schema: &SchemaRef) -> Result<Vec<StoredColumn>> {
        let mut taken = reserved_names();
        taken.extend(table.columns.iter().map(|column| column.sql_name.to_lowercase()));
        let mut columns = Vec::with_capacity(schema.fields().len());
        let (mut changes, mut changed) = (Vec::new(), Vec::new());
        let alter = format!("ALTER TABLE {} ADD COLUMN ", quoted(self.sql_name));
        for field in schema.fields() {
            let column = match table.column(field.name()) {
                Some(stored) if stored.data_type == *field.data_type() => stored.clone(),
                Some(stored) => {
                    let mut added = Vec::new();
                    let path = quoted(&stored.sql_name);
                    let data_type = grown(&stored.data_type, field.data_type(), &path, &mut added);
                    let data_type = data_type.ok_or_else(|| self.mismatch(stored, field))?;
                    let column = stored.with_type(data_type);
                    changes.extend(added.into_iter().map(|member| format!("{alter}{member}")));
                    changed.push(column.clone());
                    column
                }
                None => {
                    let column = new_column(field, &mut taken)?;
                    changes.push(format!("{alter}{}", column.definition()));
                    changed.push(column.clone());
                    column
                }
            };
            columns.push(column);
        }
        changes.iter().try_for_each(|change| self.run(change))?;
        self.comment(&changed)?;
        Ok(columns)
    }

    fn mismatch(&self, stored: &StoredColumn, given: &Field) -> Error {
        Error::TypeMismatch {
            table: self.table.to_owned(),
            column: stored.name.clone(),
            stored: stored.data_type.to_string(),
            given: given.data_type().to_string(),
        }
    }

    fn comment(&self, columns: &[StoredColumn]) -> Result<()> {
        columns.iter().filter_map(|column| column.comment(self.sql_name)).try_for_each(|sql| self.run(&sql))
    }

    /// Removes the rows for which the predicate is true.
    pub(crate) fn delete(&self, predicate: &Predicate) -> Result<u64> {
        self.transaction(|| {
            let Some(table) = StoredTable::find(self.connection(), self.sql_name, self.during)? else { return Ok(0) };
            let deleted = self.delete_from(&table, predicate)?;
            if deleted > 0 {
                held::mark_if_empty(self.connection(), self.sql_name).map_err(|error| self.failed(error))?;
            }
            Ok(deleted)
        })
    }

    fn delete_from(&self, table: &StoredTable, predicate: &Predicate) -> Result<u64> {
        let from = format!("DELETE FROM {} WHERE ", quoted(self.sql_name));
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

    /// Removes the table.
    pub(crate) fn drop_table(&self) -> Result<()> {
        self.run(&format!("DROP TABLE IF EXISTS {}", quoted(self.sql_name)))
    }

    /// Moves the write-ahead log into the file, and packs what many small writes have left.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        self.run("CHECKPOINT")
    }

    fn count(&self, sql: &str) -> Result<u64> {
        self.connection().execute(sql, []).map(|count| count as u64).map_err(|error| self.failed(error))
    }

    /// The numbers of the rows that the core says a predicate is true for.
    fn matching_rows(&self, table: &StoredTable, predicate: &Predicate) -> Result<Int64Array> {
        if table.has_own_rowid() {
            return Err(Error::Unsupported {
                what: format!("deleting rows of `{}`, which has a column `rowid`, by such a filter", self.table),
                hint: "rename that column".to_owned(),
            });
        }
        let names = predicate.columns();
        let columns: Vec<&StoredColumn> = table.columns.iter().filter(|column| names.contains(&column.name)).collect();
        let mut sql = "SELECT rowid".to_owned();
        columns.iter().for_each(|column| sql.push_str(&format!(", {}", quoted(&column.sql_name))));
        let mut statement = self
            .connection()
            .prepare(&format!("{sql} FROM {}", quoted(self.sql_name)))
            .map_err(|error| self.failed(error))?;
        let mut found: Vec<i64> = Vec::new();
        for batch in statement.stream_arrow([]).map_err(|error| self.failed(error))? {
            let batch = from_duckdb(batch.map_err(|error| self.failed(error))?)?;
            let mut fields = Vec::with_capacity(columns.len());
            let mut arrays = Vec::with_capacity(columns.len());
            for (column, array) in columns.iter().zip(batch.columns().iter().skip(1)) {
                fields.push(Field::new(&column.name, column.data_type.clone(), true));
                arrays.push(convert(array, &column.data_type)?);
            }
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let seen = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
            let mask: BooleanArray = predicate.evaluate(&seen)?;
            let numbers = filter(batch.column(0), &mask)?;
            found.extend(row_numbers(&numbers).into_iter().flat_map(|numbers| numbers.values().iter().copied()));
        }
        Ok(found.into())
    }
}

/// Names that columns cannot have, in lower case: DuckDB would not find its own any more.
fn reserved_names() -> HashSet<String> {
    HashSet::from(["rowid".to_owned()])
}

fn new_column(field: &Field, taken: &mut HashSet<String>) -> Result<StoredColumn> {
    if field.name().contains('\0') {
        return Err(unsupported(field, "its name holds a NUL character; give it another name"));
    }
    StoredColumn::new(field, taken).map_err(|hint| unsupported(field, hint))
}

/// Refuses columns that no table could have.
pub(crate) fn check_storable(schema: &Schema) -> Result<()> {
    let check = |field: &FieldRef| storage(field.data_type()).map(drop).map_err(|hint| unsupported(field, hint));
    schema.fields().iter().try_for_each(check)
}

fn unsupported(field: &Field, hint: &str) -> Error {
    Error::UnsupportedType {
        backend: KIND,
        column: field.name().clone(),
        data_type: field.data_type().to_string(),
        hint: hint.to_owned(),
    }
}

/// The stored type with the members that only the given one has; `None` where the two differ in anything else. Collects
/// what has to be added, as `path TYPE`.
fn grown(stored: &DataType, given: &DataType, path: &str, added: &mut Vec<String>) -> Option<DataType> {
    if stored == given {
        return Some(stored.clone());
    }
    let (DataType::Struct(old), DataType::Struct(new)) = (stored, given) else { return None };
    let mut names = member_names(old);
    let mut members: Vec<Field> = Vec::with_capacity(old.len());
    for (name, member) in names.iter().zip(old) {
        let data_type = match new.iter().find(|other| other.name() == member.name()) {
            Some(other) => grown(member.data_type(), other.data_type(), &format!("{path}.{}", quoted(name)), added)?,
            None => member.data_type().clone(),
        };
        members.push(member.as_ref().clone().with_data_type(data_type));
    }
    let mut taken: HashSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
    for member in new.iter().filter(|member| old.iter().all(|other| other.name() != member.name())) {
        names.push(distinct_name(member.name(), &mut taken));
        let name = quoted(names.last()?);
        added.push(format!("{path}.{name} {}", storage(member.data_type()).ok()?.sql));
        members.push(member.as_ref().clone().with_nullable(true));
    }
    Some(DataType::Struct(members.into()))
}

/// A batch as DuckDB takes it: the columns by their names there, in the types in which it keeps them.
fn to_wire(columns: &[StoredColumn], batch: &RecordBatch) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays = Vec::with_capacity(columns.len());
    for (column, array) in columns.iter().zip(batch.columns()) {
        let field = Field::new(&column.name, column.data_type.clone(), true);
        let wire = storage(&column.data_type).map_err(|hint| unsupported(&field, hint))?.wire;
        arrays.push(convert(&widened(array, &column.data_type), &wire)?);
        fields.push(Field::new(&column.sql_name, wire, true));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// Adds the members that a struct of the table has and the given one lacks.
fn widened(array: &ArrayRef, data_type: &DataType) -> ArrayRef {
    match (array.data_type(), data_type) {
        (DataType::Struct(_), DataType::Struct(members)) if array.data_type() != data_type => {
            let given = array.as_struct();
            let member = |member: &Arc<Field>| match given.column_by_name(member.name()) {
                Some(column) => widened(column, member.data_type()),
                None => new_null_array(member.data_type(), array.len()),
            };
            let columns: Vec<ArrayRef> = members.iter().map(member).collect();
            let nullable: Fields = members
                .iter()
                .zip(&columns)
                .map(|(member, column)| Field::new(member.name(), column.data_type().clone(), true))
                .collect();
            match StructArray::try_new(nullable, columns, given.nulls().cloned()) {
                Ok(wide) => Arc::new(wide),
                Err(_) => array.clone(),
            }
        }
        _ => array.clone(),
    }
}
