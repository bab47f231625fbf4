//! The steps of a resolve: locate the tables, plan, try the storage system's own engine, run the Arrow engine, assemble
//! the result.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::{Stream, TryStreamExt};

use crate::backend::{NativeRequest, SharedBackend};
use crate::blocking;
use crate::checkpoint::{Checkpoint, Contents, Mark, Serving};
use crate::engine::{self, InputScan, KindStream, PlanSource, Run, Table};
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;
use crate::plan::{IncrementPlan, NativeIncrement, NativeOutcome, NativeRows, PlanTable, ResolveOptions, RowKind};
use crate::scan::{Scan, ScanRequest};
use crate::spec::FeatureSpec;

use super::super::data::schema_of;
use super::super::read::CurrentFields;
use super::super::{Increment, MetadataStore, Rows, VersioningEngine};
use super::affected::{Affected, Scope, Searched};
use super::basis::Basis;
use super::tables::Tables;

/// The number of rows up to which an increment carries a checkpoint.
const MOST_OPEN: usize = 1_000_000;
/// About how many bytes a key takes in memory, with its place in the list of keys.
const KEY_BYTES: usize = 256;

/// The state before anything is read, from which the increment's checkpoint is made.
pub(super) struct Start {
    pub(super) definition: String,
    pub(super) marks: Vec<Mark>,
}

/// A resolve with located tables and a plan. No row has been read.
pub(in crate::store) struct Resolve {
    pub(super) store: MetadataStore,
    pub(super) spec: Arc<FeatureSpec>,
    tables: Tables,
    pub(super) plan: Arc<IncrementPlan>,
    /// The schemas of the tables behind the inputs of the plan.
    inputs: Vec<SchemaRef>,
    /// The samples of a root, instead of inputs.
    samples: Option<Table>,
    /// The schema of new and stale rows.
    pub(super) expected: SchemaRef,
    /// The schema of orphaned rows as they are stored.
    orphan_schema: SchemaRef,
    start: Option<Start>,
    /// The keys of the rows that are read; `None` if all are.
    affected: Option<Arc<Affected>>,
    basis: Basis,
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
        let basis = Basis::AllRows { reason: None };
        let (start, affected) = (None, None);
        Ok(Self { store, spec, tables, plan, inputs, samples, expected, orphan_schema, start, affected, basis })
    }

    /// Sets the state before anything is read, so that the increment carries a checkpoint.
    pub(super) fn started(mut self, start: Option<Start>) -> Self {
        self.start = start;
        self
    }

    /// Limits the rows that are read to those that have changed since a checkpoint, if that can be told.
    pub(super) async fn since(mut self, checkpoint: &Contents) -> Result<Self> {
        let found = match &self.start {
            None => Err("the backend of one of its tables does not tell positions".to_owned()),
            Some(start) if start.definition != checkpoint.definition => {
                Err("the checkpoint was made with other definitions or options".to_owned())
            }
            Some(start) => Affected::since(self.scope(), checkpoint, &start.marks).await?,
        };
        match found {
            Ok(affected) => {
                self.basis = Basis::Changes { keys: affected.len() };
                self.affected = Some(Arc::new(affected));
            }
            Err(reason) => self.basis = Basis::AllRows { reason: Some(reason) },
        }
        tracing::debug!(feature = %self.plan.feature, basis = %self.basis, "resolving since a checkpoint");
        Ok(self)
    }

    /// Returns whether all rows are read.
    pub(super) fn reads_all(&self) -> bool {
        self.affected.is_none()
    }

    /// Returns the store, the definition and the plan.
    pub(super) fn parts(&self) -> (MetadataStore, Arc<FeatureSpec>, Arc<IncrementPlan>) {
        (self.store.clone(), self.spec.clone(), self.plan.clone())
    }

    fn scope(&self) -> Scope<'_> {
        let inputs = (0..self.plan.inputs.len()).map(|index| self.searched_input(index));
        let current = self.plan.current.iter().map(|current| self.searched_current(&current.request));
        let most_keys = MOST_OPEN.min(self.store.inner.pool.share(1) / KEY_BYTES);
        Scope { plan: &self.plan, tables: inputs.chain(current).collect(), serving: self.serving(), most_keys }
    }

    fn searched_input(&self, index: usize) -> Option<Searched<'_>> {
        let input = &self.plan.inputs[index];
        let source = self.tables.upstream.get(&input.feature)?;
        let join = self.plan.join_columns.iter().map(|name| input.source_of(name).to_owned()).collect();
        let (store, schema, ids) = (&source.store, &source.schema, input.request.keep_latest.as_deref()?);
        Some(Searched { store, feature: &input.feature, schema, request: &input.request, join, ids })
    }

    fn searched_current<'a>(&'a self, request: &'a ScanRequest) -> Option<Searched<'a>> {
        let (store, feature, schema) = (&self.store, &self.plan.feature, self.tables.current.as_ref()?);
        let join = self.plan.join_columns.clone();
        Some(Searched { store, feature, schema, request, join, ids: &self.spec.id_columns })
    }

    /// Returns the stores that serve the tables.
    fn serving(&self) -> Vec<Serving> {
        let serving =
            |feature: &FeatureKey, store: &MetadataStore| Serving { feature: feature.clone(), store: store.place() };
        let upstream = self.plan.inputs.iter().filter_map(|input| {
            let source = self.tables.upstream.get(&input.feature)?;
            Some(serving(&input.feature, &source.store))
        });
        let own = self.tables.current.iter().map(|_| serving(&self.plan.feature, &self.store));
        upstream.chain(own).collect()
    }

    /// Returns the checkpoint of an increment; `None` if the backend does not tell positions, or if it is too large.
    fn checkpoint(&self, found: &NativeIncrement) -> Result<Option<Checkpoint>> {
        let Some(start) = &self.start else { return Ok(None) };
        let kinds = [&found.new, &found.stale, &found.orphaned];
        let rows: usize = kinds.into_iter().flatten().map(RecordBatch::num_rows).sum();
        if rows > MOST_OPEN {
            return Ok(None);
        }
        let keys = |batch: &RecordBatch| batch_of_columns(batch, &self.plan.join_columns);
        let open = kinds.into_iter().flatten().map(keys).collect::<Result<Vec<_>>>()?;
        Ok(Some(Checkpoint::new(Contents {
            feature: self.plan.feature.clone(),
            definition: start.definition.clone(),
            marks: start.marks.clone(),
            serving: self.serving(),
            open,
            expected: self.expected.clone(),
            orphaned: self.schema_of(RowKind::Orphaned),
        })))
    }

    /// Lets the storage system run the plan, if it reaches all tables.
    pub(super) async fn natively(&self, engine: VersioningEngine) -> Result<NativeOutcome> {
        let inputs = match self.native_inputs(engine) {
            Ok(inputs) => inputs,
            Err(reason) => return Ok(NativeOutcome::Declined(reason)),
        };
        let limits = self.store.inner.pool.limits();
        let request = NativeRequest { plan: &self.plan, inputs: &inputs, limits: &limits };
        self.store.inner.backend.resolve_natively(request).await
    }

    /// Returns the backends of the inputs, or else why the storage system is not asked.
    pub(super) fn native_inputs(&self, engine: VersioningEngine) -> Result<Vec<SharedBackend>, String> {
        let own = &self.store.inner.backend;
        let mut inputs = Vec::with_capacity(self.plan.inputs.len());
        for input in &self.plan.inputs {
            let source = self.tables.upstream.get(&input.feature);
            let source = source.ok_or_else(|| format!("`{}` has no table", input.feature))?;
            let backend = &source.store.inner.backend;
            if !Arc::ptr_eq(backend, own) && !own.reaches(backend.as_ref()) {
                return Err(format!("`{}` is in store {}", input.feature, source.store.name()));
            }
            inputs.push(backend.clone());
        }
        if engine == VersioningEngine::Auto && !own.prefers_native(&self.plan) {
            return Err("the Arrow engine is faster".to_owned());
        }
        Ok(inputs)
    }

    /// Returns the rows of an increment that the storage system computes; `None` if the Arrow engine has to.
    pub(in crate::store) async fn native_rows(&self, engine: VersioningEngine) -> Result<Option<KindStream>> {
        if engine == VersioningEngine::Arrow {
            return Ok(None);
        }
        match self.natively(engine).await? {
            NativeOutcome::Done(increment) => Ok(Some(NativeRows::from(increment).into_stream())),
            NativeOutcome::Rows(rows) => Ok(Some(rows.into_stream())),
            NativeOutcome::Declined(reason) if engine == VersioningEngine::Native => Err(self.declined(&reason)),
            NativeOutcome::Declined(reason) => {
                tracing::debug!(feature = %self.feature(), reason, "the Arrow engine runs a declined resolve");
                Ok(None)
            }
        }
    }

    /// Returns the error of a plan that only the storage system may run, and that it declines.
    pub(super) fn declined(&self, reason: &str) -> Error {
        Error::Unsupported {
            what: format!("resolving `{}` inside the storage system", self.plan.feature),
            hint: format!("{reason}; use versioning_engine `auto` or `arrow`"),
        }
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
        let checkpoint = self.checkpoint(&found)?;
        let rows = |kind: RowKind, batches: Vec<RecordBatch>| -> Result<Rows> {
            let batches = batches.into_iter().map(|batch| self.shown(kind, batch)).collect::<Result<Vec<_>>>()?;
            Ok(Rows::new(schema_of(&batches, || self.schema_of(kind)), batches))
        };
        Ok(Increment {
            new: rows(RowKind::New, found.new)?,
            stale: rows(RowKind::Stale, found.stale)?,
            orphaned: rows(RowKind::Orphaned, found.orphaned)?,
            matched_by: self.plan.join_columns.clone(),
            basis: self.basis.clone(),
            checkpoint,
        })
    }
}

/// Returns some columns of a batch.
fn batch_of_columns(batch: &RecordBatch, names: &[String]) -> Result<RecordBatch> {
    let columns = names.iter().map(|name| batch.schema_ref().index_of(name)).collect::<Result<Vec<_>, _>>()?;
    Ok(batch.project(&columns)?)
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
        if let (Some(affected), Some(table)) = (&self.affected, self.searched_input(index)) {
            return affected.scan(&table, index).await.map(InputScan::Table);
        }
        match self.tables.upstream.get(&input.feature) {
            Some(source) => source.store.begin_scan(&input.feature, &input.request).await.map(InputScan::Table),
            None => Ok(InputScan::Missing(self.inputs[index].clone())),
        }
    }

    async fn current(&self, request: &ScanRequest) -> Result<Scan> {
        if let (Some(affected), Some(table)) = (&self.affected, self.searched_current(request)) {
            return affected.scan(&table, self.plan.inputs.len()).await;
        }
        self.store.begin_scan(&self.plan.feature, request).await
    }
}

/// Returns the feature as a root, whose samples are given.
fn without_deps(feature: &FeaturePlan) -> FeaturePlan {
    let mut spec = (*feature.spec).clone();
    spec.deps.clear();
    FeaturePlan { spec: Arc::new(spec), upstream: Vec::new(), ..feature.clone() }
}
