//! Creates and alters tables.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Field, Schema};
use metaxy_core::schema::grown_schema;
use metaxy_core::{Error, FeatureKey, Result};

use super::names::{TableName, member_names, quoted};
use crate::KIND;
use crate::catalog::{StoredColumn, StoredTable};
use crate::types::storage;

/// The changes of a table, or of a missing one, for rows of a schema.
pub(crate) struct Growth {
    /// The columns that are written.
    pub(crate) columns: Vec<StoredColumn>,
    /// The columns that the table lacks.
    new: Vec<StoredColumn>,
    /// The columns whose type changes.
    changed: Vec<StoredColumn>,
    /// Their changes, in the form that follows `ALTER TABLE t`.
    changes: Vec<String>,
}

impl Growth {
    /// Compares a table with the schema of appended rows.
    pub(crate) fn new(key: &FeatureKey, table: Option<&StoredTable>, given: &Schema) -> Result<Self> {
        let nothing = Schema::empty();
        let stored = table.map_or(&nothing, |table| table.schema.as_ref());
        let grown = grown_schema(key, stored, given)?;
        let mut taken = reserved_names();
        taken.extend(table.iter().flat_map(|table| &table.columns).map(|column| column.sql_name.to_lowercase()));
        let mut growth = Self { columns: Vec::new(), new: Vec::new(), changed: Vec::new(), changes: Vec::new() };
        for field in given.fields() {
            // Parts without a type are left out.
            let Ok(target) = grown.field_with_name(field.name()) else { continue };
            let column = match table.and_then(|table| table.column(field.name())) {
                Some(stored) => growth.change(stored, target)?,
                None => growth.add(target, &mut taken)?,
            };
            growth.columns.push(column);
        }
        Ok(growth)
    }

    fn add(&mut self, field: &Field, taken: &mut HashSet<String>) -> Result<StoredColumn> {
        let column = new_column(field, taken)?;
        self.new.push(column.clone());
        Ok(column)
    }

    fn change(&mut self, stored: &StoredColumn, target: &Field) -> Result<StoredColumn> {
        if stored.data_type == *target.data_type() {
            return Ok(stored.clone());
        }
        let column = stored.with_type(target.data_type().clone()).map_err(|hint| unsupported(target, hint))?;
        let mut added = Vec::new();
        match additions(&stored.data_type, target.data_type(), &quoted(&stored.sql_name), &mut added) {
            true => self.changes.extend(added.into_iter().map(|member| format!("ADD COLUMN {member}"))),
            false => {
                self.changes.push(format!(
                    "ALTER COLUMN {} SET DATA TYPE {}",
                    quoted(&column.sql_name),
                    column.sql_type
                ));
            }
        }
        self.changed.push(column.clone());
        Ok(column)
    }

    /// Returns whether types of columns change, which DuckDB refuses if anything depends on the table.
    pub(crate) fn changes_types(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Returns the statements that create or alter the table.
    pub(crate) fn statements(&self, table: &TableName, exists: bool) -> Vec<String> {
        let mut statements = Vec::new();
        if exists {
            let add = |column: &StoredColumn| format!("ALTER TABLE {table} ADD COLUMN {}", column.definition());
            statements.extend(self.changes.iter().map(|change| format!("ALTER TABLE {table} {change}")));
            statements.extend(self.new.iter().map(add));
        } else {
            let definitions: Vec<String> = self.new.iter().map(StoredColumn::definition).collect();
            statements.push(format!("CREATE TABLE {table} ({})", definitions.join(", ")));
        }
        statements.extend(self.new.iter().chain(&self.changed).filter_map(|column| column.comment(table)));
        statements
    }
}

/// Collects the members that a type gains, as `path TYPE`. Returns `false` if it differs in another way: a part had no
/// type before.
fn additions(stored: &DataType, target: &DataType, path: &str, added: &mut Vec<String>) -> bool {
    match (stored, target) {
        _ if stored == target => true,
        (DataType::Struct(old), DataType::Struct(new)) => {
            new.iter().zip(member_names(new)).enumerate().all(|(index, (member, name))| {
                let path = format!("{path}.{}", quoted(&name));
                match (old.get(index), storage(member.data_type())) {
                    (Some(old), _) => additions(old.data_type(), member.data_type(), &path, added),
                    (None, Ok(kept)) => {
                        added.push(format!("{path} {}", kept.sql));
                        true
                    }
                    (None, Err(_)) => false,
                }
            })
        }
        (DataType::List(old), DataType::List(new)) | (DataType::LargeList(old), DataType::LargeList(new)) => {
            additions(old.data_type(), new.data_type(), &format!("{path}.element"), added)
        }
        _ => false,
    }
}

/// Returns the names that columns cannot have, in lower case: they would hide DuckDB's own row numbers.
fn reserved_names() -> HashSet<String> {
    HashSet::from(["rowid".to_owned()])
}

fn new_column(field: &Field, taken: &mut HashSet<String>) -> Result<StoredColumn> {
    if field.name().contains('\0') {
        return Err(unsupported(field, "its name holds a NUL character; give it another name"));
    }
    StoredColumn::new(field, taken).map_err(|hint| unsupported(field, hint))
}

/// Checks that a table can have all columns.
pub(crate) fn check_storable(schema: &Schema) -> Result<()> {
    let check = |field: &Field| storage(field.data_type()).map(drop).map_err(|hint| unsupported(field, hint));
    schema.fields().iter().try_for_each(|field| check(field))
}

/// Returns the error of a column that DuckDB cannot store.
pub(crate) fn unsupported(field: &Field, hint: &str) -> Error {
    Error::UnsupportedType {
        backend: KIND,
        column: field.name().clone(),
        data_type: field.data_type().to_string(),
        hint: hint.to_owned(),
    }
}
