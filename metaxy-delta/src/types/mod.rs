//! Arrow types and what Delta keeps of them.
//!
//! Delta knows few types. A type that it lacks is stored as one that holds every value of it, and the Arrow type is
//! written beside the column, in the metadata of the field ([`TYPE_KEY`]): `scan` gives the values back in their own
//! type, and another reader of the table sees plain numbers. Types that differ in layout only (large strings, views,
//! dictionaries, fixed-size lists) become the plain one. A column keeps the forms that it was made with, also those that
//! earlier versions of this crate chose.
//!
//! Delta compares column names without case, Metaxy does not: a column whose name is taken in another case is stored
//! under a longer name, with its own name in the metadata ([`NAME_KEY`]).

mod convert;
mod forms;
mod grow;
mod mapping;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use deltalake::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use deltalake::kernel::{MetadataValue, StructField, StructType};
use metaxy_core::FeatureKey;
use metaxy_core::error::{Error, Result};

use crate::KIND;
use convert::stored;
use forms::{Forms, forms};
use grow::{Growth, growth};

pub(crate) use convert::{conform, partition_values};
pub(crate) use forms::with_signed_integers;
pub(crate) use mapping::{Mapping, renamed};

/// Field metadata: the Arrow type of a column that is stored as another.
const TYPE_KEY: &str = "metaxy.arrowType";
/// Field metadata: the name of a column that is stored under another.
const NAME_KEY: &str = "metaxy.name";

/// One column of a table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// As the core sees it: its name, and the type in which it is read.
    pub logical: FieldRef,
    /// Its name in Delta.
    pub stored_name: String,
    /// The Arrow type of what is stored.
    pub stored_type: DataType,
    /// As it stands in the Parquet files, where columns and members may have other names.
    pub in_file: FieldRef,
    /// Whether its values stand in the log, one for each file.
    pub is_partition: bool,
}

/// A column of a file.
pub(crate) struct FileColumn<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number, where it has one.
    pub id: Option<i32>,
}

impl<'a> FileColumn<'a> {
    /// The columns of decoded rows.
    pub fn all_of(schema: &'a Schema) -> Vec<Self> {
        let column = |field: &'a FieldRef| Self { name: field.name(), id: mapping::id_of(field) };
        schema.fields().iter().map(column).collect()
    }
}

impl Column {
    /// Values as they were decoded from a file, as values of the table.
    pub fn of_file(&self, array: &ArrayRef) -> std::result::Result<ArrayRef, ArrowError> {
        let target = self.logical.data_type();
        if *self.in_file.data_type() == self.stored_type {
            return conform(array, target);
        }
        conform(&renamed(&conform(array, self.in_file.data_type())?, &self.stored_type)?, target)
    }

    fn forms(&self) -> Forms {
        Forms { logical: self.logical.data_type().clone(), stored: self.stored_type.clone() }
    }
}

/// The schema of a table, seen from both sides.
#[derive(Clone, Debug)]
pub(crate) struct TableSchema {
    /// The columns, in the table's order.
    pub columns: Vec<Column>,
    /// What `scan` returns.
    pub logical: SchemaRef,
    /// What the log says.
    pub delta: StructType,
    /// How columns are found in files.
    pub mapping: Mapping,
}

impl TableSchema {
    /// The schema that a log states.
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

    /// The column of a name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.logical.name() == name)
    }

    /// The columns by which the table is partitioned, as its files name them.
    pub fn partition_columns(&self) -> Vec<String> {
        let columns = self.columns.iter().filter(|column| column.is_partition);
        columns.map(|column| column.in_file.name().clone()).collect()
    }

    /// Partitions a new table by those of the columns that it has.
    pub fn partition_by(&mut self, names: &[String]) -> Result<()> {
        for column in self.columns.iter_mut().filter(|column| names.contains(column.logical.name())) {
            if column.stored_type.is_nested() {
                let (name, data_type) = (column.logical.name(), column.logical.data_type());
                return Err(unsupported(name, data_type, "partition the table by columns of single values"));
            }
            column.is_partition = true;
        }
        Ok(())
    }

    /// Where a column is among the columns of a file. Programs that do not tell names apart by case may have written one in
    /// another case than the table has it.
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

    /// The Arrow schema of the files that are written for this table.
    pub fn file_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|column| column.in_file.clone()).collect::<Fields>()))
    }

    /// Rows of any columns of this table as rows of its files. No value changes: one that does not fit is an error.
    pub fn to_file(&self, table: &FeatureKey, file_schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(file_schema.fields()) {
            let name = column.logical.name();
            arrays.push(match batch.column_by_name(name) {
                Some(array) => renamed(&stored(table, name, array, &column.stored_type)?, field.data_type())?,
                None => new_null_array(field.data_type(), rows),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(file_schema.clone(), arrays, &options)?)
    }

    /// Refuses values that the columns cannot hold, before anything is written.
    pub fn check_values(&self, table: &FeatureKey, rows: &RecordBatch) -> Result<()> {
        for column in self.columns.iter().filter(|column| holds_times(&column.stored_type)) {
            if let Some(array) = rows.column_by_name(column.logical.name()) {
                stored(table, column.logical.name(), array, &column.stored_type)?;
            }
        }
        Ok(())
    }

    /// This schema with the columns, and members of structs, that `given` brings beside them.
    ///
    /// The second value says whether there were any.
    pub fn merge(table: &str, existing: Option<&Self>, given: &Schema) -> Result<(Self, bool)> {
        let mut columns = existing.map(|schema| schema.columns.clone()).unwrap_or_default();
        let mut fields: Vec<StructField> =
            existing.map(|schema| schema.delta.fields().cloned().collect()).unwrap_or_default();
        let mut changed = existing.is_none();
        for field in given.fields() {
            let at = columns.iter().position(|column| column.logical.name() == field.name());
            let (forms, stored_name) = match at.and_then(|at| columns.get(at)) {
                Some(known) => {
                    let growth = growth(&known.forms(), field.data_type());
                    match growth.map_err(|hint| unsupported(field.name(), field.data_type(), hint))? {
                        Growth::None => continue,
                        Growth::To(forms) => (forms, known.stored_name.clone()),
                        Growth::Mismatch => return Err(mismatch(table, known, field)),
                    }
                }
                None => (forms_of(field)?, free_name(field.name(), &columns)),
            };
            changed = true;
            let logical = Arc::new(Field::new(field.name(), forms.logical, true));
            let stored_type = forms.stored;
            let delta = delta_field(&logical, &stored_name, &stored_type)?;
            let is_partition = at.is_some_and(|at| columns[at].is_partition);
            let in_file = Arc::new(Field::new(&stored_name, stored_type.clone(), true));
            let column = Column { logical, stored_name, stored_type, in_file, is_partition };
            match at {
                Some(at) => {
                    // What others have written beside the column stays.
                    let others = fields[at].metadata.iter().map(|(key, value)| (key.clone(), value.clone()));
                    let mut metadata: Vec<(String, MetadataValue)> = others.collect();
                    metadata.extend(delta.metadata.clone());
                    let nullable = fields[at].is_nullable();
                    fields[at] =
                        StructField::new(delta.name(), delta.data_type().clone(), nullable).with_metadata(metadata);
                    columns[at] = column;
                }
                None => {
                    fields.push(delta);
                    columns.push(column);
                }
            }
        }
        let delta = StructType::try_new(fields)
            .map_err(|error| Error::table(KIND, "merging the schema", table, error.to_string()))?;
        let mapping = existing.map_or(Mapping::None, |schema| schema.mapping);
        if changed && mapping != Mapping::None {
            return Err(Error::Unsupported {
                what: format!("table `{table}`: a new column or member in a table with column mapping"),
                hint: "add the column with the program that made the table".to_owned(),
            });
        }
        Ok((Self { mapping, ..Self::new(columns, delta) }, changed))
    }
}

/// Refuses rows that no table could have.
pub(crate) fn check_storable(table: &FeatureKey, known: Option<&TableSchema>, rows: &RecordBatch) -> Result<()> {
    let is_typed = |field: &&FieldRef| *field.data_type() != DataType::Null;
    let typed: Fields = rows.schema_ref().fields().iter().filter(is_typed).cloned().collect();
    let typed = Schema::new(typed);
    let name = table.table_name();
    // What is known of the table may be out of date: whether the rows fit it is found when they are written.
    let fitting = known.and_then(|known| TableSchema::merge(&name, Some(known), &typed).ok());
    let (schema, _) = fitting.map_or_else(|| TableSchema::merge(&name, None, &typed), Ok)?;
    schema.check_values(table, rows)
}

/// A type without what a table says of its members beside their names and types.
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

/// How the columns of some rows are stored, to see whether files written for one schema fit another.
pub(crate) fn stored_form(schema: &TableSchema, given: &Schema) -> Vec<(String, DataType, bool)> {
    let columns = given.fields().iter().filter_map(|field| schema.column(field.name()));
    columns.map(|column| (column.stored_name.clone(), column.stored_type.clone(), column.is_partition)).collect()
}

/// Whether values of another unit may have to become microseconds.
fn holds_times(stored: &DataType) -> bool {
    match stored {
        DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32 => true,
        DataType::List(item) | DataType::Map(item, _) => holds_times(item.data_type()),
        DataType::Struct(members) => members.iter().any(|member| holds_times(member.data_type())),
        _ => false,
    }
}

fn text<'a>(field: &'a StructField, key: &str) -> Option<&'a String> {
    match field.metadata.get(key) {
        Some(MetadataValue::String(text)) => Some(text),
        _ => None,
    }
}

fn delta_field(logical: &Field, stored_name: &str, stored_type: &DataType) -> Result<StructField> {
    let field: StructField = (&Field::new(stored_name, stored_type.clone(), true))
        .try_into_kernel()
        .map_err(|_| unsupported(logical.name(), logical.data_type(), "Delta Lake has no such type"))?;
    let mut metadata: Vec<(String, MetadataValue)> = Vec::new();
    if logical.data_type() != stored_type {
        let stated = logical.data_type().to_string();
        if stated.parse::<DataType>().ok().as_ref() != Some(logical.data_type()) {
            return Err(unsupported(logical.name(), logical.data_type(), "cast it to a type that Delta Lake has"));
        }
        metadata.push((TYPE_KEY.to_owned(), MetadataValue::String(stated)));
    }
    if logical.name() != stored_name {
        metadata.push((NAME_KEY.to_owned(), MetadataValue::String(logical.name().clone())));
    }
    Ok(field.with_metadata(metadata))
}

/// The name itself, or, where another column has it in another case, one that nobody has.
fn free_name(name: &str, columns: &[Column]) -> String {
    let taken: HashSet<String> = columns.iter().map(|column| column.stored_name.to_lowercase()).collect();
    let mut candidate = name.to_owned();
    let mut number = 1;
    while taken.contains(&candidate.to_lowercase()) {
        number += 1;
        candidate = format!("{name}__{number}");
    }
    candidate
}

fn mismatch(table: &str, stored: &Column, given: &Field) -> Error {
    Error::TypeMismatch {
        table: table.to_owned(),
        column: given.name().clone(),
        stored: stored.logical.data_type().to_string(),
        given: given.data_type().to_string(),
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

fn forms_of(field: &Field) -> Result<Forms> {
    if field.name().is_empty() {
        return Err(unsupported("", field.data_type(), "give the column a name"));
    }
    forms(field.data_type()).map_err(|hint| unsupported(field.name(), field.data_type(), hint))
}
