//! Resolving a feature: which samples have to be processed again.

mod pipeline;
mod samples;
mod tables;

use std::future::IntoFuture;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::deferred::Deferred;
use crate::engine;
use crate::error::{Error, Result};
use crate::filter::{Filter, IntoFilter};
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::plan::{NativeOutcome, ResolveOptions};

use super::data::schema_of;
use super::{Increment, IntoBatches, LazyIncrement, MetadataStore, Rows, VersioningEngine};

pub(super) use pipeline::Resolve;

/// A resolve, to be awaited.
#[derive(Debug)]
#[must_use = "nothing is resolved until it is awaited"]
pub struct ResolveRequest {
    store: MetadataStore,
    parts: Deferred<Parts>,
    versioning_engine: Option<VersioningEngine>,
}

/// What is resolved, and how.
#[derive(Debug)]
struct Parts {
    feature: FeatureKey,
    samples: Option<Vec<RecordBatch>>,
    options: ResolveOptions,
}

/// How much of a feature's input has been processed at least once, in input units: the samples, groups or parents that
/// its dependencies bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputProgress {
    /// All units.
    pub total: usize,
    /// Those that have a row, however old.
    pub processed: usize,
}

impl InputProgress {
    /// From 0 to 1; `None` where there is no input at all.
    pub fn share(&self) -> Option<f64> {
        (self.total > 0).then(|| self.processed as f64 / self.total as f64)
    }
}

impl MetadataStore {
    /// Compares what should be with what is stored.
    ///
    /// Upstream rows come from this store or from its fallbacks, current rows from this store alone.
    ///
    /// # Errors
    /// Awaiting it gives [`Error::UnknownFeature`], [`Error::FeatureNotFound`] for an upstream feature,
    /// [`Error::RootWithoutSamples`], [`Error::ColumnCollision`], [`Error::MissingColumn`], the errors of filters, and
    /// what the backends say.
    pub fn resolve_update(&self, feature: impl IntoFeatureKey) -> ResolveRequest {
        let parts = |feature| Parts { feature, samples: None, options: ResolveOptions::default() };
        ResolveRequest {
            store: self.clone(),
            parts: Deferred::new(feature.into_feature_key().map(parts)),
            versioning_engine: None,
        }
    }

    /// How much of a feature's input has been processed at least once; `None` for a root, which has no input.
    ///
    /// # Errors
    /// As [`MetadataStore::resolve_update`].
    pub async fn input_progress(&self, feature: impl IntoFeatureKey) -> Result<Option<InputProgress>> {
        let key = feature.into_feature_key()?;
        if self.plan(&key)?.spec.is_root() {
            return Ok(None);
        }
        let units = Arc::new(Resolve::of_inputs(self, &key, &ResolveOptions::default()).await?).run().units().await?;
        Ok(Some(InputProgress { total: units.total, processed: units.total - units.missing }))
    }

    /// The provenance of rows that carry the data versions of their upstream rows, each in a column
    /// `metaxy_data_version_by_field` + `__` + the parts of the upstream key joined by `_`: the rows with the four version
    /// columns added.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] where such a column is missing.
    pub fn compute_provenance(&self, feature: impl IntoFeatureKey, data: impl IntoBatches) -> Result<Rows> {
        let plan = self.plan(&feature.into_feature_key()?)?;
        let batches = data.into_batches()?;
        let computed = batches
            .iter()
            .map(|batch| engine::provenance_of_batch(plan, self.inner.hasher, batch))
            .collect::<Result<Vec<_>>>()?;
        let schema = schema_of(&computed, || Arc::new(Schema::empty()));
        Ok(Rows::new(schema, computed))
    }
}

impl ResolveRequest {
    /// The samples of a root feature, with their `metaxy_provenance_by_field`; they stand for what is expected.
    pub fn samples(mut self, samples: impl IntoBatches) -> Self {
        self.parts.add(samples.into_batches(), |parts, samples| parts.samples = Some(samples));
        self
    }

    /// Only rows of one feature (an upstream one, or the resolved one) for which this is true.
    pub fn filter(self, feature: impl IntoFeatureKey, filter: impl IntoFilter) -> Self {
        let parts = feature.into_feature_key().map_err(Error::from).and_then(|key| Ok((key, filter.into_filter()?)));
        self.with(parts, |options, (key, filter)| options.filters.entry(key).or_default().push(filter))
    }

    /// Only current rows for which this is true.
    pub fn target_filter(self, filter: impl IntoFilter) -> Self {
        self.with(filter.into_filter(), |options, filter| options.target_filters.push(filter))
    }

    /// Only rows, of every feature that takes part, for which this is true.
    pub fn global_filter(self, filter: impl IntoFilter) -> Self {
        self.with(filter.into_filter(), |options, filter| options.global_filters.push(filter))
    }

    /// Current rows for which this is true are stale, whatever their versions say. May be called several times.
    pub fn staleness(self, predicate: impl IntoFilter) -> Self {
        self.with(predicate.into_filter(), |options, filter: Filter| options.staleness_predicates.push(filter))
    }

    /// Compares with nothing: everything that is expected is new.
    pub fn skip_comparison(self) -> Self {
        self.with(Ok(()), |options, ()| options.skip_comparison = true)
    }

    /// Who computes the increment, instead of what the store says.
    pub fn versioning_engine(mut self, engine: VersioningEngine) -> Self {
        self.versioning_engine = Some(engine);
        self
    }

    /// Bounds the bytes that this resolve holds, instead of what the store says
    /// ([`memory_limit`](super::StoreBuilder::memory_limit)).
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.store = self.store.with(|inner| inner.pool = inner.pool.limited(bytes));
        self
    }

    /// Locates the tables and makes the plan, to compute the increment while it is read. The storage system's own engine is
    /// not used.
    ///
    /// # Errors
    /// As the resolve itself, but for those of reading.
    pub async fn lazy(self) -> Result<LazyIncrement> {
        let Self { store, parts, versioning_engine } = self;
        let Parts { feature: key, samples, options } = parts.finish()?;
        if versioning_engine == Some(VersioningEngine::Native) {
            return Err(Error::Unsupported {
                what: format!("a lazy resolve of `{key}` inside the storage system"),
                hint: "await the request instead, or use versioning_engine `auto` or `arrow`".to_owned(),
            });
        }
        Ok(LazyIncrement::new(match samples {
            Some(samples) => Resolve::of_samples(&store, &key, samples, options).await?,
            None if store.plan(&key)?.spec.is_root() => return Err(Error::RootWithoutSamples(key)),
            None => Resolve::of_inputs(&store, &key, &options).await?,
        }))
    }

    /// Adds an option.
    fn with<T>(mut self, part: Result<T>, add: impl FnOnce(&mut ResolveOptions, T)) -> Self {
        self.parts.add(part, |parts, part| add(&mut parts.options, part));
        self
    }

    async fn run(self) -> Result<Increment> {
        let Self { store, parts, versioning_engine } = self;
        let Parts { feature: key, samples, options } = parts.finish()?;
        if let Some(samples) = samples {
            return Resolve::of_samples(&store, &key, samples, options).await?.in_engine().await;
        }
        if store.plan(&key)?.spec.is_root() {
            return Err(Error::RootWithoutSamples(key));
        }
        let resolve = Resolve::of_inputs(&store, &key, &options).await?;
        let engine = versioning_engine.unwrap_or(store.inner.versioning_engine);
        if engine == VersioningEngine::Arrow {
            return resolve.in_engine().await;
        }
        match resolve.natively().await? {
            NativeOutcome::Done(increment) => resolve.increment_of(increment),
            NativeOutcome::Declined(reason) if engine == VersioningEngine::Native => Err(Error::Unsupported {
                what: format!("resolving `{key}` inside the storage system"),
                hint: format!("{reason}; use versioning_engine `auto` or `arrow`"),
            }),
            NativeOutcome::Declined(reason) => {
                tracing::debug!(feature = %key, reason, "the storage system leaves a resolve to the engine");
                resolve.in_engine().await
            }
        }
    }
}

impl IntoFuture for ResolveRequest {
    type Output = Result<Increment>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}
