//! The fields of each sample that have to be made again.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt;

use crate::backend::stream_of;
use crate::columns;
use crate::engine::{self, KeyList, TypedKey};
use crate::error::Result;
use crate::plan::IncrementPlan;
use crate::scan::ScanRequest;
use crate::spec::FeatureSpec;

use super::super::{Increment, MetadataStore, Rows};
use super::pipeline::Resolve;

/// What is needed to find the changed fields of an increment.
pub(super) struct ChangedFields {
    store: MetadataStore,
    spec: Arc<FeatureSpec>,
    plan: Arc<IncrementPlan>,
}

impl ChangedFields {
    pub(super) fn of(resolve: &Resolve) -> Self {
        let (store, spec, plan) = resolve.parts();
        Self { store, spec, plan }
    }

    /// Adds the column of changed fields to the new and stale rows of an increment.
    pub(super) async fn add_to(&self, increment: Increment) -> Result<Increment> {
        let stale = self.stale(&increment.stale).await?;
        let mut increment = with_all_fields(&self.spec, increment)?;
        if let Some(batches) = stale {
            increment.stale = Rows::new(increment.stale.schema().clone(), batches);
        }
        Ok(increment)
    }

    /// Compares stale rows with the stored ones, which are read again. `None` if there is nothing to compare.
    async fn stale(&self, stale: &Rows) -> Result<Option<Vec<RecordBatch>>> {
        let (Some(current), false) = (&self.plan.current, stale.is_empty()) else { return Ok(None) };
        let (join, key) = (&self.plan.join_columns, &self.plan.feature);
        let Some(schema) = self.store.own_table(key).await? else { return Ok(None) };
        let Some(typed) = TypedKey::between(join, stale.schema(), &schema)? else { return Ok(None) };
        let mut keys = KeyList::new(typed)?;
        stale.batches().iter().try_for_each(|batch| keys.add_batch(batch))?;
        // A row may only be skipped by its key if no newer row of its sample can have another one.
        let narrows = join.iter().all(|column| self.spec.id_columns.contains(column));
        let mut names = current.request.columns.clone().unwrap_or_default();
        names.retain(|name| name != columns::PROVENANCE_BY_FIELD);
        names.push(columns::PROVENANCE_BY_FIELD.to_owned());
        let request = ScanRequest {
            columns: Some(names),
            keys: if narrows { keys.for_scan(&schema, join)? } else { None },
            ..current.request.clone()
        };
        let (stored, rows) = self.store.scan(key, &request).await?;
        let names = join.clone();
        let rows = Box::pin(rows.and_then(move |batch| std::future::ready(keys.pick(batch, &names))));
        let stale = (stale.schema().clone(), stream_of(stale.batches().to_vec()));
        let pool = &self.store.inner.pool;
        let changed = engine::with_changed_fields(&self.spec, &self.plan, current, stale, (stored, rows), pool).await?;
        changed.try_collect().await.map(Some)
    }
}

/// Returns an increment in whose samples all fields have changed.
pub(super) fn with_all_fields(spec: &FeatureSpec, increment: Increment) -> Result<Increment> {
    let all = |rows: &Rows| -> Result<Rows> {
        let batches = rows.batches().iter().map(|batch| engine::with_all_fields(spec, batch));
        let empty = engine::with_all_fields(spec, &RecordBatch::new_empty(rows.schema().clone()))?;
        Ok(Rows::new(empty.schema(), batches.collect::<Result<_>>()?))
    };
    Ok(Increment { new: all(&increment.new)?, stale: all(&increment.stale)?, ..increment })
}
