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

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use deltalake::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use deltalake::kernel::{MetadataValue, StructField, StructType};
use metaxy_core::FeatureKey;
use metaxy_core::error::{Error, Result};

use crate::config::KIND;
use convert::stored;
use forms::{Forms, forms};

pub(crate) use convert::{conform, partition_values};
pub(crate) use forms::with_signed_integers;

/// Field metadata: the Arrow type of a column that is stored as another.
const TYPE_KEY: &str = "metaxy.arrowType";
/// Field metadata: the name of a column that is stored under another.
const NAME_KEY: &str = "metaxy.name";

/// One column of a table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// As the core sees it: its name, and the type in which it is read.
    pub logical: FieldRef,
    /// Its name in Delta and in the Parquet files.
    pub stored_name: String,
    /// Its Arrow type in the Parquet files.
    pub stored_type: DataType,
    /// Whether its values stand in the log, one for each file.
    pub is_partition: bool,
}

impl Column {
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
}

impl TableSchema {
    /// The schema that a log states.
    pub fn from_delta(table: &str, delta: StructType, partition_columns: &[String]) -> Result<Self> {
        let corrupt = |reason: String| Error::Corrupt { table: table.to_owned(), reason };
        let mut columns = Vec::with_capacity(delta.num_fields());
        for field in delta.fields() {
            let arrow: Field = field.try_into_arrow().map_err(|error| corrupt(error.to_string()))?;
            let logical_type = match text(field, TYPE_KEY) {
                Some(stated) => stated
                    .parse()
                    .map_err(|_| corrupt(format!("column `{}` states the unknown type `{stated}`", field.name())))?,
                None => arrow.data_type().clone(),
            };
            let name = text(field, NAME_KEY).unwrap_or_else(|| field.name());
            columns.push(Column {
                logical: Arc::new(Field::new(name, logical_type, true)),
                stored_name: field.name().clone(),
                stored_type: arrow.data_type().clone(),
                is_partition: partition_columns.contains(field.name()),
            });
        }
        Ok(Self::new(columns, delta))
    }

    fn new(columns: Vec<Column>, delta: StructType) -> Self {
        let logical = Arc::new(Schema::new(columns.iter().map(|column| column.logical.clone()).collect::<Fields>()));
        Self { columns, logical, delta }
    }

    /// The column of a name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.logical.name() == name)
    }

    /// The columns by which the table is partitioned, as Delta names them.
    pub fn partition_columns(&self) -> Vec<String> {
        let columns = self.columns.iter().filter(|column| column.is_partition);
        columns.map(|column| column.stored_name.clone()).collect()
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
    pub fn find_in_file(&self, column: &Column, names: &[&str]) -> Option<usize> {
        if column.is_partition {
            return None;
        }
        let exact = names.iter().position(|name| *name == column.stored_name);
        exact.or_else(|| {
            let belongs_to_another = |name: &str| self.columns.iter().any(|other| other.stored_name == name);
            let same = |name: &&str| name.eq_ignore_ascii_case(&column.stored_name) && !belongs_to_another(name);
            names.iter().position(same)
        })
    }

    /// The Arrow schema of the files that are written for this table.
    pub fn file_schema(&self) -> SchemaRef {
        let field = |column: &Column| Field::new(&column.stored_name, column.stored_type.clone(), true);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Fields>()))
    }

    /// Rows of any columns of this table as rows of its files. No value changes: one that does not fit is an error.
    pub fn to_file(&self, table: &FeatureKey, file_schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(file_schema.fields()) {
            let name = column.logical.name();
            arrays.push(match batch.column_by_name(name) {
                Some(array) => stored(table, name, array, field.data_type())?,
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
                    let grown = grow::grown(&known.forms(), field.data_type());
                    let grown = grown.map_err(|hint| unsupported(field.name(), field.data_type(), hint))?;
                    let grown = grown.ok_or_else(|| mismatch(table, known, field))?;
                    if grown.logical == *known.logical.data_type() {
                        continue;
                    }
                    (grown, known.stored_name.clone())
                }
                None => (forms_of(field)?, free_name(field.name(), &columns)),
            };
            changed = true;
            let logical = Arc::new(Field::new(field.name(), forms.logical, true));
            let stored_type = forms.stored;
            let delta = delta_field(&logical, &stored_name, &stored_type)?;
            let is_partition = at.is_some_and(|at| columns[at].is_partition);
            let column = Column { logical, stored_name, stored_type, is_partition };
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
        Ok((Self::new(columns, delta), changed))
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
