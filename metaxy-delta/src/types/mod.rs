//! Arrow types and their storage in Delta.
//!
//! Delta has few types. A type that it lacks is stored as one that can represent all its values, and the Arrow type is
//! recorded in the metadata of the field ([`TYPE_KEY`]): `scan` returns the values in their original type, and another
//! reader of the table sees plain numbers. Types that differ only in layout (large strings, views, dictionaries,
//! fixed-size lists) become the plain one. A column keeps the stored type with which it was created, including those of
//! earlier versions of this crate.
//!
//! Delta compares column names without case, Metaxy does not: a column whose name is taken in another case is stored
//! under a longer name, with its own name in the metadata ([`NAME_KEY`]).

mod convert;
mod forms;
mod grow;
mod mapping;
mod partition;
mod stored;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use deltalake::kernel::engine::arrow_conversion::TryIntoArrow;
use deltalake::kernel::{MetadataValue, StructField, StructType};
use metaxy_core::FeatureKey;
use metaxy_core::error::{Error, Result};
use parquet::schema::types::SchemaDescriptor;

use crate::KIND;

pub(crate) use convert::conform;
pub(crate) use forms::with_signed_integers;
pub(crate) use mapping::{Mapping, renamed};
pub(crate) use partition::partition_values;

/// Field metadata: the Arrow type of a column that is stored as another.
const TYPE_KEY: &str = "metaxy.arrowType";
/// Field metadata: the name of a column that is stored under another.
const NAME_KEY: &str = "metaxy.name";

/// One column of a table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Its name and type in the core.
    pub logical: FieldRef,
    /// Its name in Delta.
    pub stored_name: String,
    /// The stored Arrow type.
    pub stored_type: DataType,
    /// The column in the Parquet files, in which columns and members may have other names.
    pub in_file: FieldRef,
    /// Whether its values are in the log, one for each file.
    pub is_partition: bool,
}

/// A column of a file.
pub(crate) struct FileColumn<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number, if it has one.
    pub id: Option<i32>,
}

impl<'a> FileColumn<'a> {
    /// Returns the columns of decoded rows.
    pub fn all_of(schema: &'a Schema) -> Vec<Self> {
        let column = |field: &'a FieldRef| Self { name: field.name(), id: mapping::id_of(field) };
        schema.fields().iter().map(column).collect()
    }

    /// Returns the columns of a file.
    pub fn all_in(schema: &'a SchemaDescriptor) -> Vec<Self> {
        let fields = schema.root_schema().get_fields().iter().map(|field| field.get_basic_info());
        fields.map(|info| Self { name: info.name(), id: info.has_id().then(|| info.id()) }).collect()
    }
}

/// The schema of a table, in the core and in Delta.
#[derive(Clone, Debug)]
pub(crate) struct TableSchema {
    /// The columns, in the table's order.
    pub columns: Vec<Column>,
    /// The schema of scans.
    pub logical: SchemaRef,
    /// The schema in the log.
    pub delta: StructType,
    /// How columns are found in files.
    pub mapping: Mapping,
}

impl TableSchema {
    /// Reads the schema in a log.
    pub fn from_delta(table: &str, delta: StructType, partition_columns: &[String], mapping: Mapping) -> Result<Self> {
        let corrupt = |reason: String| Error::corrupt(table, reason);
        let mut columns = Vec::with_capacity(delta.num_fields());
        for field in delta.fields() {
            let arrow: Field = field.try_into_arrow().map_err(|error| corrupt(error.to_string()))?;
            let stored_type = without_metadata(arrow.data_type());
            let logical_type = match text(field, TYPE_KEY) {
                Some(stated) => stated
                    .parse()
                    .map_err(|_| corrupt(format!("column `{}` states the unknown type `{stated}`", field.name())))?,
                None => stored_type.clone(),
            };
            let name = text(field, NAME_KEY).unwrap_or_else(|| field.name());
            columns.push(Column {
                logical: Arc::new(Field::new(name, logical_type, true)),
                stored_name: field.name().clone(),
                in_file: Arc::new(mapping.in_file(field, &stored_type)),
                stored_type,
                is_partition: partition_columns.contains(field.name()),
            });
        }
        Ok(Self { mapping, ..Self::new(columns, delta) })
    }

    fn new(columns: Vec<Column>, delta: StructType) -> Self {
        let logical = Arc::new(Schema::new(columns.iter().map(|column| column.logical.clone()).collect::<Fields>()));
        Self { columns, logical, delta, mapping: Mapping::None }
    }

    /// Returns the column of a name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.logical.name() == name)
    }

    /// Returns the columns by which the table is partitioned, by their names in files.
    pub fn partition_columns(&self) -> Vec<String> {
        let columns = self.columns.iter().filter(|column| column.is_partition);
        columns.map(|column| column.in_file.name().clone()).collect()
    }

    /// Partitions a new table by those of the columns that it has.
    pub fn partition_by(&mut self, names: &[String]) -> Result<()> {
        for column in self.columns.iter_mut().filter(|column| names.contains(column.logical.name())) {
            if !partition::is_partitionable(&column.stored_type) {
                let (name, data_type) = (column.logical.name(), column.logical.data_type());
                return Err(unsupported(name, data_type, "partition the table by columns of texts, numbers or times"));
            }
            column.is_partition = true;
        }
        Ok(())
    }

    /// Returns the position of a column among the columns of a file. Programs that do not distinguish names by case may
    /// have written it in another case.
    pub fn find_in_file(&self, column: &Column, found: &[FileColumn<'_>]) -> Option<usize> {
        if column.is_partition {
            return None;
        }
        if self.mapping == Mapping::Id && found.iter().any(|other| other.id.is_some()) {
            let id = mapping::id_of(&column.in_file);
            return found.iter().position(|other| other.id.is_some() && other.id == id);
        }
        let name = column.in_file.name();
        found.iter().position(|other| other.name == name).or_else(|| {
            let is_another = |name: &str| self.columns.iter().any(|other| other.in_file.name() == name);
            found.iter().position(|other| other.name.eq_ignore_ascii_case(name) && !is_another(other.name))
        })
    }

    /// Returns the Arrow schema of new files of this table.
    pub fn file_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|column| column.in_file.clone()).collect::<Fields>()))
    }
}

/// Returns whether Delta can store values of a type.
pub(crate) fn stores(data_type: &DataType) -> bool {
    use DataType::{Decimal256, Interval, Union};
    !matches!(data_type, Decimal256(_, _) | Interval(_) | Union(_, _))
}

/// Checks that a table can store rows.
pub(crate) fn check_storable(
    table: &FeatureKey,
    known: Option<&TableSchema>,
    partition_by: &[String],
    rows: &RecordBatch,
) -> Result<()> {
    let given = rows.schema_ref();
    // The known state may be outdated: whether the rows fit is checked when they are written.
    let fitting = known.and_then(|known| TableSchema::merge(table, Some(known), given).ok());
    let (mut schema, _) = fitting.map_or_else(|| TableSchema::merge(table, None, given), Ok)?;
    if known.is_none() {
        schema.partition_by(partition_by)?;
    }
    schema.check_values(table, rows)
}

/// Returns a type without the metadata of its members.
fn without_metadata(data_type: &DataType) -> DataType {
    let bare = |field: &FieldRef| -> FieldRef {
        Arc::new(Field::new(field.name(), without_metadata(field.data_type()), field.is_nullable()))
    };
    match data_type {
        DataType::Struct(members) => DataType::Struct(members.iter().map(bare).collect()),
        DataType::List(item) => DataType::List(bare(item)),
        DataType::Map(entries, sorted) => DataType::Map(bare(entries), *sorted),
        other => other.clone(),
    }
}

/// The stored form of a column: its name, its own type and the stored one, and whether it is a partition column.
pub(crate) type StoredForm = (String, DataType, DataType, bool);

/// Returns the stored forms of the columns of some rows: files that were written for one schema fit another with the
/// same forms.
pub(crate) fn stored_forms(schema: &TableSchema, given: &Schema) -> Vec<StoredForm> {
    let columns = given.fields().iter().filter_map(|field| schema.column(field.name()));
    let form = |column: &Column| {
        let (logical, stored) = (column.logical.data_type().clone(), column.stored_type.clone());
        (column.stored_name.clone(), logical, stored, column.is_partition)
    };
    columns.map(form).collect()
}

fn text<'a>(field: &'a StructField, key: &str) -> Option<&'a String> {
    match field.metadata.get(key) {
        Some(MetadataValue::String(text)) => Some(text),
        _ => None,
    }
}

fn unsupported(column: &str, data_type: &DataType, hint: &str) -> Error {
    Error::UnsupportedType {
        backend: KIND,
        column: column.to_owned(),
        data_type: data_type.to_string(),
        hint: hint.to_owned(),
    }
}
