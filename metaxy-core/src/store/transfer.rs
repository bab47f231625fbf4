//! Copying rows from store to store.

use std::collections::BTreeMap;
use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use tracing::Span;
use tracing::field::Empty;

use crate::deferred::Deferred;
use crate::error::{Error, Result};
use crate::filter::{Filter, IntoFilter};
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::schema::bytes_of_rows;

use super::MetadataStore;
use super::append::Preparation;
use super::known::{deletions_in, unknown_rows};
use super::trace::{Outcome, Volume, call, record_numbers};

/// The number of rows that are held before they are written, and of bytes.
const ROWS_PER_WRITE: usize = 100_000;
const BYTES_PER_WRITE: usize = 64 << 20;

type OnProgress = Box<dyn FnMut(&CopyProgress) + Send>;

/// A copy, to be awaited.
#[must_use = "nothing is copied until it is awaited"]
pub struct CopyRequest {
    target: MetadataStore,
    source: MetadataStore,
    selection: Deferred<Selection>,
    with_feature_history: bool,
    with_sample_history: bool,
    progress: Option<OnProgress>,
}

/// The rows that are copied: those of the given features, or of all, that pass the filters.
#[derive(Default)]
struct Selection {
    features: Option<Vec<FeatureKey>>,
    filters: BTreeMap<FeatureKey, Vec<Filter>>,
    global_filters: Vec<Filter>,
}

/// The progress of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyProgress {
    /// The feature that is copied.
    pub feature: FeatureKey,
    /// The number of its rows written so far.
    pub rows: u64,
    /// Whether all of its rows are written.
    pub done: bool,
}

/// What became of the rows of one feature.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    written: Volume,
    skipped: u64,
    deleted: u64,
}

/// The result of a copy, by feature. Features that the source does not have are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopySummary {
    /// The number of rows written, including deletions.
    pub rows: BTreeMap<FeatureKey, u64>,
    /// The number of rows that were not sent, because the target has them or a later row of the same sample, or because
    /// they are deletions of samples that it does not have.
    pub skipped: BTreeMap<FeatureKey, u64>,
    /// The number of written rows that delete a sample.
    pub deleted: BTreeMap<FeatureKey, u64>,
}

impl Outcome for Counts {
    fn record(&self, span: &Span) {
        self.written.record(span);
        record_numbers(span, &[("skipped", self.skipped), ("deleted", self.deleted)]);
    }
}

impl Outcome for CopySummary {
    fn record(&self, span: &Span) {
        record_numbers(span, &[("rows", self.total())]);
    }
}

impl CopySummary {
    /// Returns the number of all rows written.
    pub fn total(&self) -> u64 {
        self.rows.values().sum()
    }
}

impl MetadataStore {
    /// Copies features from another store, not from its fallbacks: by default the newest row of each sample, of any
    /// feature version. Versions and timestamps are kept. A copy can be repeated: rows that this store has are not sent
    /// again, and samples that were softly deleted in the source in between are deleted here. (Samples that were hard
    /// deleted there stay here.) Batches are streamed, and each write of them is atomic. Rows wait in temporary files
    /// if they exceed the memory limit and the source cannot select the newest row of each sample itself.
    ///
    /// # Errors
    /// Awaiting it returns [`Error::ReadOnly`], [`Error::HashAlgorithmMismatch`], [`Error::FeatureNotFound`] for a
    /// feature that was named, [`Error::UnknownFeature`], the errors of filters, and those of the backends.
    pub fn copy_from(&self, source: &MetadataStore) -> CopyRequest {
        CopyRequest {
            target: self.clone(),
            source: source.clone(),
            selection: Deferred::default(),
            with_feature_history: true,
            with_sample_history: false,
            progress: None,
        }
    }
}

impl CopyRequest {
    /// Copies only these features; by default all that the source has.
    pub fn features<K: IntoFeatureKey>(mut self, features: impl IntoIterator<Item = K>) -> Self {
        let features = features.into_iter().map(IntoFeatureKey::into_feature_key).collect::<Result<Vec<_>, _>>();
        self.selection.add(features, |selection, features| selection.features = Some(features));
        self
    }

    /// Copies only rows of a feature for which the filter is true.
    pub fn filter(mut self, feature: impl IntoFeatureKey, filter: impl IntoFilter) -> Self {
        let part = feature.into_feature_key().map_err(Error::from).and_then(|key| Ok((key, filter.into_filter()?)));
        self.selection.add(part, |selection, (key, filter)| selection.filters.entry(key).or_default().push(filter));
        self
    }

    /// Copies only rows for which the filter is true, of every feature.
    pub fn global_filter(mut self, filter: impl IntoFilter) -> Self {
        self.selection.add(filter.into_filter(), |selection, filter| selection.global_filters.push(filter));
        self
    }

    /// Copies only rows of the current feature version; by default those of every version.
    pub fn without_feature_history(mut self) -> Self {
        self.with_feature_history = false;
        self
    }

    /// Copies every row of a sample, including deletions; by default only the newest.
    pub fn with_sample_history(mut self) -> Self {
        self.with_sample_history = true;
        self
    }

    /// Calls `progress` after every write.
    pub fn on_progress(mut self, progress: impl FnMut(&CopyProgress) + Send + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    async fn run(self) -> Result<CopySummary> {
        let call = call!("copy", source = self.source.name(), target = self.target.name());
        call.run(self.copy()).await
    }

    async fn copy(mut self) -> Result<CopySummary> {
        self.target.check_writable("copy")?;
        self.target.check_hash(&self.source)?;
        let Selection { features, mut filters, global_filters } = std::mem::take(&mut self.selection).finish()?;
        let named = features.is_some();
        let features = features.unwrap_or_else(|| self.target.graph().topological_order().to_vec());
        for key in features.iter().chain(filters.keys()) {
            self.target.plan(key)?;
        }
        let source = self.source.with_graph(self.target.graph().clone())?;
        let mut summary = CopySummary::default();
        for key in features {
            let filters = filters.remove(&key).unwrap_or_default().into_iter().chain(global_filters.iter().cloned());
            match source.has_feature(&key).await? {
                true => {
                    let call = call!("copy_feature", feature = key.to_string(), skipped = Empty, deleted = Empty);
                    let counts = call.run(self.copy_feature(&source, &key, filters.collect())).await?;
                    summary.rows.insert(key.clone(), counts.written.rows);
                    summary.skipped.insert(key.clone(), counts.skipped);
                    summary.deleted.insert(key, counts.deleted);
                }
                false if named => {
                    return Err(Error::FeatureNotFound { feature: key, searched: vec![source.name().to_owned()] });
                }
                false => tracing::info!(feature = %key, store = source.name(), "nothing to copy"),
            }
        }
        Ok(summary)
    }

    async fn copy_feature(&mut self, source: &MetadataStore, key: &FeatureKey, filters: Vec<Filter>) -> Result<Counts> {
        let mut read = source.read(key).with_markers().include_soft_deleted();
        if self.with_feature_history {
            read = read.with_feature_history();
        }
        if self.with_sample_history {
            read = read.with_sample_history();
        }
        let rows = filters.into_iter().fold(read, |read, filter| read.filter(filter)).await?;
        let skipped = Arc::default();
        let mut unknown = unknown_rows(&self.target, key, rows, self.with_sample_history, &skipped).await?;
        let mut counts = Counts::default();
        let (mut rows, mut bytes, mut pending) = (0, 0, Vec::new());
        while let Some(batch) = unknown.try_next().await? {
            counts.deleted += deletions_in(&batch)?;
            rows += batch.num_rows();
            bytes += bytes_of_rows(&batch);
            pending.push(batch);
            if rows >= ROWS_PER_WRITE || bytes >= BYTES_PER_WRITE {
                counts.written += self.flush(key, std::mem::take(&mut pending), counts.written.rows, false).await?;
                (rows, bytes) = (0, 0);
            }
        }
        counts.written += self.flush(key, pending, counts.written.rows, true).await?;
        counts.skipped = skipped.load(Ordering::Relaxed);
        Ok(counts)
    }

    async fn flush(&mut self, key: &FeatureKey, batches: Vec<RecordBatch>, before: u64, done: bool) -> Result<Volume> {
        let written = self.target.prepare_and_append(key, batches, Preparation::COMPLETE).await?;
        if let Some(progress) = &mut self.progress {
            progress(&CopyProgress { feature: key.clone(), rows: before + written.rows, done });
        }
        Ok(written)
    }
}

impl IntoFuture for CopyRequest {
    type Output = Result<CopySummary>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

impl fmt::Debug for CopyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyRequest")
            .field("source", &self.source)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
