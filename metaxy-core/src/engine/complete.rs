//! Completes rows that carry `metaxy_provenance_by_field` with the versions that follow from it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_not_null, is_null};
use arrow::datatypes::DataType;

use crate::columns;
use crate::error::{Error, Result};
use crate::hash::RowHasher;
use crate::key::FeatureKey;
use crate::spec::FeatureSpec;

use super::by_field;

/// Returns the complete version columns of a batch, with their names.
pub(crate) fn complete_versions(
    spec: &FeatureSpec,
    batch: &RecordBatch,
    hasher: RowHasher,
) -> Result<Vec<(String, ArrayRef)>> {
    let struct_keys = spec.struct_keys();
    let rows = batch.num_rows();
    let provenance = given_provenance(spec, batch, &struct_keys)?;
    let row_provenance = row_provenance(batch, &provenance, hasher)?;
    let (data_versions, data_version) = match batch.column_by_name(columns::DATA_VERSION_BY_FIELD) {
        None => (provenance.clone(), row_provenance.clone()),
        Some(given) => {
            let filled = filled_data_versions(&spec.key, given, &struct_keys, &provenance)?;
            let data_version = match batch.column_by_name(columns::DATA_VERSION) {
                Some(given) => fill(&by_field::text(given)?, &row_provenance)?,
                None => by_field::combined_hash(&filled, rows, hasher)?,
            };
            (filled, data_version)
        }
    };
    Ok(vec![
        (columns::PROVENANCE_BY_FIELD.to_owned(), by_field::build(&struct_keys, provenance, rows)?),
        (columns::PROVENANCE.to_owned(), Arc::new(row_provenance)),
        (columns::DATA_VERSION_BY_FIELD.to_owned(), by_field::build(&struct_keys, data_versions, rows)?),
        (columns::DATA_VERSION.to_owned(), Arc::new(data_version)),
    ])
}

/// Returns the given provenance of each row, or the hash over its fields if none is given.
fn row_provenance(batch: &RecordBatch, by_field: &[StringArray], hasher: RowHasher) -> Result<StringArray> {
    let given = batch.column_by_name(columns::PROVENANCE).map(by_field::text).transpose()?;
    match given {
        Some(given) if given.null_count() == 0 => Ok(given),
        Some(given) => fill(&given, &by_field::combined_hash(by_field, batch.num_rows(), hasher)?),
        None => by_field::combined_hash(by_field, batch.num_rows(), hasher),
    }
}

/// Checks that a batch has a provenance value for each field of every row.
pub(crate) fn check_provenance(spec: &FeatureSpec, batch: &RecordBatch) -> Result<()> {
    given_provenance(spec, batch, &spec.struct_keys()).map(|_| ())
}

/// Returns the values of `metaxy_provenance_by_field`, one array for each field.
fn given_provenance(spec: &FeatureSpec, batch: &RecordBatch, struct_keys: &[String]) -> Result<Vec<StringArray>> {
    let column = columns::PROVENANCE_BY_FIELD;
    let Some(array) = batch.column_by_name(column) else {
        return Err(Error::MissingColumn {
            feature: spec.key.clone(),
            column: column.to_owned(),
            context: "the batch; it says what each sample was made from, one string for each field".to_owned(),
            available: batch.schema().fields().iter().map(|field| field.name().clone()).collect(),
        });
    };
    check_members(&spec.key, column, array, struct_keys)?;
    let values = struct_keys.iter().map(|key| by_field::member(array, key)).collect::<Result<Vec<_>>>()?;
    if let Some((key, values)) = struct_keys.iter().zip(&values).find(|(_, values)| values.null_count() > 0) {
        return Err(Error::InvalidColumn {
            feature: spec.key.clone(),
            column: column.to_owned(),
            reason: format!("{} row(s) have no value for the field `{key}`", values.null_count()),
        });
    }
    Ok(values)
}

/// Returns the given data versions; nulls are filled from the provenance.
fn filled_data_versions(
    feature: &FeatureKey,
    given: &ArrayRef,
    struct_keys: &[String],
    provenance: &[StringArray],
) -> Result<Vec<StringArray>> {
    let mut missing = by_field::member_names(given)?;
    missing.retain(|name| !struct_keys.contains(name));
    if !missing.is_empty() {
        return Err(wrong_members(feature, columns::DATA_VERSION_BY_FIELD, given, struct_keys)?);
    }
    let fields = struct_keys.iter().zip(provenance);
    fields.map(|(key, provenance)| fill(&by_field::member(given, key)?, provenance)).collect()
}

fn check_members(feature: &FeatureKey, column: &str, array: &ArrayRef, struct_keys: &[String]) -> Result<()> {
    let found = by_field::member_names(array)?;
    let is_empty_map = array.is_empty() && matches!(array.data_type(), DataType::Map(_, _));
    if found != struct_keys && !is_empty_map {
        return Err(wrong_members(feature, column, array, struct_keys)?);
    }
    Ok(())
}

fn wrong_members(feature: &FeatureKey, column: &str, array: &ArrayRef, struct_keys: &[String]) -> Result<Error> {
    let found = match array.data_type() {
        DataType::Struct(_) | DataType::Map(_, _) => {
            format!("the fields {}", by_field::member_names(array)?.join(", "))
        }
        other => format!("the type {other}"),
    };
    Ok(Error::InvalidColumn {
        feature: feature.clone(),
        column: column.to_owned(),
        reason: format!("it must be a struct of strings with the fields {}, but has {found}", struct_keys.join(", ")),
    })
}

/// Returns the values of `given`, with those of `other` in place of nulls.
fn fill(given: &StringArray, other: &StringArray) -> Result<StringArray> {
    if given.null_count() == 0 {
        return Ok(given.clone());
    }
    let filled = zip(&is_not_null(given)?, given, other)?;
    debug_assert_eq!(is_null(&filled)?.true_count(), 0, "provenance has no nulls");
    by_field::text(&filled)
}
