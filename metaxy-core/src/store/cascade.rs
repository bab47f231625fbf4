//! Deleting samples together with those that were made from them.

use std::collections::BTreeMap;
use std::future::IntoFuture;

use arrow::array::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;

#[allow(unused_imports, reason = "named in the documentation")]
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;

use super::delete::DeleteRequest;
use super::named::Named;
use super::{MetadataStore, ResolveRequest};

/// A delete with everything downstream, to be awaited. Returns what was deleted.
#[derive(Debug)]
#[must_use = "nothing is deleted until it is awaited"]
pub struct CascadeRequest {
    request: DeleteRequest,
    dry_run: bool,
}

/// What a delete with everything downstream has deleted, or would delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CascadeSummary {
    /// The number of deleted rows of each feature; in a dry run that of the samples, or of the parents (1:N).
    pub rows: BTreeMap<FeatureKey, u64>,
}

impl CascadeSummary {
    /// Returns the number of all rows.
    pub fn total(&self) -> u64 {
        self.rows.values().sum()
    }
}

/// The samples of a feature that are deleted.
struct Doomed {
    feature: FeatureKey,
    rows: Vec<RecordBatch>,
}

impl DeleteRequest {
    /// Deletes also the samples downstream that nothing upstream expects any more without the deleted ones, in every
    /// feature of the graph that depends on this one. Samples that are only made from other inputs then become stale:
    /// a group of which a part is left (N:1), and a sample whose optional input is deleted. What was orphaned before
    /// stays.
    ///
    /// Dependents are deleted before what they are made from, so that a call that failed can be repeated.
    ///
    /// # Errors
    /// Awaiting it returns the errors of [`MetadataStore::delete`] and of [`MetadataStore::resolve_update`], and
    /// [`Error::Unsupported`] for ids of a type that filters do not have. If computing what is to be deleted fails,
    /// nothing is deleted.
    pub fn cascade(self) -> CascadeRequest {
        CascadeRequest { request: self, dry_run: false }
    }
}

impl CascadeRequest {
    /// Deletes nothing, and returns what would be deleted.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    async fn run(self) -> Result<CascadeSummary> {
        let Self { request, dry_run } = self;
        let (options, feature, rows) = request.samples().await?;
        if !dry_run {
            options.store.check_may_change(&feature, "delete from")?;
        }
        let doomed = with_dependents(&options.store, Doomed { feature, rows }).await?;
        let mut summary = CascadeSummary::default();
        for Doomed { feature, rows } in doomed.into_iter().rev() {
            let deleted = match dry_run {
                true => rows.iter().map(|batch| batch.num_rows() as u64).sum(),
                false => options.delete(&feature, rows).await?,
            };
            summary.rows.insert(feature, deleted);
        }
        Ok(summary)
    }
}

impl IntoFuture for CascadeRequest {
    type Output = Result<CascadeSummary>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

/// Returns samples with those that nothing expects any more without them, each feature after those it depends on.
async fn with_dependents(store: &MetadataStore, first: Doomed) -> Result<Vec<Doomed>> {
    let mut doomed = vec![first];
    for key in store.graph().topological_order() {
        let plan = store.plan(key)?;
        let depends = doomed.iter().any(|one| plan.spec.deps.iter().any(|dep| *dep.feature() == one.feature));
        if !depends || doomed[0].is_empty() || !store.has_feature(key).await? {
            continue;
        }
        let rows = orphaned_without(store, plan, &doomed).await?;
        let one = Doomed { feature: key.clone(), rows };
        if !one.is_empty() {
            doomed.push(one);
        }
    }
    Ok(doomed)
}

/// Returns the stored samples of a feature that are expected now, and are not without the doomed ones.
async fn orphaned_without(store: &MetadataStore, plan: &FeaturePlan, doomed: &[Doomed]) -> Result<Vec<RecordBatch>> {
    let key = &plan.spec.key;
    let orphaned = async |request: ResolveRequest| request.lazy().await?.orphaned_rows().collect().await;
    let before = orphaned(store.resolve_update(key)).await?;
    let mut request = store.resolve_update(key);
    for one in doomed.iter().filter(|one| plan.spec.deps.iter().any(|dep| *dep.feature() == one.feature)) {
        for filter in one.filters(store)? {
            request = request.filter(&one.feature, !filter);
        }
    }
    Named::new(plan, before)?.drop_from(orphaned(request).await?)
}

impl Doomed {
    fn is_empty(&self) -> bool {
        self.rows.iter().all(|batch| batch.num_rows() == 0)
    }

    /// Returns filters that together match exactly the samples.
    fn filters(&self, store: &MetadataStore) -> Result<Vec<Filter>> {
        Named::new(store.plan(&self.feature)?, self.rows.clone())?.filters(&self.feature)
    }
}
