//! Resolving a feature: which samples have to be processed.

mod affected;
mod appending;
mod basis;
mod changed;
mod definition;
mod pipeline;
mod samples;
mod tables;

use std::future::IntoFuture;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use futures::FutureExt;
use futures::future::BoxFuture;
use tracing::field::Empty;

use crate::checkpoint::Checkpoint;
use crate::deferred::Deferred;
use crate::engine;
use crate::error::{Error, Result};
use crate::filter::{Filter, IntoFilter};
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::plan::{NativeOutcome, ResolveOptions};

use super::data::schema_of;
use super::trace::{Call, call, feature_of};
use super::{Increment, IntoBatches, LazyIncrement, MetadataStore, Rows, VersioningEngine};

use changed::{ChangedFields, with_all_fields};
use definition::definition_of;
use pipeline::Start;

pub use basis::Basis;
pub(super) use pipeline::Resolve;

/// A resolve, to be awaited.
#[derive(Debug)]
#[must_use = "nothing is resolved until it is awaited"]
pub struct ResolveRequest {
    store: MetadataStore,
    parts: Deferred<Parts>,
    versioning_engine: Option<VersioningEngine>,
    since: Since,
    with_changed_fields: bool,
}

/// The checkpoint since which only changes are read.
#[derive(Debug, Default)]
enum Since {
    /// The one that the store remembers, if any.
    #[default]
    Remembered,
    Given(Checkpoint),
    /// None: all rows are read.
    Never,
}

/// The feature that is resolved, and the options.
#[derive(Debug)]
struct Parts {
    feature: FeatureKey,
    samples: Option<Vec<RecordBatch>>,
    options: ResolveOptions,
}

/// The part of a feature's input that has been processed at least once, in input units: the samples, groups or parents
/// of its dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputProgress {
    /// All units.
    pub total: usize,
    /// Units that have a row, even an outdated one.
    pub processed: usize,
}

impl InputProgress {
    /// Returns the processed share from 0 to 1; `None` if there is no input.
    pub fn share(&self) -> Option<f64> {
        (self.total > 0).then(|| self.processed as f64 / self.total as f64)
    }
}

impl MetadataStore {
    /// Compares the expected rows of a feature with the stored ones.
    ///
    /// Upstream rows come from this store or from its fallbacks, current rows from this store alone. The store remembers
    /// the [checkpoint](Increment::checkpoint) of the last increment with the same definitions and options: if the backend
    /// [can tell](crate::backend::StoreBackend::appended) what has changed since, only the affected samples are read again,
    /// and none if no table has changed. [`Increment::basis`] says which it was.
    ///
    /// # Errors
    /// Awaiting it returns [`Error::UnknownFeature`], [`Error::FeatureNotFound`] for an upstream feature,
    /// [`Error::RootWithoutSamples`], [`Error::ColumnCollision`], [`Error::MissingColumn`], the errors of filters, and
    /// the errors of the backends.
    pub fn resolve_update(&self, feature: impl IntoFeatureKey) -> ResolveRequest {
        let parts = |feature| Parts { feature, samples: None, options: ResolveOptions::default() };
        ResolveRequest {
            store: self.clone(),
            parts: Deferred::new(feature.into_feature_key().map(parts)),
            versioning_engine: None,
            since: Since::default(),
            with_changed_fields: false,
        }
    }

    /// Returns the part of a feature's input that has been processed at least once; `None` for a root, which has no
    /// input.
    ///
    /// # Errors
    /// The errors of [`MetadataStore::resolve_update`].
    pub async fn input_progress(&self, feature: impl IntoFeatureKey) -> Result<Option<InputProgress>> {
        let key = feature.into_feature_key()?;
        if self.plan(&key)?.spec.is_root() {
            return Ok(None);
        }
        let units = Arc::new(Resolve::of_inputs(self, &key, &ResolveOptions::default()).await?).run().units().await?;
        Ok(Some(InputProgress { total: units.total, processed: units.total - units.missing }))
    }

    /// Computes the provenance of rows that carry the data versions of their upstream rows, each in a column
    /// `metaxy_data_version_by_field` + `__` + the parts of the upstream key joined by `_`. Returns the rows with the
    /// four version columns added.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] if such a column is missing.
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
    /// Sets the expected samples of a root feature, with their `metaxy_provenance_by_field`.
    pub fn samples(mut self, samples: impl IntoBatches) -> Self {
        self.parts.add(samples.into_batches(), |parts, samples| parts.samples = Some(samples));
        self
    }

    /// Keeps only rows of one feature (an upstream one, or the resolved one) for which the filter is true.
    pub fn filter(self, feature: impl IntoFeatureKey, filter: impl IntoFilter) -> Self {
        let parts = feature.into_feature_key().map_err(Error::from).and_then(|key| Ok((key, filter.into_filter()?)));
        self.with(parts, |options, (key, filter)| options.filters.entry(key).or_default().push(filter))
    }

    /// Keeps only current rows for which the filter is true.
    pub fn target_filter(self, filter: impl IntoFilter) -> Self {
        self.with(filter.into_filter(), |options, filter| options.target_filters.push(filter))
    }

    /// Keeps only rows for which the filter is true, of every feature that takes part.
    pub fn global_filter(self, filter: impl IntoFilter) -> Self {
        self.with(filter.into_filter(), |options, filter| options.global_filters.push(filter))
    }

    /// Makes current rows stale for which the predicate is true, whatever their versions. May be called several times.
    pub fn staleness(self, predicate: impl IntoFilter) -> Self {
        self.with(predicate.into_filter(), |options, filter: Filter| options.staleness_predicates.push(filter))
    }

    /// Skips the comparison: every expected row is new.
    pub fn skip_comparison(self) -> Self {
        self.with(Ok(()), |options, ()| options.skip_comparison = true)
    }

    /// Sets the engine that computes the increment, instead of the store's setting.
    pub fn versioning_engine(mut self, engine: VersioningEngine) -> Self {
        self.versioning_engine = Some(engine);
        self
    }

    /// Sets the limit of the bytes that this resolve holds, instead of the store's
    /// ([`memory_limit`](super::StoreBuilder::memory_limit)).
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.store = self.store.with(|inner| inner.pool = inner.pool.limited(bytes));
        self
    }

    /// Sets the checkpoint since which the increment is computed, in place of the one that the store remembers: only what
    /// has changed since is read. The increment is the same as without it. If it cannot be told what has changed, or if
    /// that would cost more than reading all rows, all rows are read, and [`Increment::basis`] says why.
    pub fn since(mut self, checkpoint: &Checkpoint) -> Self {
        self.since = Since::Given(checkpoint.clone());
        self
    }

    /// Reads all rows, whatever the store remembers. The increment is the same.
    pub fn from_all_rows(mut self) -> Self {
        self.since = Since::Never;
        self
    }

    /// Adds the column `metaxy_changed_fields` to new and stale rows: the list of the fields whose provenance differs from
    /// that of the stored row, so that only they are made again. All fields are listed of new rows, and of stale ones for
    /// which a [staleness](Self::staleness) predicate is true. Writes leave the column out.
    pub fn with_changed_fields(mut self) -> Self {
        self.with_changed_fields = true;
        self
    }

    /// Locates the tables and makes the plan; the increment is computed while it is read. The storage system's own
    /// engine is used if [`versioning_engine`](Self::versioning_engine) was called with [`VersioningEngine::Native`], or
    /// if the settings of the store name a cluster; checkpoints are then left aside.
    ///
    /// # Errors
    /// The errors of the resolve itself, except those of reading.
    pub async fn lazy(self) -> Result<LazyIncrement> {
        self.begin_call(true).run(self.plan()).await
    }

    async fn plan(self) -> Result<LazyIncrement> {
        let Self { store, parts, versioning_engine, since, with_changed_fields } = self;
        let Parts { feature: key, samples, options } = parts.finish()?;
        if with_changed_fields {
            return Err(Error::Unsupported {
                what: format!("a lazy resolve of `{key}` with changed fields"),
                hint: "await the request instead".to_owned(),
            });
        }
        if let Some(samples) = samples {
            return Ok(LazyIncrement::new(Resolve::of_samples(&store, &key, samples, options).await?));
        }
        if store.plan(&key)?.spec.is_root() {
            return Err(Error::RootWithoutSamples(key));
        }
        let engine = lazy_engine(&store, versioning_engine, &since);
        if engine != VersioningEngine::Arrow {
            return Ok(LazyIncrement::native(Resolve::of_inputs(&store, &key, &options).await?, engine));
        }
        if options.skip_comparison {
            return Ok(LazyIncrement::new(Resolve::of_inputs(&store, &key, &options).await?));
        }
        let since = if matches!(since, Since::Given(_)) { since } else { Since::Never };
        let (start, known) = begin(&store, &key, &options, since).await?;
        let resolve = Resolve::of_inputs(&store, &key, &options).await?.started(start);
        Ok(LazyIncrement::new(match known {
            Some(known) => resolve.since(known.contents()).await?,
            None => resolve,
        }))
    }

    /// Adds an option.
    fn with<T>(mut self, part: Result<T>, add: impl FnOnce(&mut ResolveOptions, T)) -> Self {
        self.parts.add(part, |parts, part| add(&mut parts.options, part));
        self
    }

    fn begin_call(&self, lazy: bool) -> Call {
        call!(
            "resolve",
            feature = feature_of(&self.parts, |parts| parts.feature.to_string()),
            store = self.store.name(),
            lazy = lazy,
            basis = Empty,
            new = Empty,
            stale = Empty,
            orphaned = Empty
        )
    }

    async fn run(self) -> Result<Increment> {
        self.begin_call(false).run(self.resolve()).await
    }

    async fn resolve(self) -> Result<Increment> {
        let Self { store, parts, versioning_engine, since, with_changed_fields } = self;
        let Parts { feature: key, samples, options } = parts.finish()?;
        if let Some(samples) = samples {
            let resolve = Resolve::of_samples(&store, &key, samples, options).await?;
            return compute(resolve, VersioningEngine::Arrow, with_changed_fields).await;
        }
        if store.plan(&key)?.spec.is_root() {
            return Err(Error::RootWithoutSamples(key));
        }
        let engine = versioning_engine.unwrap_or(store.inner.versioning_engine);
        if options.skip_comparison {
            return compute(Resolve::of_inputs(&store, &key, &options).await?, engine, with_changed_fields).await;
        }
        let (start, known) = begin(&store, &key, &options, since).await?;
        if let (Some(start), Some(known)) = (&start, &known)
            && known.contents().is_empty_at(&start.definition, &start.marks)
            && engine != VersioningEngine::Native
        {
            tracing::debug!(feature = %key, "no table has changed since the feature was found up to date");
            let plan = store.plan(&key)?;
            let increment = Increment::unchanged(known, crate::plan::join_columns(plan)?);
            return if with_changed_fields { with_all_fields(&plan.spec, increment) } else { Ok(increment) };
        }
        let mut resolve = Resolve::of_inputs(&store, &key, &options).await?.started(start);
        if let Some(known) = known.filter(|_| engine != VersioningEngine::Native) {
            resolve = resolve.since(known.contents()).await?;
        }
        let increment = compute(resolve, engine, with_changed_fields).await?;
        if let Some(checkpoint) = increment.checkpoint() {
            store.inner.remembered.keep(checkpoint).await;
        }
        Ok(increment)
    }
}

/// Returns the engine of a lazy increment.
fn lazy_engine(store: &MetadataStore, asked: Option<VersioningEngine>, since: &Since) -> VersioningEngine {
    let on_cluster = store.inner.backend.computes_on_cluster() && !matches!(since, Since::Given(_));
    match asked {
        Some(VersioningEngine::Native) => VersioningEngine::Native,
        Some(VersioningEngine::Arrow) => VersioningEngine::Arrow,
        _ if on_cluster => asked.unwrap_or(store.inner.versioning_engine),
        _ => VersioningEngine::Arrow,
    }
}

/// Returns the state before anything is read, and the checkpoint that is known: the given one, or else the last one.
async fn begin(
    store: &MetadataStore,
    key: &FeatureKey,
    options: &ResolveOptions,
    since: Since,
) -> Result<(Option<Start>, Option<Checkpoint>)> {
    let definition = definition_of(store, key, options)?;
    let known = match since {
        Since::Given(checkpoint) => Some(checkpoint),
        Since::Remembered => store.inner.remembered.find(key, &definition).await,
        Since::Never => None,
    };
    Ok((store.marks(key).await?.map(|marks| Start { definition, marks }), known))
}

/// Computes an increment, with its changed fields if they are asked for.
async fn compute(resolve: Resolve, engine: VersioningEngine, with_changed_fields: bool) -> Result<Increment> {
    let changed = with_changed_fields.then(|| ChangedFields::of(&resolve));
    let increment = increment_of(resolve, engine).await?;
    match changed {
        Some(changed) => changed.add_to(increment).await,
        None => Ok(increment),
    }
}

async fn increment_of(resolve: Resolve, engine: VersioningEngine) -> Result<Increment> {
    if engine == VersioningEngine::Arrow || !resolve.reads_all() {
        return resolve.in_engine().await;
    }
    match resolve.natively(engine).await? {
        NativeOutcome::Done(increment) => resolve.increment_of(increment),
        NativeOutcome::Rows(rows) => resolve.collect(rows.into_stream()).await,
        NativeOutcome::Declined(reason) if engine == VersioningEngine::Native => Err(resolve.declined(&reason)),
        NativeOutcome::Declined(reason) => {
            tracing::debug!(feature = %resolve.feature(), reason, "the Arrow engine runs a declined resolve");
            resolve.in_engine().await
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
