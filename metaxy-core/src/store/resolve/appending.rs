//! New and stale rows that go into the table of the feature as they are.

use arrow::array::RecordBatch;

use crate::backend::{Completion, NativeRequest};
use crate::error::Result;
use crate::plan::{InputLineage, InputPlan};

use super::super::append::Preparation;
use super::super::trace::{Volume, call};
use super::super::{MetadataStore, VersioningEngine};
use super::Resolve;

impl Resolve {
    /// Returns the store into which rows are written.
    pub(in crate::store) fn store(&self) -> &MetadataStore {
        &self.store
    }

    /// Lets the storage system append the new and stale rows, and returns their number; `None` if it does not.
    pub(in crate::store) async fn append_natively(&self, engine: VersioningEngine) -> Result<Option<u64>> {
        if engine == VersioningEngine::Arrow || !self.has_one_row_each() {
            return Ok(None);
        }
        let Ok(inputs) = self.native_inputs(engine) else { return Ok(None) };
        let (store, feature) = (&self.store, self.feature());
        let completion = self.completion().await?;
        let limits = store.inner.pool.limits();
        let request = NativeRequest { plan: &self.plan, inputs: &inputs, limits: &limits };
        let append = async {
            let rows = store.inner.backend.append_natively(request, &completion).await?;
            Ok(rows.map(|rows| Volume { rows, bytes: 0 }))
        };
        let appended = call!("append", feature = feature.to_string(), store = store.name()).run(append).await?;
        Ok(appended.map(|volume| volume.rows))
    }

    /// Returns whether no two expected rows have the same ids.
    fn has_one_row_each(&self) -> bool {
        let is_single = |input: &InputPlan| {
            let join = self.plan.join_columns.iter().map(|name| input.source_of(name));
            let join: Vec<&str> = join.collect();
            let ids = input.request.keep_latest.as_deref().unwrap_or_default();
            input.lineage == InputLineage::Rows && !ids.is_empty() && ids.iter().all(|id| join.contains(&id.as_str()))
        };
        self.plan.join_columns.iter().all(|name| self.spec.id_columns.contains(name))
            && self.plan.inputs.iter().all(is_single)
    }

    /// Checks what can be checked without rows, and returns what a write would add to them.
    async fn completion(&self) -> Result<Completion> {
        let (store, feature) = (&self.store, self.feature().clone());
        store.check_writable("write")?;
        let stamping = store.stamping(store.stamp_for(std::slice::from_ref(&feature)).await?);
        let stamp = store.stamp_row(store.plan(&feature)?, &stamping)?;
        let preparation = Preparation::of_rows(stamping, store.inner.duplicates);
        let none = RecordBatch::new_empty(self.expected.clone());
        let schema = store.prepare(&feature, vec![none], preparation).await?.schema;
        Ok(Completion { feature, id_columns: self.spec.id_columns.clone(), schema, stamp })
    }
}
