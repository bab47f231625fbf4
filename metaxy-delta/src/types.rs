//! Arrow types and what Delta keeps of them.
//!
//! Delta knows few types. A type that it lacks is stored as one that holds every value of it, and the Arrow type is
//! written beside the column, in the metadata of the field ([`TYPE_KEY`]): `scan` gives the values back in their own
//! type, and another reader of the table sees plain numbers. Types that differ in layout only (large strings, views,
//! dictionaries, fixed-size lists) become the plain one.
//!
//! Delta compares column names without case, Metaxy does not: a column whose name is taken in another case is stored
//! under a longer name, with its own name in the metadata ([`NAME_KEY`]).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericListArray, ListArray, MapArray, OffsetSizeTrait, RecordBatch, RecordBatchOptions,
    StructArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use deltalake::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use deltalake::kernel::{MetadataValue, StructField, StructType};
use metaxy_core::error::{Error, Result};

use crate::config::KIND;

/// Field metadata: the Arrow type of a column that is stored as another.
const TYPE_KEY: &str = "metaxy.arrowType";
/// Field metadata: the name of a column that is stored under another.
const NAME_KEY: &str = "metaxy.name";
/// How Delta names the parts of lists and maps.
const ELEMENT: &str = "element";
const ENTRIES: &str = "key_value";

/// One column of a table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// As the core sees it: its name, and the type in which it is read.
    pub logical: FieldRef,
    /// Its name in Delta and in the Parquet files.
    pub stored_name: String,
    /// Its Arrow type in the Parquet files.
    pub stored_type: DataType,
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
    pub fn from_delta(table: &str, delta: StructType) -> Result<Self> {
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

    /// The Arrow schema of the files that are written for this table.
    pub fn file_schema(&self) -> SchemaRef {
        let field = |column: &Column| Field::new(&column.stored_name, column.stored_type.clone(), true);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Fields>()))
    }

    /// Rows of any columns of this table as rows of its files.
    pub fn to_file(&self, table: &str, file_schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(file_schema.fields()) {
            arrays.push(match batch.column_by_name(column.logical.name()) {
                Some(array) => conform(array, field.data_type()).map_err(|error| Error::TypeMismatch {
                    table: table.to_owned(),
                    column: column.logical.name().clone(),
                    stored: field.data_type().to_string(),
                    given: format!("{} ({error})", array.data_type()),
                })?,
                None => new_null_array(field.data_type(), rows),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(file_schema.clone(), arrays, &options)?)
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
            let forms = forms_of(field)?;
            let at = columns.iter().position(|column| column.logical.name() == field.name());
            let (logical, stored_name) = match at.and_then(|at| columns.get(at)) {
                Some(known) => match merged(known.logical.data_type(), &forms.logical) {
                    Some(merged) if merged == *known.logical.data_type() => continue,
                    Some(merged) => (merged, known.stored_name.clone()),
                    None => return Err(mismatch(table, known, field)),
                },
                None => (forms.logical, free_name(field.name(), &columns)),
            };
            changed = true;
            let logical = Arc::new(Field::new(field.name(), logical, true));
            let stored_type = forms_of(&logical)?.stored;
            let delta = delta_field(&logical, &stored_name, &stored_type)?;
            let column = Column { logical, stored_name, stored_type };
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

/// Refuses columns that no table could have.
pub(crate) fn check_storable(schema: &Schema) -> Result<()> {
    let is_typed = |field: &&Arc<Field>| *field.data_type() != DataType::Null;
    schema.fields().iter().filter(is_typed).try_for_each(|field| {
        let forms = forms_of(field)?;
        let logical = Field::new(field.name(), forms.logical, true);
        delta_field(&logical, field.name(), &forms_of(&logical)?.stored).map(drop)
    })
}

/// How the columns of some rows are stored, to see whether files written for one schema fit another.
pub(crate) fn stored_form(schema: &TableSchema, given: &Schema) -> Vec<(String, DataType)> {
    given
        .fields()
        .iter()
        .filter_map(|field| schema.column(field.name()).map(|column| (column, field)))
        .map(|(column, field)| (column.stored_name.clone(), field.data_type().clone()))
        .collect()
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

/// A type as it is read, and as it is stored.
struct Forms {
    logical: DataType,
    stored: DataType,
}

fn forms_of(field: &Field) -> Result<Forms> {
    if field.name().is_empty() {
        return Err(unsupported("", field.data_type(), "give the column a name"));
    }
    forms(field.data_type()).map_err(|hint| unsupported(field.name(), field.data_type(), hint))
}

/// Both forms of a type; the error is a hint for the user.
fn forms(data_type: &DataType) -> Result<Forms, &'static str> {
    use DataType as T;
    let same = |data_type: DataType| Ok(Forms { logical: data_type.clone(), stored: data_type });
    let kept = |stored: DataType| Ok(Forms { logical: data_type.clone(), stored });
    match data_type {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 => same(data_type.clone()),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => same(T::Utf8),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => same(T::Binary),
        T::Float16 => same(T::Float32),
        T::Date32 => same(T::Date32),
        T::UInt8 => kept(T::Int16),
        T::UInt16 => kept(T::Int32),
        T::UInt32 => kept(T::Int64),
        T::UInt64 => kept(T::Decimal128(20, 0)),
        T::Time32(_) => kept(T::Int32),
        T::Time64(_) | T::Duration(_) | T::Date64 => kept(T::Int64),
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) | T::Decimal128(precision, scale) => {
            decimal(*precision, *scale)
        }
        T::Decimal256(precision, scale) if *precision <= 38 => decimal(*precision, *scale),
        T::Decimal256(_, _) => Err("Delta Lake has decimals of up to 38 digits; cast it to a smaller one or to text"),
        // Microseconds hold coarser ones; nanoseconds would not survive, so their count is stored.
        T::Timestamp(TimeUnit::Nanosecond, _) => kept(T::Int64),
        T::Timestamp(_, zone) => {
            let utc = zone.as_ref().map(|_| Arc::from("UTC"));
            let logical = match zone {
                Some(zone) if zone.eq_ignore_ascii_case("utc") => utc.clone(),
                zone => zone.clone(),
            };
            Ok(Forms {
                logical: T::Timestamp(TimeUnit::Microsecond, logical),
                stored: T::Timestamp(TimeUnit::Microsecond, utc),
            })
        }
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) | T::ListView(item) | T::LargeListView(item) => {
            let item = forms(item.data_type())?;
            let list = |item: DataType| T::List(Arc::new(Field::new(ELEMENT, item, true)));
            Ok(Forms { logical: list(item.logical), stored: list(item.stored) })
        }
        T::Map(entries, _) => map_forms(entries.data_type()),
        T::Struct(members) => struct_forms(members),
        T::Dictionary(_, values) => forms(values),
        T::RunEndEncoded(_, values) => forms(values.data_type()),
        T::Null => Err("it has no type yet; cast it to the type that its values will have"),
        T::Interval(_) => Err("store the interval as a number, or as a duration"),
        T::Union(_, _) => Err("split the union into one column for each of its types"),
    }
}

fn decimal(precision: u8, scale: i8) -> Result<Forms, &'static str> {
    if scale < 0 || scale.unsigned_abs() > precision {
        return Err("Delta Lake has decimals with a scale between 0 and their precision; cast it to one of those");
    }
    let data_type = DataType::Decimal128(precision, scale);
    Ok(Forms { logical: data_type.clone(), stored: data_type })
}

fn map_forms(entries: &DataType) -> Result<Forms, &'static str> {
    let DataType::Struct(pair) = entries else { return Err("a map needs keys and values") };
    let [key, value] = pair.as_ref() else { return Err("a map needs keys and values") };
    let (key, value) = (forms(key.data_type())?, forms(value.data_type())?);
    let map = |key: DataType, value: DataType| {
        let pair = vec![Field::new("key", key, false), Field::new("value", value, true)];
        DataType::Map(Arc::new(Field::new(ENTRIES, DataType::Struct(pair.into()), false)), false)
    };
    Ok(Forms { logical: map(key.logical, value.logical), stored: map(key.stored, value.stored) })
}

fn struct_forms(members: &Fields) -> Result<Forms, &'static str> {
    if members.is_empty() {
        return Err("a struct without members has no place in a Parquet file; leave the column out");
    }
    let mut names = HashSet::new();
    let (mut logical, mut stored) = (Vec::with_capacity(members.len()), Vec::with_capacity(members.len()));
    for member in members {
        if !names.insert(member.name().to_lowercase()) {
            return Err("Delta Lake tells members of a struct apart without regard to case; rename one of them");
        }
        let member_forms = forms(member.data_type())?;
        logical.push(Field::new(member.name(), member_forms.logical, true));
        stored.push(Field::new(member.name(), member_forms.stored, true));
    }
    Ok(Forms { logical: DataType::Struct(logical.into()), stored: DataType::Struct(stored.into()) })
}

/// A stored type with the members that a given one has beside it; `None` where they do not fit.
fn merged(stored: &DataType, given: &DataType) -> Option<DataType> {
    match (stored, given) {
        (DataType::Struct(stored), DataType::Struct(given)) => {
            let mut members: Vec<FieldRef> = Vec::with_capacity(stored.len());
            for member in stored {
                let other = given.iter().find(|other| other.name() == member.name());
                let data_type = match other {
                    Some(other) => merged(member.data_type(), other.data_type())?,
                    None => member.data_type().clone(),
                };
                members.push(Arc::new(member.as_ref().clone().with_data_type(data_type)));
            }
            let is_new = |other: &&FieldRef| !stored.iter().any(|member| member.name() == other.name());
            members.extend(given.iter().filter(is_new).cloned());
            Some(DataType::Struct(members.into()))
        }
        (DataType::List(stored), DataType::List(given)) => {
            let item = merged(stored.data_type(), given.data_type())?;
            Some(DataType::List(Arc::new(stored.as_ref().clone().with_data_type(item))))
        }
        (DataType::Map(stored_entries, _), DataType::Map(given_entries, _)) => {
            let fits = match (stored_entries.data_type(), given_entries.data_type()) {
                (DataType::Struct(a), DataType::Struct(b)) => {
                    a.iter().zip(b).all(|(a, b)| merged(a.data_type(), b.data_type()).as_ref() == Some(a.data_type()))
                }
                _ => false,
            };
            fits.then(|| stored.clone())
        }
        _ => (stored == given).then(|| stored.clone()),
    }
}

/// Values in another type of the same meaning: members of structs by their names, null where there is none, all else by
/// a cast that fails rather than loses a value.
pub(crate) fn conform(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    if array.data_type() == target {
        return Ok(array.clone());
    }
    match (array.data_type(), target) {
        (DataType::Struct(_), DataType::Struct(members)) => {
            let given = array.as_struct();
            let columns = members
                .iter()
                .map(|member| match given.column_by_name(member.name()) {
                    Some(column) => conform(column, member.data_type()),
                    None => Ok(new_null_array(member.data_type(), given.len())),
                })
                .collect::<Result<Vec<_>, _>>()?;
            let nulls = given.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(members.clone(), columns, nulls, given.len())?))
        }
        (DataType::List(_), DataType::List(item)) => conform_list(array.as_list::<i32>(), item),
        (DataType::LargeList(_), DataType::List(item)) => conform_list(array.as_list::<i64>(), item),
        (
            DataType::FixedSizeList(from, _) | DataType::ListView(from) | DataType::LargeListView(from),
            DataType::List(_),
        ) => conform(&plain_cast(array, &DataType::List(from.clone()))?, target),
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let given = array.as_map();
            let DataType::Struct(pair) = entries.data_type() else { return plain_cast(array, target) };
            let (offsets, _) = trimmed(given.offsets(), given.keys())?;
            let columns = pair
                .iter()
                .zip([given.keys(), given.values()])
                .map(|(field, values)| conform(&trimmed(given.offsets(), values)?.1, field.data_type()))
                .collect::<Result<Vec<_>, _>>()?;
            let values = StructArray::try_new(pair.clone(), columns, None)?;
            Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, values, given.nulls().cloned(), *sorted)?))
        }
        _ => plain_cast(array, target),
    }
}

fn conform_list<O: OffsetSizeTrait>(
    list: &GenericListArray<O>,
    item: &FieldRef,
) -> Result<ArrayRef, arrow::error::ArrowError> {
    let (offsets, values) = trimmed(list.offsets(), list.values())?;
    let values = conform(&values, item.data_type())?;
    Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, list.nulls().cloned())?))
}

/// Offsets from zero on, and only the values that they reach: a slice of an array still has the values of all of it.
fn trimmed<O: OffsetSizeTrait>(
    offsets: &OffsetBuffer<O>,
    values: &ArrayRef,
) -> Result<(OffsetBuffer<i32>, ArrayRef), arrow::error::ArrowError> {
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    let length = last - first;
    if i32::try_from(length).is_err() {
        return Err(arrow::error::ArrowError::OffsetOverflowError(length));
    }
    Ok((OffsetBuffer::from_lengths(offsets.lengths()), values.slice(first, length)))
}

fn plain_cast(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    cast_with_options(array, target, &CastOptions { safe: false, ..CastOptions::default() })
}
