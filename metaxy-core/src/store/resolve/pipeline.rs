//! The steps of a resolve: locate the tables, plan, try the storage system's own engine, run ours, assemble the answer.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::blocking;
use crate::engine::{self, InputScan, Outcome, PlanSource, Table, Units};
use crate::error::Result;
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;
use crate::plan::{IncrementPlan, NativeIncrement, NativeOutcome, PlanTable, ResolveOptions};
use crate::scan::{Scan, ScanRequest};

use super::super::data::schema_of;
use super::super::read::CurrentFields;
use super::super::{Increment, MetadataStore, Rows};
use super::tables::Tables;

/// A resolve whose tables are located and whose plan is made. No row has been read.
pub(super) struct Resolve {
    store: MetadataStore,
    tables: Tables,
    plan: IncrementPlan,
    /// The schemas of the tables behind the inputs of the plan.
    inputs: Vec<SchemaRef>,
    /// The samples of a root, in place of inputs.
    samples: Option<Table>,
    /// The schema of new and stale rows.
    expected: SchemaRef,
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
        Ok(Self { store: store.clone(), tables, plan, inputs, samples: None, expected })
    }

    /// Plans a resolve whose expected rows are given: nothing is read but the current rows.
    pub(super) async fn of_samples(
        store: &MetadataStore,
        key: &FeatureKey,
        samples: Vec<RecordBatch>,
        options: ResolveOptions,
    ) -> Result<Self> {
        let tables = Tables::own(store, key).await?;
        let feature = store.plan(key)?.clone();
        let current = tables.current_in_plan(&feature);
        let plan = IncrementPlan::new(&without_deps(&feature), store.inner.hasher, &[], current.as_ref(), &options)?;
        let completing = store.clone();
        let samples = blocking::run(move || completing.complete_samples(&feature, &samples, &options)).await?;
        let expected = samples.schema.clone();
        Ok(Self { store: store.clone(), tables, plan, inputs: Vec::new(), samples: Some(samples), expected })
    }

    /// Lets the storage system run the plan, if all tables live in it.
    pub(super) async fn natively(&self) -> Result<NativeOutcome> {
        let own = &self.store.inner.backend;
        for input in &self.plan.inputs {
            let Some(source) = self.tables.upstream.get(&input.feature) else {
                return Ok(NativeOutcome::Declined(format!("`{}` has no table", input.feature)));
            };
            if !Arc::ptr_eq(&source.store.inner.backend, own) {
                let reason = format!("`{}` lives in store {}", input.feature, source.store.name());
                return Ok(NativeOutcome::Declined(reason));
            }
        }
        own.resolve_natively(&self.plan).await
    }

    /// Runs the plan in the Arrow engine.
    pub(super) async fn in_engine(mut self) -> Result<Increment> {
        let samples = self.samples.take();
        let Outcome { new, stale, orphaned } = engine::resolve(&self.plan, &self, samples).await?;
        self.increment_of(NativeIncrement { new, stale, orphaned })
    }

    /// Counts the units of input, and those that were never processed.
    pub(super) async fn count_units(&self) -> Result<Units> {
        engine::count_units(&self.plan, self).await
    }

    /// Assembles the answer.
    pub(super) fn increment_of(&self, found: NativeIncrement) -> Result<Increment> {
        let expected = |batches: Vec<RecordBatch>| Rows::new(schema_of(&batches, || self.expected.clone()), batches);
        let feature = self.store.plan(&self.plan.feature)?;
        Ok(Increment {
            new: expected(found.new),
            stale: expected(found.stale),
            orphaned: orphaned_rows(feature, self.orphan_schema()?, found.orphaned)?,
            matched_by: self.plan.join_columns.clone(),
        })
    }

    fn orphan_schema(&self) -> Result<SchemaRef> {
        let (Some(current), Some(table)) = (&self.plan.current, &self.tables.current) else {
            return Ok(self.expected.clone());
        };
        let fields = current.orphan_columns.iter().map(|name| table.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(table.project(&fields)?))
    }
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

/// Returns the feature as a root: its samples are given.
fn without_deps(feature: &FeaturePlan) -> FeaturePlan {
    let mut spec = (*feature.spec).clone();
    spec.deps.clear();
    FeaturePlan { spec: Arc::new(spec), upstream: Vec::new(), ..feature.clone() }
}

/// Returns orphaned rows as a read gives them: with by-field columns of the current definition.
fn orphaned_rows(feature: &FeaturePlan, table: SchemaRef, batches: Vec<RecordBatch>) -> Result<Rows> {
    let fields = CurrentFields::new(&feature.spec, &schema_of(&batches, || table));
    let batches = batches.into_iter().map(|batch| fields.apply(batch)).collect::<Result<_>>()?;
    Ok(Rows::new(fields.schema, batches))
}
