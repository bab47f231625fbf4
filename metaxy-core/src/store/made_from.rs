//! Results of an increment: each row gets the versions of the sample that it was made from.

use ahash::AHashMap;
use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, interleave};

use crate::columns;
use crate::engine::KeyEncoder;
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;
use crate::plan::join_columns;

use super::Increment;
use super::duplicates::shown_id;

/// The provenance of the samples of an increment, by the columns that match results with samples.
#[derive(Clone, Debug)]
pub(super) struct MadeFrom {
    matched_by: Vec<String>,
    /// The columns of `matched_by` and the provenance, of new and stale samples.
    samples: Vec<RecordBatch>,
}

impl MadeFrom {
    pub(super) fn new(increment: &Increment) -> Result<Self> {
        Self::matched(&increment.matched_by, increment.to_process())
    }

    /// Returns samples of a feature that are given as rows.
    pub(super) fn of_samples(plan: &FeaturePlan, samples: &[RecordBatch]) -> Result<Self> {
        let matched_by = if plan.spec.is_root() { plan.spec.id_columns.clone() } else { join_columns(plan)? };
        for batch in samples {
            let mut needed = matched_by.iter().map(String::as_str).chain([columns::PROVENANCE_BY_FIELD]);
            if let Some(missing) = needed.find(|name| batch.column_by_name(name).is_none()) {
                return Err(Error::MissingColumn {
                    feature: plan.spec.key.clone(),
                    column: missing.to_owned(),
                    context: "the samples from which the rows were made".to_owned(),
                    available: batch.schema().fields().iter().map(|field| field.name().clone()).collect(),
                });
            }
        }
        Self::matched(&matched_by, samples.iter())
    }

    fn matched<'a>(matched_by: &[String], samples: impl Iterator<Item = &'a RecordBatch>) -> Result<Self> {
        let names: Vec<&str> = matched_by.iter().map(String::as_str).chain([columns::PROVENANCE_BY_FIELD]).collect();
        let narrow = |batch: &RecordBatch| -> Result<RecordBatch> {
            let kept = names.iter().map(|name| batch.schema_ref().index_of(name)).collect::<Result<Vec<_>, _>>()?;
            Ok(batch.project(&kept)?)
        };
        Ok(Self { matched_by: matched_by.to_vec(), samples: samples.map(narrow).collect::<Result<_>>()? })
    }

    /// Returns the rows with the provenance of the samples that they were made from, which replaces their own.
    pub(super) fn complete(&self, feature: &FeatureKey, rows: &RecordBatch) -> Result<RecordBatch> {
        let missing = |name: &&String| rows.column_by_name(name).is_none();
        if let Some(column) = self.matched_by.iter().find(missing) {
            return Err(Error::MissingColumn {
                feature: feature.clone(),
                column: column.clone(),
                context: "the batch; rows are matched with the samples of the increment by it".to_owned(),
                available: rows.schema().fields().iter().map(|field| field.name().clone()).collect(),
            });
        }
        let Some(first) = self.samples.first() else { return Err(self.unmatched(feature, rows, 0)) };
        let samples = concat_batches(first.schema_ref(), &self.samples)?;
        let encoder = KeyEncoder::new(&self.matched_by, rows.schema_ref(), samples.schema_ref())?;
        let Some(encoder) = encoder else { return Err(self.unmatched(feature, rows, 0)) };
        let known = encoder.encode(&samples)?;
        let place: AHashMap<&[u8], usize> = known.iter().enumerate().map(|(place, key)| (key.data(), place)).collect();
        let mut places = Vec::with_capacity(rows.num_rows());
        for (row, key) in encoder.encode(rows)?.iter().enumerate() {
            let place = place.get(key.as_ref()).ok_or_else(|| self.unmatched(feature, rows, row))?;
            places.push((0, *place));
        }
        let provenance = samples.column(samples.schema_ref().index_of(columns::PROVENANCE_BY_FIELD)?);
        columns::with_column(rows, columns::PROVENANCE_BY_FIELD, interleave(&[provenance], &places)?)
    }

    fn unmatched(&self, feature: &FeatureKey, rows: &RecordBatch, row: usize) -> Error {
        let sample = shown_id(rows, &self.matched_by, row).unwrap_or_default();
        Error::InvalidColumn {
            feature: feature.clone(),
            column: self.matched_by.join("`, `"),
            reason: format!("the increment has no new or stale sample {sample}, from which row {row} could be made"),
        }
    }
}
