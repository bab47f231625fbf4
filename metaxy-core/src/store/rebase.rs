//! Carrying rows of an old definition over to the current one.

use std::future::IntoFuture;

use arrow::array::RecordBatch;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use crate::backend::BatchStream;
use crate::deferred::Deferred;
use crate::engine;
use crate::error::{Error, Result};
use crate::key::{FeatureKey, IntoFeatureKey};

use super::append::Preparation;
use super::named::Named;
use super::trace::{Volume, call, feature_of};
use super::{Duplicates, IntoBatches, MetadataStore};

/// A rebase, to be awaited. Returns the number of rows written.
#[derive(Debug)]
#[must_use = "nothing is rebased until it is awaited"]
pub struct RebaseRequest {
    store: MetadataStore,
    from_version: String,
    selection: Deferred<Selection>,
}

/// The feature and, if only some samples are carried over, rows that name them.
#[derive(Debug)]
struct Selection {
    feature: FeatureKey,
    samples: Option<Vec<RecordBatch>>,
}

impl MetadataStore {
    /// Carries the rows of an old feature version over to the current one, for a change of the definition that does not
    /// change computed values: user columns, and data versions that the user gave, are kept; provenance is computed
    /// again from upstream. Rows that upstream no longer expects are not carried over. Returns the number of rows
    /// written.
    ///
    /// A store [with the graph](Self::with_graph) of
    /// [another version](crate::PushedDefinitions::graph_of_version) carries them over to that one.
    ///
    /// # Errors
    /// [`Error::NotApplicable`] for a root feature, which has no upstream to compute provenance from;
    /// [`Error::FeatureNotFound`], [`Error::ReadOnly`], and the errors of the backend.
    pub fn rebase(&self, feature: impl IntoFeatureKey, from_version: &str) -> RebaseRequest {
        let selection = |feature| Selection { feature, samples: None };
        RebaseRequest {
            store: self.clone(),
            from_version: from_version.to_owned(),
            selection: Deferred::new(feature.into_feature_key().map(selection)),
        }
    }
}

impl RebaseRequest {
    /// Carries over only the samples that are named by rows: those with the same ids. Rows of a feature that expands
    /// (1:N) may have only the columns `on`, which name a parent.
    ///
    /// # Errors
    /// Awaiting it returns [`Error::MissingColumn`] for rows that name no samples.
    pub fn samples(mut self, rows: impl IntoBatches) -> Self {
        self.selection.add(rows.into_batches(), |selection, rows| {
            selection.samples.get_or_insert_default().extend(rows);
        });
        self
    }

    /// Counts the rows that would be written, and writes nothing. The store may be open for reading.
    ///
    /// # Errors
    /// The errors of the rebase itself, except [`Error::ReadOnly`].
    pub async fn count(self) -> Result<u64> {
        let Self { store, from_version, selection } = self;
        let Selection { feature, samples } = selection.finish()?;
        let rebased = rebased(&store, &feature, &from_version, samples).await?;
        let Some(mut rows) = rebased else { return Ok(0) };
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            count += batch.num_rows() as u64;
        }
        Ok(count)
    }

    async fn run(self) -> Result<u64> {
        let feature = feature_of(&self.selection, |selection| selection.feature.to_string());
        let call =
            call!("rebase", feature = feature, store = self.store.name(), from_version = self.from_version.as_str());
        Ok(call.run(self.rebase()).await?.rows)
    }

    async fn rebase(self) -> Result<Volume> {
        let Self { store, from_version, selection } = self;
        let Selection { feature: key, samples } = selection.finish()?;
        store.check_writable("rebase")?;
        store.plan(&key)?;
        // The stamp is taken before the reads: rows that are written during the reads are later.
        let at = store.stamp_for(std::slice::from_ref(&key)).await?;
        let Some(rows) = rebased(&store, &key, &from_version, samples).await? else { return Ok(Volume::default()) };
        let preparation = Preparation::of_rows(store.stamping(at), Duplicates::Last);
        let prepared = store.prepare_stream(&key, rows, preparation).await?;
        store.append_prepared(&key, prepared).await
    }
}

impl IntoFuture for RebaseRequest {
    type Output = Result<u64>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

/// Returns rows of an old version with the provenance that the current one expects; `None` if they have that version
/// already.
async fn rebased(
    store: &MetadataStore,
    key: &FeatureKey,
    from_version: &str,
    samples: Option<Vec<RecordBatch>>,
) -> Result<Option<BatchStream>> {
    let plan = store.plan(key)?;
    if plan.spec.is_root() {
        return Err(Error::NotApplicable {
            feature: key.clone(),
            operation: "rebase",
            reason: "it is a root feature, whose provenance no upstream determines",
            hint: "write its samples again under the new definition",
        });
    }
    let named = samples.map(|samples| Named::new(plan, samples)).transpose()?;
    if from_version == plan.feature_version {
        return Ok(None);
    }
    let (schema, rows) = store.read(key).of_version(from_version).await?.into_parts();
    let rows = match named.map(|named| named.keys(&schema)).transpose()? {
        None => rows,
        // No rows name no samples.
        Some(None) => futures::stream::empty().boxed(),
        Some(Some(keys)) => rows.and_then(move |batch| std::future::ready(keys.pick(&batch))).boxed(),
    };
    let expected = store.resolve_update(key).skip_comparison().lazy().await?.new_rows().into_parts();
    engine::carry_over(plan, (schema, rows), expected, &store.inner.pool).await.map(Some)
}
