//! The key columns of tables, with the types in which they are compared.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};

use crate::error::{Error, Result};

use super::key_type::{common_type, key_type};
use super::keys::Keys;
use super::table::Table;

/// Key columns, by name, with the types in which they are compared.
#[derive(Clone, Debug)]
pub(crate) struct TypedKey {
    columns: Vec<(String, DataType)>,
}

impl FromIterator<(String, DataType)> for TypedKey {
    fn from_iter<I: IntoIterator<Item = (String, DataType)>>(columns: I) -> Self {
        Self { columns: columns.into_iter().collect() }
    }
}

impl TypedKey {
    /// Returns the key of a table whose rows are compared among themselves only.
    pub(crate) fn within(schema: &Schema, names: &[String]) -> Result<Self> {
        names.iter().map(|name| Ok((name.clone(), key_type(schema.field_with_name(name)?.data_type())?))).collect()
    }

    /// Returns the key of two tables whose rows are compared by columns of the same names, or `None` if values of the
    /// two cannot be compared.
    pub(crate) fn between(names: &[String], one: &Schema, other: &Schema) -> Result<Option<Self>> {
        let type_of =
            |schema: &Schema, name: &String| Ok::<_, Error>(schema.field_with_name(name)?.data_type().clone());
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            match common_type(&type_of(one, name)?, &type_of(other, name)?) {
                Some(shared) => columns.push((name.clone(), shared)),
                None => return Ok(None),
            }
        }
        Ok(Some(Self { columns }))
    }

    /// Returns the key of several tables, each with its names of the columns, or `None` if values of two of them cannot be
    /// compared.
    pub(crate) fn shared(names: &[String], tables: &[(&Schema, &[String])]) -> Option<Self> {
        let shared_type = |column: usize| {
            let mut types = tables.iter().map(|(schema, names)| schema.field_with_name(names.get(column)?).ok());
            let first = types.next()??.data_type();
            types.try_fold(common_type(first, first)?, |shared, other| common_type(&shared, other?.data_type()))
        };
        names.iter().enumerate().map(|(column, name)| Some((name.clone(), shared_type(column)?))).collect()
    }

    /// Returns the columns, with the types in which they are compared.
    pub(crate) fn columns(&self) -> &[(String, DataType)] {
        &self.columns
    }

    /// Returns the names of the columns.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.columns.iter().map(|(name, _)| name)
    }

    /// Returns whether rows that are equal in these columns are always in the same partition.
    pub(crate) fn keeps_together(&self, columns: &[String]) -> bool {
        self.columns.iter().all(|(name, _)| columns.contains(name))
    }

    /// Returns the keys of the rows of a table.
    pub(crate) fn keys_of(&self, table: &Table) -> Result<Keys> {
        let columns = self.columns.iter().map(|(name, data_type)| Ok((table.column(name)?, data_type.clone())));
        Keys::new(&columns.collect::<Result<Vec<_>>>()?)
    }

    /// Returns the keys of the rows of a batch.
    pub(crate) fn keys(&self, batch: &RecordBatch) -> Result<Keys> {
        let column = |(name, data_type): &(String, DataType)| -> Result<(ArrayRef, DataType)> {
            Ok((batch.column(batch.schema_ref().index_of(name)?).clone(), data_type.clone()))
        };
        Keys::new(&self.columns.iter().map(column).collect::<Result<Vec<_>>>()?)
    }
}
