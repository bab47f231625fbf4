//! Statements that create or change a table for rows of a schema, and that record types.

use arrow::datatypes::{Field, Schema};
use metaxy_core::backend::HELD_MARK;
use metaxy_core::schema::grown_schema;
use metaxy_core::{Error, Result, columns};

use super::names::{literal, quoted};
use crate::KIND;
use crate::catalog::{Column, NAME_BYTES, Table, TableName};
use crate::types::comment::{self, Backup};
use crate::types::{self, Storage, Wire};

/// The maximum number of columns of a table.
const COLUMNS: usize = 1_600;
/// Names that every table of PostgreSQL uses itself.
const RESERVED: [&str; 6] = ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

/// The columns with the times when a row was written or deleted.
pub(crate) const TIMES: [&str; 2] = [columns::UPDATED_AT, columns::DELETED_AT];

/// Returns the statement that sets the comment of a table.
pub(crate) fn set_comment(quoted: &str, comment: &str) -> String {
    format!("COMMENT ON TABLE {quoted} IS {};\n", literal(comment))
}

/// The plan of a write: the columns in their order, and the changes of the table that come first.
pub(crate) struct WritePlan {
    pub(crate) columns: Vec<Column>,
    /// Statements that create or change the table; empty if it fits.
    pub(crate) changes: String,
}

/// Compares the schema of rows with the existing table.
pub(crate) fn plan_write(
    name: &TableName,
    table: Option<&Table>,
    schema: &Schema,
    nested_as_jsonb: bool,
) -> Result<WritePlan> {
    let mut changes = Changes { next: table.map_or(0, |table| table.numbers), ..Changes::default() };
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        check_name(name, field.name())?;
        columns.push(match table.and_then(|table| table.find(field.name())) {
            Some(column) => {
                let grown = grown(name, column, field)?;
                if grown.storage.data_type != column.storage.data_type {
                    changes.comment(name, &grown);
                }
                grown
            }
            None => changes.add(name, field, nested_as_jsonb)?,
        });
    }
    let count = changes.added.len() + table.map_or(0, |table| table.columns.len());
    if count > COLUMNS {
        return Err(Error::LimitExceeded {
            what: format!("table `{}` of {count} columns", name.plain),
            limit: format!("{COLUMNS} columns in PostgreSQL"),
            hint: "move some of them into a struct".to_owned(),
        });
    }
    Ok(WritePlan { columns, changes: changes.sql(name, table) })
}

/// The changes of a write to a table.
#[derive(Default)]
struct Changes {
    /// Definitions of new columns.
    added: Vec<String>,
    /// Statements that create the indexes of a new table.
    indexes: String,
    /// Statements that record types.
    comments: String,
    /// Columns whose types are recorded.
    commented: Vec<Column>,
    /// The number of the last column.
    next: i16,
}

impl Changes {
    fn add(&mut self, name: &TableName, field: &Field, nested_as_jsonb: bool) -> Result<Column> {
        self.next += 1;
        let column = new_column(field, self.next, nested_as_jsonb)?;
        self.added.push(format!("{} {}", quoted(&column.name), column.storage.sql));
        if TIMES.contains(&column.name.as_str()) && matches!(column.storage.wire, Wire::Timestamp | Wire::Timestamptz) {
            self.indexes.push_str(&create_index(name, &column.name));
        }
        if types::needs_comment(&column.storage) {
            self.comment(name, &column);
        }
        Ok(column)
    }

    fn comment(&mut self, name: &TableName, column: &Column) {
        let Some(text) = comment::write(&column.storage.data_type) else { return };
        let quoted = quoted(&column.name);
        self.comments.push_str(&format!("COMMENT ON COLUMN {}.{quoted} IS {};\n", name.quoted, literal(&text)));
        self.commented.push(column.clone());
    }

    fn sql(self, name: &TableName, table: Option<&Table>) -> String {
        let mut sql = match table {
            None => format!("CREATE TABLE {} ({});\n{}", name.quoted, self.added.join(", "), self.indexes),
            Some(_) if self.added.is_empty() => String::new(),
            Some(_) => {
                let added: Vec<String> = self.added.iter().map(|column| format!("ADD COLUMN {column}")).collect();
                format!("ALTER TABLE {} {};\n", name.quoted, added.join(", "))
            }
        };
        sql.push_str(&self.comments);
        if let Some(comment) = self.table_comment(table) {
            sql.push_str(&set_comment(&name.quoted, &comment));
        }
        sql
    }

    /// Returns the new comment of the table, which then records that it has held rows. Other programs may write
    /// comments on columns, so the types are recorded here too.
    fn table_comment(&self, table: Option<&Table>) -> Option<String> {
        let comment = table.map_or(Some(HELD_MARK), |table| table.comment.as_deref());
        if self.commented.is_empty() {
            return comment.filter(|_| table.is_none()).map(str::to_owned);
        }
        let comment = comment.unwrap_or_default();
        let mut backup = Backup::read(comment);
        for column in &self.commented {
            backup.set(&column.name, column.number, &column.storage.data_type);
        }
        Some(backup.write(comment))
    }
}

fn check_name(name: &TableName, column: &str) -> Result<()> {
    if column.len() > NAME_BYTES {
        let reason =
            format!("its name has {} bytes, and PostgreSQL truncates it to {NAME_BYTES}; rename it", column.len());
        return Err(name.invalid(column, reason));
    }
    if column.contains('\0') {
        return Err(name.invalid(column, "its name holds a NUL character; rename it".to_owned()));
    }
    if RESERVED.contains(&column) {
        return Err(name.invalid(column, "PostgreSQL reserves this name; rename it".to_owned()));
    }
    Ok(())
}

fn new_column(field: &Field, number: i16, nested_as_jsonb: bool) -> Result<Column> {
    let storage = types::storage(field.name(), field.data_type())?;
    if storage.wire == Wire::Jsonb && !nested_as_jsonb && !columns::is_system(field.name()) {
        return Err(Error::UnsupportedType {
            backend: KIND,
            column: field.name().clone(),
            data_type: field.data_type().to_string(),
            hint: "`auto_cast_struct_for_jsonb` is off; switch it on, or write the value as text".to_owned(),
        });
    }
    Ok(Column { name: field.name().clone(), storage, number, is_typed: true })
}

/// Returns an existing column, in the type that it has with values of a field.
fn grown(name: &TableName, column: &Column, field: &Field) -> Result<Column> {
    let stored = &column.storage.data_type;
    let mismatch = || Error::TypeMismatch {
        table: name.plain.clone(),
        column: column.name.clone(),
        stored: format!("{stored} ({})", column.storage.sql),
        given: field.data_type().to_string(),
    };
    if column.storage.wire == Wire::Other {
        return Err(mismatch());
    }
    let own = Schema::new(vec![Field::new(&column.name, stored.clone(), true)]);
    let given = Schema::new(vec![field.clone()]);
    let grown = grown_schema(&name.key, &own, &given).map_err(|_| mismatch())?;
    let data_type = grown.field(0).data_type().clone();
    if data_type != *stored {
        types::storage(&column.name, &data_type)?;
    }
    let storage = Storage { data_type, ..column.storage.clone() };
    Ok(Column { storage, ..column.clone() })
}

/// Returns the statement that creates the index on a column of times. It has no nulls, because most rows are never
/// deleted.
pub(crate) fn create_index(name: &TableName, time: &str) -> String {
    format!("CREATE INDEX ON {} ({time}) WHERE {time} IS NOT NULL;\n", name.quoted, time = quoted(time))
}

/// Returns the statement that makes writers who create or change one table wait for each other until the transaction
/// ends.
pub(crate) fn lock(name: &TableName) -> String {
    let key = literal(&format!("metaxy:{}.{}", name.schema, name.plain));
    format!("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended({key}, 0))")
}
