//! Names and types of the columns that every feature table carries beside the user's own.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::compute::{cast, max};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef, TimeUnit};

use crate::error::Result;

/// Struct of strings: for each field, by its struct key, the hash of its provenance.
pub const PROVENANCE_BY_FIELD: &str = "metaxy_provenance_by_field";
/// The hash of all values of [`PROVENANCE_BY_FIELD`].
pub const PROVENANCE: &str = "metaxy_provenance";
/// Struct of strings: for each field the version that downstream features depend on.
pub const DATA_VERSION_BY_FIELD: &str = "metaxy_data_version_by_field";
/// The hash of all values of [`DATA_VERSION_BY_FIELD`].
pub const DATA_VERSION: &str = "metaxy_data_version";
/// The version of the feature's definition that a row was written under.
pub const FEATURE_VERSION: &str = "metaxy_feature_version";
/// The version of the project that a row was written under.
pub const PROJECT_VERSION: &str = "metaxy_project_version";
/// The time when the row was first written.
pub const CREATED_AT: &str = "metaxy_created_at";
/// The time when the row was written.
pub const UPDATED_AT: &str = "metaxy_updated_at";
/// The time when the row was deleted; null if it is not deleted.
pub const DELETED_AT: &str = "metaxy_deleted_at";
/// The name of the run that wrote the row, as the caller gives it.
pub const MATERIALIZATION_ID: &str = "metaxy_materialization_id";

/// In an increment [with changed fields](crate::store::ResolveRequest::with_changed_fields): the list of the fields that
/// have to be made again. A write leaves it out.
pub const CHANGED_FIELDS: &str = "metaxy_changed_fields";

/// All system columns, in the order in which a table has them.
pub const ALL: [&str; 10] = [
    PROVENANCE_BY_FIELD,
    PROVENANCE,
    DATA_VERSION_BY_FIELD,
    DATA_VERSION,
    FEATURE_VERSION,
    PROJECT_VERSION,
    CREATED_AT,
    UPDATED_AT,
    DELETED_AT,
    MATERIALIZATION_ID,
];

/// The four columns that carry versions of a sample, in the order in which an increment shows them.
pub const VERSIONS: [&str; 4] = [PROVENANCE_BY_FIELD, PROVENANCE, DATA_VERSION_BY_FIELD, DATA_VERSION];

/// The columns by whose values rows with equal times are ordered: the one with the greatest counts, and a scan has those of
/// them that it requests.
pub const VERSION_ORDER: [&str; 3] = [PROVENANCE, DATA_VERSION_BY_FIELD, PROVENANCE_BY_FIELD];

/// Returns whether a name is that of a system column.
pub fn is_system(name: &str) -> bool {
    ALL.contains(&name)
}

/// Returns the type of the timestamp columns: microseconds, UTC.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Returns the type of a by-field column: a struct with one nullable string for each struct key.
pub fn by_field_type<S: AsRef<str>>(struct_keys: impl IntoIterator<Item = S>) -> DataType {
    DataType::Struct(by_field_fields(struct_keys))
}

/// Returns the type of a by-field column that is a map, from struct keys to texts.
pub fn by_field_map_type() -> DataType {
    let pair = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
}

/// Returns the members of a by-field column.
pub fn by_field_fields<S: AsRef<str>>(struct_keys: impl IntoIterator<Item = S>) -> Fields {
    struct_keys.into_iter().map(|key| Arc::new(Field::new(key.as_ref(), DataType::Utf8, true))).collect()
}

/// Builds a by-field column from the texts of every field, by its struct key, such as the [`PROVENANCE_BY_FIELD`] of
/// the samples of a root.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) if these are not columns of text of one length.
pub fn by_field<S: AsRef<str>>(values: impl IntoIterator<Item = (S, ArrayRef)>) -> Result<ArrayRef> {
    let (keys, values): (Vec<S>, Vec<ArrayRef>) = values.into_iter().unzip();
    Ok(Arc::new(StructArray::try_new(by_field_fields(keys), values, None)?))
}

/// Returns a batch with one more column, or with other values in the column of that name.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) if there are more or fewer values than rows.
pub fn with_column(batch: &RecordBatch, name: &str, values: ArrayRef) -> Result<RecordBatch> {
    let schema = batch.schema();
    let others = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| field.name() != name);
    let (mut fields, mut arrays): (Vec<_>, Vec<_>) =
        others.map(|(field, array)| (field.clone(), array.clone())).unzip();
    fields.push(Arc::new(Field::new(name, values.data_type().clone(), true)));
    arrays.push(values);
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// Builds the rows to write for samples of an increment: their ids, the versions that they were made from, and the
/// computed columns. Other columns of the samples are left out: a column that is copied from feature to feature would
/// be ambiguous in a feature that depends on two of them.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) if the samples lack a column, or if there are more or fewer values than rows.
pub fn result<I: AsRef<str>, S: AsRef<str>>(
    samples: &RecordBatch,
    ids: impl IntoIterator<Item = I>,
    values: impl IntoIterator<Item = (S, ArrayRef)>,
) -> Result<RecordBatch> {
    let schema = samples.schema_ref();
    let kept: Vec<usize> = ids
        .into_iter()
        .map(|id| schema.index_of(id.as_ref()))
        .chain([schema.index_of(PROVENANCE_BY_FIELD)])
        .collect::<std::result::Result<_, _>>()?;
    let ids_and_versions = samples.project(&kept)?;
    values.into_iter().try_fold(ids_and_versions, |batch, (name, array)| with_column(&batch, name.as_ref(), array))
}

/// Returns the field of a system column in a table whose feature has these struct keys; `None` for any other name.
pub fn field<S: AsRef<str>>(name: &str, struct_keys: impl IntoIterator<Item = S>) -> Option<Field> {
    let data_type = match name {
        PROVENANCE_BY_FIELD | DATA_VERSION_BY_FIELD => by_field_type(struct_keys),
        CREATED_AT | UPDATED_AT | DELETED_AT => timestamp_type(),
        _ if is_system(name) => DataType::Utf8,
        _ => return None,
    };
    Some(Field::new(name, data_type, true))
}

/// Returns the latest time when a row was written or deleted, in microseconds.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) if a column of times has another type.
pub fn newest_time(batch: &RecordBatch) -> Result<Option<i64>> {
    let mut newest = None;
    for array in [UPDATED_AT, DELETED_AT].iter().filter_map(|name| batch.column_by_name(name)) {
        let micros = cast(&cast(array, &timestamp_type())?, &DataType::Int64)?;
        newest = newest.max(max(micros.as_primitive::<Int64Type>()));
    }
    Ok(newest)
}

/// Returns the names of the user's columns.
pub fn user_columns(schema: &SchemaRef) -> impl Iterator<Item = &str> {
    schema.fields().iter().map(|field| field.name().as_str()).filter(|name| !is_system(name))
}
