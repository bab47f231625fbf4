//! Completes rows with the system columns that a write adds.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array};
use arrow::compute::{cast, is_not_null, kernels::zip::zip};
use arrow::datatypes::DataType;

use crate::columns;
use crate::engine;
use crate::error::Result;
use crate::graph::FeaturePlan;

use super::MetadataStore;
use super::checks::{check_ids, check_names};

/// How rows are stamped.
#[derive(Clone, Debug)]
pub(crate) struct Stamping {
    /// The time of the write, in microseconds.
    pub(super) at: i64,
    pub(super) materialization_id: Option<String>,
    /// Whether versions and times that rows carry are kept, as in a copy.
    pub(super) preserve: bool,
}

impl MetadataStore {
    /// Returns the default stamping of rows that are written at a time.
    pub(crate) fn stamping(&self, at: i64) -> Stamping {
        Stamping { at, materialization_id: self.inner.materialization_id.clone(), preserve: false }
    }

    /// Returns a batch with all system columns after the user's own.
    pub(crate) fn complete(&self, plan: &FeaturePlan, batch: &RecordBatch, stamping: &Stamping) -> Result<RecordBatch> {
        check_ids(plan, batch)?;
        self.complete_marker(plan, batch, stamping)
    }

    /// Returns a batch with all system columns, for rows that lack ids on purpose.
    pub(super) fn complete_marker(
        &self,
        plan: &FeaturePlan,
        batch: &RecordBatch,
        stamping: &Stamping,
    ) -> Result<RecordBatch> {
        check_names(plan, batch)?;
        let mut all = self.with_versions(plan, batch)?;
        all.extend(self.stamps(plan, batch, stamping)?);
        engine::batch_of(all, batch.num_rows())
    }

    /// Returns the user's columns followed by the version columns, with their names.
    pub(super) fn with_versions(&self, plan: &FeaturePlan, batch: &RecordBatch) -> Result<Vec<(String, ArrayRef)>> {
        let versions = engine::complete_versions(&plan.spec, batch, self.inner.hasher)?;
        let schema = batch.schema();
        let own = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| !columns::is_system(field.name()));
        Ok(own.map(|(field, array)| (field.name().clone(), array.clone())).chain(versions).collect())
    }

    /// Returns the system columns with the time of the write and the versions of the definitions.
    fn stamps(&self, plan: &FeaturePlan, batch: &RecordBatch, stamping: &Stamping) -> Result<Vec<(String, ArrayRef)>> {
        let rows = batch.num_rows();
        let text = |value: Option<&str>| -> ArrayRef {
            match value {
                Some(value) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows))),
                None => new_null_array(&DataType::Utf8, rows),
            }
        };
        let now: ArrayRef = Arc::new(
            TimestampMicrosecondArray::from_iter_values(std::iter::repeat_n(stamping.at, rows)).with_timezone("UTC"),
        );
        let never = new_null_array(&columns::timestamp_type(), rows);
        let project = self.graph().project_version();
        let stamp = |name: &str, keep: bool, otherwise: ArrayRef| -> Result<(String, ArrayRef)> {
            let value = match batch.column_by_name(name).filter(|_| keep) {
                Some(given) => filled(given, &otherwise)?,
                None => otherwise,
            };
            Ok((name.to_owned(), value))
        };
        let keep = stamping.preserve;
        Ok(vec![
            stamp(columns::FEATURE_VERSION, keep, text(Some(&plan.feature_version)))?,
            stamp(columns::PROJECT_VERSION, keep, text(Some(project)))?,
            stamp(columns::CREATED_AT, true, now.clone())?,
            stamp(columns::UPDATED_AT, keep, now)?,
            stamp(columns::DELETED_AT, keep, never)?,
            stamp(columns::MATERIALIZATION_ID, keep, text(stamping.materialization_id.as_deref()))?,
        ])
    }
}

/// Returns the given values, cast to the type of the others, which replace its nulls.
fn filled(given: &ArrayRef, otherwise: &ArrayRef) -> Result<ArrayRef> {
    let given =
        if given.data_type() == otherwise.data_type() { given.clone() } else { cast(given, otherwise.data_type())? };
    if given.null_count() == 0 {
        return Ok(given);
    }
    Ok(zip(&is_not_null(&given)?, &given, otherwise)?)
}
