//! Resolving a feature: which samples have to be processed again.

use std::collections::HashMap;
use std::future::IntoFuture;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};

use crate::blocking;
use crate::columns;
use crate::engine::{self, Outcome, Table};
use crate::error::{Error, Result};
use crate::filter::{Filter, IntoFilter};
use crate::graph::FeaturePlan;
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::plan::{IncrementPlan, PlanTable, ResolveOptions};

use super::data::schema_of;
use super::duplicates::one_row_each;
use super::read::CurrentFields;
use super::write::check_ids;
use super::{Increment, IntoBatches, MetadataStore, Rows, Served, VersioningEngine, check_system_columns};

/// A resolve, to be awaited.
#[derive(Debug)]
#[must_use = "nothing is resolved until it is awaited"]
pub struct ResolveRequest {
    store: MetadataStore,
    feature: Result<FeatureKey>,
    samples: Option<Result<Vec<RecordBatch>>>,
    options: Result<ResolveOptions>,
    versioning_engine: Option<VersioningEngine>,
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
        ResolveRequest {
            store: self.clone(),
            feature: feature.into_feature_key().map_err(Error::from),
            samples: None,
            options: Ok(ResolveOptions::default()),
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
        let sources = self.sources(&key).await?;
        let plan = self.increment_plan(&key, &sources, &ResolveOptions::default())?;
        let outcome = self.run_engine(&plan, &sources, None, true).await?;
        let units = outcome.units;
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
        self.samples = Some(samples.into_batches());
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

    /// Adds an option, unless it, or one before it, is broken.
    fn with<T>(mut self, part: Result<T>, add: impl FnOnce(&mut ResolveOptions, T)) -> Self {
        self.options = self.options.and_then(|mut options| {
            add(&mut options, part?);
            Ok(options)
        });
        self
    }

    async fn run(self) -> Result<Increment> {
        let Self { store, feature, samples, options, versioning_engine } = self;
        let (key, options) = (feature?, options?);
        let feature = store.plan(&key)?;
        let samples = samples.transpose()?;
        if feature.spec.is_root() && samples.is_none() {
            return Err(Error::RootWithoutSamples(key));
        }
        let sources = match &samples {
            Some(_) => store.own_source(&key).await?,
            None => store.sources(&key).await?,
        };
        let plan = match &samples {
            Some(_) => store.samples_plan(feature, &sources, &options)?,
            None => store.increment_plan(&key, &sources, &options)?,
        };
        let engine = versioning_engine.unwrap_or(store.inner.versioning_engine);
        if let (true, None) = (engine != VersioningEngine::Arrow, &samples) {
            match store.resolve_natively(&plan, &sources).await? {
                Ok(increment) => return Ok(increment),
                Err(reason) if engine == VersioningEngine::Native => {
                    return Err(Error::Unsupported {
                        what: format!("resolving `{key}` inside the storage system"),
                        hint: format!("{reason}; use versioning_engine `auto` or `arrow`"),
                    });
                }
                Err(_) => {}
            }
        }
        let samples = samples.map(|batches| store.complete_samples(feature, batches, &options)).transpose()?;
        let expected = store.expected_schema(&plan, feature, &sources, samples.as_ref())?;
        let outcome = store.run_engine(&plan, &sources, samples, false).await?;
        store.finish_increment(&plan, &sources, expected, outcome).await
    }
}

impl IntoFuture for ResolveRequest {
    type Output = Result<Increment>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

/// The tables that a resolve reads.
struct Sources {
    /// By upstream feature; an optional one may be missing.
    upstream: HashMap<FeatureKey, Served>,
    /// The feature's own table, where there is one.
    current: Option<SchemaRef>,
}

impl MetadataStore {
    async fn own_source(&self, key: &FeatureKey) -> Result<Sources> {
        let current = self.own_table(key).await?;
        if let Some(schema) = &current {
            check_system_columns(key, schema)?;
        }
        Ok(Sources { upstream: HashMap::new(), current })
    }

    /// Looks all tables up at once: on an object store every look is a round trip.
    async fn sources(&self, key: &FeatureKey) -> Result<Sources> {
        let deps = &self.plan(key)?.spec.deps;
        let upstream = try_join_all(deps.iter().map(|dep| async move {
            match self.serving(&dep.feature).await? {
                Some(served) => check_system_columns(&dep.feature, &served.schema).map(|()| Some(served)),
                None if dep.optional => Ok(None),
                None => Err(self.not_found(&dep.feature).await),
            }
        }));
        let (mut sources, upstream) = futures::try_join!(self.own_source(key), upstream)?;
        let found = deps.iter().zip(upstream).filter_map(|(dep, served)| Some((dep.feature.clone(), served?)));
        sources.upstream = found.collect();
        Ok(sources)
    }

    fn increment_plan(&self, key: &FeatureKey, sources: &Sources, options: &ResolveOptions) -> Result<IncrementPlan> {
        let feature = self.plan(key)?;
        let table = |dep: &FeatureKey| -> Result<Option<PlanTable>> {
            let plan = self.plan(dep)?;
            Ok(sources.upstream.get(dep).map(|served| served.plan_table(plan)))
        };
        let upstream = feature.spec.deps.iter().map(|dep| table(&dep.feature)).collect::<Result<Vec<_>>>()?;
        IncrementPlan::new(feature, self.inner.hasher, &upstream, current_table(feature, sources).as_ref(), options)
    }

    /// The plan of a resolve whose expected rows are given: nothing is read but the current rows.
    fn samples_plan(
        &self,
        feature: &FeaturePlan,
        sources: &Sources,
        options: &ResolveOptions,
    ) -> Result<IncrementPlan> {
        let mut alone = feature.clone();
        let mut spec = (*feature.spec).clone();
        spec.deps.clear();
        alone.spec = Arc::new(spec);
        alone.upstream.clear();
        IncrementPlan::new(&alone, self.inner.hasher, &[], current_table(feature, sources).as_ref(), options)
    }

    async fn resolve_natively(&self, plan: &IncrementPlan, sources: &Sources) -> Result<Result<Increment, String>> {
        for input in &plan.inputs {
            match sources.upstream.get(&input.feature) {
                None => return Ok(Err(format!("`{}` has no table", input.feature))),
                Some(served) if !Arc::ptr_eq(&served.store.inner.backend, &self.inner.backend) => {
                    return Ok(Err(format!("`{}` lives in store {}", input.feature, served.store.name())));
                }
                Some(_) => {}
            }
        }
        let native = match self.inner.backend.resolve_natively(plan).await? {
            Ok(native) => native,
            Err(reason) => return Ok(Err(reason)),
        };
        let feature = self.plan(&plan.feature)?;
        let expected = self.expected_schema(plan, feature, sources, None)?;
        let orphaned = orphan_schema(plan, sources, &expected)?;
        Ok(Ok(Increment {
            new: Rows::new(schema_of(&native.new, || expected.clone()), native.new),
            stale: Rows::new(schema_of(&native.stale, || expected.clone()), native.stale),
            orphaned: orphaned_rows(feature, orphaned, native.orphaned)?,
            matched_by: plan.join_columns.clone(),
        }))
    }

    /// Samples with complete versions. The filters on the resolved feature hold for them too, so that a sample whose row
    /// is filtered out does not look new.
    fn complete_samples(
        &self,
        feature: &FeaturePlan,
        batches: Vec<RecordBatch>,
        options: &ResolveOptions,
    ) -> Result<Table> {
        let own = options.filters.get(&feature.spec.key).into_iter().flatten();
        let filters: Vec<Filter> = own.chain(&options.global_filters).chain(&options.target_filters).cloned().collect();
        let complete = |batch: &RecordBatch| {
            check_ids(feature, batch)?;
            let versions = engine::complete_versions(&feature.spec, batch, self.inner.hasher)?;
            let schema = batch.schema();
            let own =
                schema.fields().iter().zip(batch.columns()).filter(|(field, _)| !columns::is_system(field.name()));
            let own = own.map(|(field, array)| (field.name().clone(), array.clone()));
            let batch = engine::batch_of(own.chain(versions).collect(), batch.num_rows())?;
            if filters.is_empty() {
                return Ok(batch);
            }
            let passes = Filter::all(filters.iter().cloned()).bind(batch.schema_ref())?.evaluate(&batch)?;
            Ok(filter_record_batch(&batch, &passes)?)
        };
        let batches = batches.iter().map(complete).collect::<Result<Vec<_>>>()?;
        let schema = schema_of(&batches, || {
            let ids = feature.spec.id_columns.iter().map(|id| Field::new(id, DataType::Utf8, true));
            let versions = columns::VERSIONS.iter().filter_map(|name| columns::field(name, feature.spec.struct_keys()));
            Arc::new(Schema::new(ids.chain(versions).collect::<Vec<_>>()))
        });
        if let Some(other) = batches.iter().find(|batch| batch.schema_ref().fields() != schema.fields()) {
            return Err(Error::InvalidColumn {
                feature: feature.spec.key.clone(),
                column: "*".to_owned(),
                reason: format!("the batches of samples differ in their columns: {schema} and {}", other.schema()),
            });
        }
        let batches = one_row_each(&feature.spec, &schema, batches, self.inner.duplicates)?;
        Table::new(schema, batches)
    }

    fn expected_schema(
        &self,
        plan: &IncrementPlan,
        feature: &FeaturePlan,
        sources: &Sources,
        samples: Option<&Table>,
    ) -> Result<SchemaRef> {
        match samples {
            Some(table) => Ok(table.schema.clone()),
            None => engine::expected_schema(plan, &feature.spec, &input_schemas(plan, sources)),
        }
    }

    async fn run_engine(
        &self,
        plan: &IncrementPlan,
        sources: &Sources,
        samples: Option<Table>,
        count_units: bool,
    ) -> Result<Outcome> {
        let schemas = input_schemas(plan, sources);
        let inputs = plan.inputs.iter().zip(schemas).map(|(input, schema)| async move {
            match sources.upstream.get(&input.feature) {
                None => Table::new(schema, Vec::new()),
                Some(served) => {
                    let (schema, stream) = served.store.scan(&input.feature, &input.request).await?;
                    Table::collect(schema, stream).await
                }
            }
        });
        // The current rows are those of an earlier moment than the inputs: a sample that is written and processed between
        // the two is done once more. The other way round its result would be taken for an orphan.
        let current = match &plan.current {
            Some(current) => Some((self.begin_scan(&plan.feature, &current.request).await?, &current.request)),
            None => None,
        };
        let current = async {
            let Some((scan, request)) = current else { return Ok(None) };
            let (schema, stream) = engine::finish(scan, request).await?;
            Table::collect(schema, stream).await.map(Some)
        };
        let (inputs, current) = futures::try_join!(try_join_all(inputs), current)?;
        let plan = plan.clone();
        let rows = engine::Rows { inputs, samples, current };
        blocking::run(move || engine::execute(&plan, rows, count_units)).await
    }

    async fn finish_increment(
        &self,
        plan: &IncrementPlan,
        sources: &Sources,
        expected: SchemaRef,
        outcome: Outcome,
    ) -> Result<Increment> {
        let orphaned = match (outcome.orphans, &plan.current) {
            (Some(orphans), Some(current)) => {
                let mut request = current.request.clone();
                request.columns = None;
                let (schema, stream) = self.scan(&plan.feature, &request).await?;
                orphans.select(plan, schema, stream).await?
            }
            _ => Vec::new(),
        };
        Ok(Increment {
            new: Rows::new(schema_of(&outcome.new, || expected.clone()), outcome.new),
            stale: Rows::new(schema_of(&outcome.stale, || expected.clone()), outcome.stale),
            orphaned: orphaned_rows(self.plan(&plan.feature)?, orphan_schema(plan, sources, &expected)?, orphaned)?,
            matched_by: plan.join_columns.clone(),
        })
    }
}

fn current_table(feature: &FeaturePlan, sources: &Sources) -> Option<PlanTable> {
    let schema = sources.current.clone()?;
    Some(PlanTable { schema, feature_version: feature.feature_version.clone() })
}

/// The schemas of the tables behind the inputs. A missing optional one has its id columns alone, typed like those of the
/// inputs that are there, or, where there is none, like those of the feature's own table.
fn input_schemas(plan: &IncrementPlan, sources: &Sources) -> Vec<SchemaRef> {
    let type_in = |schema: &Schema, name: &str| Some(schema.field_with_name(name).ok()?.data_type().clone());
    let known = |name: &str| {
        let upstream = plan.inputs.iter().find_map(|input| {
            let schema = &sources.upstream.get(&input.feature)?.schema;
            let column = input.columns.iter().find(|column| column.name == name)?;
            type_in(schema, &column.source)
        });
        upstream.or_else(|| type_in(sources.current.as_ref()?, name))
    };
    let schema = |input: &crate::plan::InputPlan| match sources.upstream.get(&input.feature) {
        Some(served) => served.schema.clone(),
        None => {
            let field = |column: &crate::plan::InputColumn| {
                Field::new(&column.source, known(&column.name).unwrap_or(DataType::Utf8), true)
            };
            Arc::new(Schema::new(input.columns.iter().map(field).collect::<Vec<_>>()))
        }
    };
    plan.inputs.iter().map(schema).collect()
}

/// Orphaned rows as a read gives them: with by-field columns of the current definition.
fn orphaned_rows(feature: &FeaturePlan, table: SchemaRef, batches: Vec<RecordBatch>) -> Result<Rows> {
    let fields = CurrentFields::new(&feature.spec, &schema_of(&batches, || table));
    let batches = batches.into_iter().map(|batch| fields.apply(batch)).collect::<Result<_>>()?;
    Ok(Rows::new(fields.schema, batches))
}

/// The schema of orphaned rows.
fn orphan_schema(plan: &IncrementPlan, sources: &Sources, otherwise: &SchemaRef) -> Result<SchemaRef> {
    let (Some(current), Some(table)) = (&plan.current, &sources.current) else { return Ok(otherwise.clone()) };
    let fields = current.orphan_columns.iter().map(|name| table.index_of(name)).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(table.project(&fields)?))
}
