//! Samples that are named by rows in memory: by their ids or, if a feature expands, by their parents.

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch, not};
use arrow::datatypes::{DataType, TimeUnit};
use futures::TryStreamExt;

use crate::engine::{KeyEncoder, KeySet};
use crate::error::{Error, Result};
use crate::filter::{Filter, Literal, Number, col};
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;
use crate::plan::join_columns;
use crate::spec::Lineage;

use super::RowStream;
use super::duplicates::shown_id;

/// Up to this number of rows, the read is narrowed by a filter on their ids.
const NARROWED_ROWS: usize = 1_000;
/// The number of samples in one hard delete.
const ROWS_PER_DELETE: usize = 500;

/// Some samples of a feature.
pub(super) struct Named {
    feature: FeatureKey,
    columns: Vec<String>,
    batches: Vec<RecordBatch>,
}

impl Named {
    /// Names the samples of these rows, by ids if the rows have all of them.
    pub(super) fn new(plan: &FeaturePlan, batches: Vec<RecordBatch>) -> Result<Self> {
        let has = |columns: &[String]| {
            batches.iter().all(|batch| columns.iter().all(|name| batch.column_by_name(name).is_some()))
        };
        if !has(&plan.spec.id_columns) && expands(plan) {
            return Self::parents(plan, batches);
        }
        Self::by(plan, plan.spec.id_columns.clone(), batches)
    }

    /// Names the children of the parents in these rows.
    pub(super) fn parents(plan: &FeaturePlan, batches: Vec<RecordBatch>) -> Result<Self> {
        Self::by(plan, join_columns(plan)?, batches)
    }

    fn by(plan: &FeaturePlan, columns: Vec<String>, batches: Vec<RecordBatch>) -> Result<Self> {
        for batch in &batches {
            if let Some(missing) = columns.iter().find(|name| batch.column_by_name(name).is_none()) {
                return Err(Error::MissingColumn {
                    feature: plan.spec.key.clone(),
                    column: missing.clone(),
                    context: "the rows that name its samples".to_owned(),
                    available: batch.schema().fields().iter().map(|field| field.name().clone()).collect(),
                });
            }
        }
        Ok(Self { feature: plan.spec.key.clone(), columns, batches })
    }

    /// Returns the same samples by other names of their columns, those of another feature.
    pub(super) fn renamed(&self, plan: &FeaturePlan, names: &[String]) -> Result<Self> {
        let renamed = |batch: &RecordBatch| -> Result<RecordBatch> {
            let arrays = self.columns.iter().zip(names).map(|(column, name)| {
                let array = batch.column(batch.schema_ref().index_of(column)?);
                Ok((name, array.clone()))
            });
            Ok(RecordBatch::try_from_iter(arrays.collect::<Result<Vec<_>>>()?)?)
        };
        let batches = self.batches.iter().map(renamed).collect::<Result<_>>()?;
        Self::by(plan, names.to_vec(), batches)
    }

    /// Returns the columns that name the samples.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns the keys of the samples, to look them up in rows of a schema.
    pub(super) fn keys(&self, schema: &arrow::datatypes::Schema) -> Result<Option<KeySet>> {
        let Some(first) = self.batches.first() else { return Ok(None) };
        let Some(encoder) = KeyEncoder::new(&self.columns, first.schema_ref(), schema)? else {
            return Err(self.incomparable(first, schema));
        };
        let mut keys = KeySet::new(encoder);
        for batch in &self.batches {
            keys.insert(batch)?;
        }
        Ok(Some(keys))
    }

    fn incomparable(&self, named: &RecordBatch, schema: &arrow::datatypes::Schema) -> Error {
        let differs = |name: &&String| {
            let types = [named.schema_ref().as_ref(), schema]
                .map(|schema| schema.field_with_name(name).map(|field| field.data_type().clone()).ok());
            types[0] != types[1]
        };
        Error::InvalidColumn {
            feature: self.feature.clone(),
            column: self.columns.iter().find(differs).cloned().unwrap_or_default(),
            reason: "samples are named by it, but it is of another type in the table; cast it".to_owned(),
        }
    }

    /// Returns the rows of a stream that belong to these samples.
    pub(super) async fn pick(&self, mut rows: RowStream) -> Result<Vec<RecordBatch>> {
        let Some(keys) = self.keys(&rows.schema().clone())? else { return Ok(Vec::new()) };
        let mut picked = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            let batch = filter_record_batch(&batch, &keys.contains(&batch)?)?;
            if batch.num_rows() > 0 {
                picked.push(batch);
            }
        }
        Ok(picked)
    }

    /// Removes the rows of these samples from batches of one schema.
    pub(super) fn drop_from(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let Some(first) = batches.first() else { return Ok(batches) };
        let Some(keys) = self.keys(first.schema_ref())? else { return Ok(batches) };
        batches.iter().map(|batch| Ok(filter_record_batch(batch, &not(&keys.contains(batch)?)?)?)).collect()
    }

    /// Returns an error if a sample has several rows.
    pub(super) fn check_unique(&self) -> Result<()> {
        let Some(first) = self.batches.first() else { return Ok(()) };
        let Some(encoder) = KeyEncoder::new(&self.columns, first.schema_ref(), first.schema_ref())? else {
            return Ok(());
        };
        let mut keys = KeySet::new(encoder);
        for batch in &self.batches {
            let Some(row) = keys.insert(batch)? else { continue };
            let id = shown_id(batch, &self.columns, row)?;
            return Err(Error::DuplicateId { feature: self.feature.clone(), id, count: 2 });
        }
        Ok(())
    }

    /// Returns a filter that all rows of these samples pass, and few others, so that less is read; `None` if there are
    /// too many samples or their ids have other types.
    pub(super) fn narrowing(&self) -> Option<Filter> {
        if self.batches.iter().map(RecordBatch::num_rows).sum::<usize>() > NARROWED_ROWS {
            return None;
        }
        let of_column = |name: &String| -> Option<Filter> {
            let mut all = Vec::new();
            for batch in &self.batches {
                let array = batch.column_by_name(name)?;
                let plain = array.data_type().is_integer() || is_text(array.data_type());
                if !plain || array.logical_null_count() > 0 {
                    return None;
                }
                all.extend(literals(array).ok()??);
            }
            Some(col(name).is_in(all))
        };
        let filters: Vec<Filter> = self.columns.iter().filter_map(of_column).collect();
        (!filters.is_empty()).then(|| Filter::all(filters))
    }

    /// Returns filters that together match exactly the rows of these samples.
    pub(super) fn filters(&self, key: &FeatureKey) -> Result<Vec<Filter>> {
        let mut filters = Vec::new();
        for batch in &self.batches {
            let mut columns = Vec::new();
            for name in &self.columns {
                let array = batch.column(batch.schema_ref().index_of(name)?);
                let values = literals(array)?.ok_or_else(|| Error::Unsupported {
                    what: format!("a hard delete of samples of `{key}` by the {} column `{name}`", array.data_type()),
                    hint: "delete them softly, or by a filter".to_owned(),
                })?;
                columns.push((name, values));
            }
            let is_row =
                |row: usize| Filter::all(columns.iter().map(|(name, values)| col(name).eq(values[row].clone())));
            let rows: Vec<usize> = (0..batch.num_rows()).collect();
            filters.extend(rows.chunks(ROWS_PER_DELETE).filter_map(|rows| match columns.as_slice() {
                [(name, values)] if !values.contains(&Literal::Null) => {
                    Some(col(name).is_in(rows.iter().map(|row| values[*row].clone())))
                }
                _ => rows.iter().map(|row| is_row(*row)).reduce(|any, one| any | one),
            }));
        }
        Ok(filters)
    }
}

/// Returns whether several samples of a feature come from one parent.
pub(super) fn expands(plan: &FeaturePlan) -> bool {
    plan.spec.deps.iter().any(|dep| matches!(dep.lineage, Lineage::Expansion { .. }))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Returns the values of a column as literals of a filter; `None` if filters have no such literals.
fn literals(array: &ArrayRef) -> Result<Option<Vec<Literal>>> {
    let as_literal: fn(&str) -> Option<Literal> = match array.data_type() {
        DataType::Boolean => |text| Some(Literal::Boolean(text == "true")),
        number if number.is_integer() || matches!(number, DataType::Decimal128(..)) => {
            |text| Some(Literal::Number(text.parse::<Number>().ok()?))
        }
        text if is_text(text) => |text| Some(Literal::Text(text.to_owned())),
        DataType::Date32 | DataType::Timestamp(..) => |text| Some(Literal::Text(text.to_owned())),
        _ => return Ok(None),
    };
    let shown = match array.data_type() {
        DataType::Timestamp(unit, Some(_)) => cast(array, &DataType::Timestamp(*unit, Some("UTC".into())))?,
        DataType::Timestamp(TimeUnit::Second, None) => cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?,
        _ => array.clone(),
    };
    let texts = cast(&shown, &DataType::Utf8)?;
    let Some(texts) = texts.as_any().downcast_ref::<StringArray>() else { return Ok(None) };
    Ok(texts.iter().map(|text| text.map_or(Some(Literal::Null), as_literal)).collect())
}
