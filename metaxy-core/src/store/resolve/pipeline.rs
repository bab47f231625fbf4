//! The steps of a resolve: locate the tables, plan, try the storage system's own engine, run the Arrow engine, assemble
//! the result.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::{Stream, TryStreamExt};

use crate::blocking;
use crate::engine::{self, InputScan, PlanSource, Run, Table};
use crate::error::Result;
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;
use crate::plan::RowKind;
use crate::plan::{IncrementPlan, NativeIncrement, NativeOutcome, PlanTable, ResolveOptions};
use crate::scan::{Scan, ScanRequest};
use crate::spec::FeatureSpec;

use super::super::data::schema_of;
use super::super::read::CurrentFields;
use super::super::{Increment, MetadataStore, Rows, VersioningEngine};
use super::tables::Tables;

/// A resolve with located tables and a plan. No row has been read.
pub(in crate::store) struct Resolve {
    store: MetadataStore,
    spec: Arc<FeatureSpec>,
    tables: Tables,
    plan: Arc<IncrementPlan>,
    /// The schemas of the tables behind the inputs of the plan.
    inputs: Vec<SchemaRef>,
    /// The samples of a root, instead of inputs.
    samples: Option<Table>,
    /// The schema of new and stale rows.
    expected: SchemaRef,
    /// The schema of orphaned rows as they are stored.
    orphan_schema: SchemaRef,
}

impl Resolve {
    /// Plans a resolve whose expected rows are made from the feature's dependencies.
    pub(super) async fn of_inputs(store: &MetadataStore, key: &FeatureKey, options: &ResolveOptions) -> Result<Self> {
        let tables = Tables::locate(store, key).await?;
        let feature = store.plan(key)?;
        let table = |dep: &FeatureKey| -> Result<Option<PlanTable>> {
            let plan = store.plan(dep)?;
            Ok(tables.upstream.get(dep).map(|source| source.plan_table(plan)))
        };
        let upstream = feature.spec.deps.iter().map(|dep| table(dep.feature())).collect::<Result<Vec<_>>>()?;
        let current = tables.current_in_plan(feature);
        let plan = IncrementPlan::new(feature, store.inner.hasher, &upstream, current.as_ref(), options)?;
        let inputs = tables.input_schemas(&plan);
        let expected = engine::expected_schema(&plan, &feature.spec, &inputs)?;
        Self::new(store, feature.spec.clone(), tables, plan, inputs, None, expected)
    }

    /// Plans a resolve whose expected rows are given: only the current rows are read.
    pub(super) async fn of_samples(
        store: &MetadataStore,
        key: &FeatureKey,
        samples: Vec<RecordBatch>,
        options: ResolveOptions,
    ) -> Result<Self> {
        let tables = Tables::own(store, key).await?;
        let feature = store.plan(key)?.clone();
        let spec = feature.spec.clone();
        let current = tables.current_in_plan(&feature);
        let plan = IncrementPlan::new(&without_deps(&feature), store.inner.hasher, &[], current.as_ref(), &options)?;
        let completing = store.clone();
        let samples = blocking::run(move || completing.complete_samples(&feature, &samples, &options)).await?;
        let expected = samples.schema.clone();
        Self::new(store, spec, tables, plan, Vec::new(), Some(samples), expected)
    }

    fn new(
        store: &MetadataStore,
        spec: Arc<FeatureSpec>,
        tables: Tables,
        plan: IncrementPlan,
        inputs: Vec<SchemaRef>,
        samples: Option<Table>,
        expected: SchemaRef,
    ) -> Result<Self> {
        let orphan_schema = orphan_schema(&plan, tables.current.as_ref(), &expected)?;
        let (store, plan) = (store.clone(), Arc::new(plan));
        Ok(Self { store, spec, tables, plan, inputs, samples, expected, orphan_schema })
    }

    /// Lets the storage system run the plan, if all tables live in it.
    pub(super) async fn natively(&self, engine: VersioningEngine) -> Result<NativeOutcome> {
        let own = &self.store.inner.backend;
        for input in &self.plan.inputs {
            let Some(source) = self.tables.upstream.get(&input.feature) else {
                return Ok(NativeOutcome::Declined(format!("`{}` has no table", input.feature)));
            };
            if !Arc::ptr_eq(&source.store.inner.backend, own) {
                let reason = format!("`{}` is in store {}", input.feature, source.store.name());
                return Ok(NativeOutcome::Declined(reason));
            }
        }
        if engine == VersioningEngine::Auto && !own.prefers_native(&self.plan) {
            return Ok(NativeOutcome::Declined("the Arrow engine is faster".to_owned()));
        }
        own.resolve_natively(&self.plan).await
    }

    /// Returns the input of the engine.
    pub(in crate::store) fn run(self: &Arc<Self>) -> Run {
        Run {
            plan: self.plan.clone(),
            source: self.clone(),
            samples: self.samples.clone(),
            pool: self.store.inner.pool.clone(),
        }
    }

    /// Returns the feature.
    pub(in crate::store) fn feature(&self) -> &FeatureKey {
        &self.plan.feature
    }

    /// Returns the schema of new and stale rows.
    pub(in crate::store) fn expected_schema(&self) -> &SchemaRef {
        &self.expected
    }

    /// Returns the schema of the rows of a kind.
    pub(in crate::store) fn schema_of(&self, kind: RowKind) -> SchemaRef {
        match kind {
            RowKind::New | RowKind::Stale => self.expected.clone(),
            RowKind::Orphaned => CurrentFields::new(&self.spec, &self.orphan_schema).schema,
        }
    }

    /// Converts rows for users: orphaned ones have the fields of the current definition, as in a read.
    pub(in crate::store) fn shown(&self, kind: RowKind, batch: RecordBatch) -> Result<RecordBatch> {
        match kind {
            RowKind::New | RowKind::Stale => Ok(batch),
            RowKind::Orphaned => CurrentFields::new(&self.spec, batch.schema_ref()).apply(batch),
        }
    }

    /// Runs the plan in the Arrow engine.
    pub(super) async fn in_engine(self) -> Result<Increment> {
        let resolve = Arc::new(self);
        resolve.collect(resolve.run().rows(|_| true)).await
    }

    /// Assembles the result of an engine.
    pub(in crate::store) async fn collect(
        &self,
        mut rows: impl Stream<Item = Result<(RowKind, RecordBatch)>> + Unpin,
    ) -> Result<Increment> {
        let mut found = NativeIncrement::default();
        while let Some((kind, batch)) = rows.try_next().await? {
            match kind {
                RowKind::New => found.new.push(batch),
                RowKind::Stale => found.stale.push(batch),
                RowKind::Orphaned => found.orphaned.push(batch),
            }
        }
        self.increment_of(found)
    }

    /// Assembles the result.
    pub(super) fn increment_of(&self, found: NativeIncrement) -> Result<Increment> {
        let rows = |kind: RowKind, batches: Vec<RecordBatch>| -> Result<Rows> {
            let batches = batches.into_iter().map(|batch| self.shown(kind, batch)).collect::<Result<Vec<_>>>()?;
            Ok(Rows::new(schema_of(&batches, || self.schema_of(kind)), batches))
        };
        Ok(Increment {
            new: rows(RowKind::New, found.new)?,
            stale: rows(RowKind::Stale, found.stale)?,
            orphaned: rows(RowKind::Orphaned, found.orphaned)?,
            matched_by: self.plan.join_columns.clone(),
        })
    }
}

/// Returns the schema of orphaned rows as they are stored.
fn orphan_schema(plan: &IncrementPlan, table: Option<&SchemaRef>, expected: &SchemaRef) -> Result<SchemaRef> {
    let (Some(current), Some(table)) = (&plan.current, table) else { return Ok(expected.clone()) };
    let fields = current.orphan_columns.iter().map(|name| table.index_of(name)).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(table.project(&fields)?))
}

#[async_trait]
impl PlanSource for Resolve {
    async fn input(&self, index: usize) -> Result<InputScan> {
        let input = &self.plan.inputs[index];
        match self.tables.upstream.get(&input.feature) {
            Some(source) => source.store.begin_scan(&input.feature, &input.request).await.map(InputScan::Table),
            None => Ok(InputScan::Missing(self.inputs[index].clone())),
        }
    }

    async fn current(&self, request: &ScanRequest) -> Result<Scan> {
        self.store.begin_scan(&self.plan.feature, request).await
    }
}

/// Returns the feature as a root, whose samples are given.
fn without_deps(feature: &FeaturePlan) -> FeaturePlan {
    let mut spec = (*feature.spec).clone();
    spec.deps.clear();
    FeaturePlan { spec: Arc::new(spec), upstream: Vec::new(), ..feature.clone() }
}
