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

/// The number of rows of a piece of a large batch.
const PIECE_ROWS: usize = 64 << 10;

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
        self.stamped(plan, batch, &self.stamps(plan, stamping, batch.num_rows()))
    }

    /// Completes the batches of a write on all cores, large ones in pieces.
    pub(super) fn complete_all(
        &self,
        plan: &FeaturePlan,
        batches: &[RecordBatch],
        stamping: &Stamping,
    ) -> Result<Vec<RecordBatch>> {
        // Before they are divided, so that errors count the rows of whole batches.
        for batch in batches {
            check_ids(plan, batch)?;
            check_names(plan, batch)?;
            engine::check_provenance(&plan.spec, batch)?;
        }
        let pieces: Vec<RecordBatch> = batches.iter().flat_map(pieces).collect();
        let rows = pieces.iter().map(RecordBatch::num_rows).max().unwrap_or_default();
        let stamps = self.stamps(plan, stamping, rows);
        engine::map(pieces, |piece| self.stamped(plan, &piece, &stamps))
    }

    /// Returns a batch with the version columns and the stamps.
    fn stamped(&self, plan: &FeaturePlan, batch: &RecordBatch, stamps: &[Stamp]) -> Result<RecordBatch> {
        let mut all = self.with_versions(plan, batch)?;
        for stamp in stamps {
            all.push((stamp.column.to_owned(), stamp.values(batch)?));
        }
        engine::batch_of(all, batch.num_rows())
    }

    /// Returns one row with the columns that are the same in all rows of a write.
    pub(super) fn stamp_row(&self, plan: &FeaturePlan, stamping: &Stamping) -> Result<RecordBatch> {
        let stamps = self.stamps(plan, stamping, 1);
        engine::batch_of(stamps.into_iter().map(|stamp| (stamp.column.to_owned(), stamp.values)).collect(), 1)
    }

    /// Returns the user's columns followed by the version columns, with their names.
    pub(super) fn with_versions(&self, plan: &FeaturePlan, batch: &RecordBatch) -> Result<Vec<(String, ArrayRef)>> {
        let versions = engine::complete_versions(&plan.spec, batch, self.inner.hasher)?;
        let schema = batch.schema();
        let is_own = |name: &str| !columns::is_system(name) && name != columns::CHANGED_FIELDS;
        let own = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| is_own(field.name()));
        Ok(own.map(|(field, array)| (field.name().clone(), array.clone())).chain(versions).collect())
    }

    /// Returns the system columns with the time of the write and the versions of the definitions, for batches of up to
    /// this number of rows.
    fn stamps(&self, plan: &FeaturePlan, stamping: &Stamping, rows: usize) -> [Stamp; 6] {
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
        let preserve = stamping.preserve;
        let stamp = |column: &'static str, keeps_given: bool, values: ArrayRef| Stamp { column, keeps_given, values };
        [
            stamp(columns::FEATURE_VERSION, preserve, text(Some(&plan.feature_version))),
            stamp(columns::PROJECT_VERSION, preserve, text(Some(self.graph().project_version()))),
            stamp(columns::CREATED_AT, true, now.clone()),
            stamp(columns::UPDATED_AT, preserve, now),
            stamp(columns::DELETED_AT, preserve, never),
            stamp(columns::MATERIALIZATION_ID, preserve, text(stamping.materialization_id.as_deref())),
        ]
    }
}

/// A system column with one value for all rows of a write.
struct Stamp {
    column: &'static str,
    /// Whether values that the rows carry are kept.
    keeps_given: bool,
    /// At least as many as a batch has rows, so that the batches of a write share them.
    values: ArrayRef,
}

impl Stamp {
    fn values(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let values = self.values.slice(0, batch.num_rows());
        match batch.column_by_name(self.column).filter(|_| self.keeps_given) {
            Some(given) => filled(given, &values),
            None => Ok(values),
        }
    }
}

/// Returns the rows of a batch in pieces that cores can share.
fn pieces(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let rows = batch.num_rows();
    (0..rows.max(1)).step_by(PIECE_ROWS).map(move |start| batch.slice(start, PIECE_ROWS.min(rows - start)))
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
