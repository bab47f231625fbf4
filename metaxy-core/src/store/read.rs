//! Reading a feature.

use std::future::IntoFuture;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use crate::backend::{BatchStream, Scan, ScanRequest};
use crate::columns;
use crate::deferred::Deferred;
use crate::engine;
use crate::error::{Error, Result};
use crate::filter::{Filter, IntoFilter};
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::plan::{children_only, read_request};
use crate::spec::FeatureSpec;

use super::trace::{Passing, call, feature_of};
use super::{MetadataStore, RowStream, Rows, check_system_columns};

/// A read, to be awaited. By default it returns the newest row of every sample of the current feature version that is
/// not deleted.
#[derive(Debug)]
#[must_use = "nothing is read until it is awaited"]
pub struct ReadRequest {
    store: MetadataStore,
    selection: Deferred<(FeatureKey, Vec<Filter>)>,
    columns: Option<Vec<String>>,
    pub(super) feature_version: Option<String>,
    pub(super) with_feature_history: bool,
    with_sample_history: bool,
    include_soft_deleted: bool,
    with_markers: bool,
    without_fallback: bool,
}

impl MetadataStore {
    /// Reads a feature from this store or, if it does not have the feature, from its fallbacks. Awaiting it returns a
    /// stream of batches, whose rows are in no particular order.
    ///
    /// # Errors
    /// Awaiting it returns [`Error::UnknownFeature`], [`Error::FeatureNotFound`], [`Error::MissingColumn`], the errors
    /// of filters, and those of the backend.
    pub fn read(&self, feature: impl IntoFeatureKey) -> ReadRequest {
        ReadRequest {
            store: self.clone(),
            selection: Deferred::new(feature.into_feature_key().map(|key| (key, Vec::new()))),
            columns: None,
            feature_version: None,
            with_feature_history: false,
            with_sample_history: false,
            include_soft_deleted: false,
            with_markers: false,
            without_fallback: false,
        }
    }

    /// Returns the schema of the rows that a read of a feature returns.
    #[cfg(feature = "datafusion")]
    pub(crate) async fn schema_of_rows(&self, key: &FeatureKey) -> Result<SchemaRef> {
        let plan = self.plan(key)?;
        let Some(source) = self.serving(key).await? else { return Err(self.not_found(key).await) };
        check_system_columns(key, &source.schema)?;
        Ok(CurrentFields::new(&plan.spec, &source.schema).schema)
    }

    /// Scans a table of this store's own backend, and applies what the backend has not applied.
    pub(super) async fn scan(&self, key: &FeatureKey, request: &ScanRequest) -> Result<(SchemaRef, BatchStream)> {
        engine::finish(self.begin_scan(key, request).await?, request, &self.inner.pool).await
    }

    /// Begins a scan of the backend, whose batches are checked against the schema of the scan.
    pub(super) async fn begin_scan(&self, key: &FeatureKey, request: &ScanRequest) -> Result<Scan> {
        let scan = self.inner.backend.scan(key, request).await?;
        let (kind, table, promised) = (self.inner.info.kind, key.table_name(), scan.schema.clone());
        let stream = scan.stream.map(move |batch| {
            let batch = batch?;
            if same_columns(&promised, batch.schema_ref()) {
                return Ok(batch);
            }
            let reason = format!(
                "a batch has the columns {}, but the schema of the scan has {}; use `metaxy_core::schema::conform`",
                listed(batch.schema_ref()),
                listed(&promised)
            );
            Err(Error::table(kind, "read", &table, reason))
        });
        Ok(Scan { stream: stream.boxed(), ..scan })
    }
}

impl ReadRequest {
    /// Keeps only rows for which the filter is true; it applies to the newest row of each sample. Earlier filters apply
    /// too.
    pub fn filter(mut self, filter: impl IntoFilter) -> Self {
        self.selection.add(filter.into_filter(), |(_, filters), filter| filters.push(filter));
        self
    }

    /// Returns only these columns, in this order.
    pub fn columns<S: AsRef<str>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.columns = Some(columns.into_iter().map(|column| column.as_ref().to_owned()).collect());
        self
    }

    /// Returns rows of every feature version.
    pub fn with_feature_history(mut self) -> Self {
        self.with_feature_history = true;
        self
    }

    /// Returns every row of a sample, not only the newest.
    pub fn with_sample_history(mut self) -> Self {
        self.with_sample_history = true;
        self
    }

    /// Returns deleted samples too.
    pub fn include_soft_deleted(mut self) -> Self {
        self.include_soft_deleted = true;
        self
    }

    /// Returns also the rows that mark a parent without children.
    pub(super) fn with_markers(mut self) -> Self {
        self.with_markers = true;
        self
    }

    /// Returns rows of this feature version instead of the current one. Their by-field columns have the fields of every
    /// version.
    pub fn of_version(mut self, version: &str) -> Self {
        self.feature_version = Some(version.to_owned());
        self
    }

    /// Reads this store alone: a feature that it does not have is an error, even if a fallback store has it.
    pub fn without_fallback(mut self) -> Self {
        self.without_fallback = true;
        self
    }

    /// Runs the read, and returns all rows in memory.
    ///
    /// # Errors
    /// The errors of the read, and those of the storage system while it is read.
    pub async fn rows(self) -> Result<Rows> {
        self.await?.rows().await
    }

    /// Begins the read; its span ends with the rows.
    async fn run(self) -> Result<RowStream> {
        let feature = feature_of(&self.selection, |(key, _)| key.to_string());
        let call = call!("read", feature = feature, store = self.store.name(), complete = tracing::field::Empty);
        let (schema, rows) = call.run(self.begin()).await?.into_parts();
        Ok(RowStream::new(schema, Passing::new(call, rows).boxed()))
    }

    async fn begin(mut self) -> Result<RowStream> {
        if self.without_fallback {
            self.store = self.store.with(|inner| inner.fallbacks.clear());
        }
        let (key, filters) = self.selection.finish()?;
        let plan = self.store.plan(&key)?;
        let Some(source) = self.store.serving(&key).await? else { return Err(self.store.not_found(&key).await) };
        check_system_columns(&key, &source.schema)?;
        let version = self.feature_version.as_deref().unwrap_or(&plan.feature_version);
        let version = (!self.with_feature_history).then_some(version);
        let children_only = if self.with_markers { None } else { children_only(&plan.spec) };
        let filters: Vec<Filter> = children_only.into_iter().chain(filters).collect();
        let mut request = read_request(
            &plan.spec,
            &source.schema,
            version,
            !self.with_sample_history,
            self.include_soft_deleted,
            filters,
        )?;
        if let Some(columns) = &self.columns {
            check_columns(&key, &source.schema, columns)?;
        }
        request.columns = self.columns;
        let (schema, stream) = source.store.scan(&key, &request).await?;
        let history = self.with_feature_history || self.feature_version.is_some();
        Ok(if history { RowStream::new(schema, stream) } else { current_fields_only(&plan.spec, schema, stream) })
    }
}

impl IntoFuture for ReadRequest {
    type Output = Result<RowStream>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

/// Returns whether two schemas have the same columns; metadata is not compared.
fn same_columns(left: &SchemaRef, right: &SchemaRef) -> bool {
    let columns = |schema: &SchemaRef| -> Vec<(String, DataType)> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    Arc::ptr_eq(left, right) || left.fields() == right.fields() || columns(left) == columns(right)
}

fn listed(schema: &Schema) -> String {
    let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
    columns.collect::<Vec<_>>().join(", ")
}

fn check_columns(key: &FeatureKey, schema: &Schema, columns: &[String]) -> Result<()> {
    match columns.iter().find(|name| schema.column_with_name(name).is_none()) {
        None => Ok(()),
        Some(missing) => Err(Error::MissingColumn {
            feature: key.clone(),
            column: missing.clone(),
            context: "its table".to_owned(),
            available: schema.fields().iter().map(|field| field.name().clone()).collect(),
        }),
    }
}

/// Reduces by-field columns to the fields of the definition.
fn current_fields_only(spec: &FeatureSpec, schema: SchemaRef, stream: BatchStream) -> RowStream {
    let fields = CurrentFields::new(spec, &schema);
    if fields.fit_already() {
        return RowStream::new(schema, stream);
    }
    let schema = fields.schema.clone();
    RowStream::new(schema, stream.map(move |batch| fields.apply(batch?)).boxed())
}

/// Reduces by-field columns to the fields of the definition: a table may have the fields of other definitions too, and
/// other programs store by-field columns as maps.
pub(super) struct CurrentFields {
    /// The schema with only the fields of the definition.
    pub(super) schema: SchemaRef,
    struct_keys: Vec<String>,
    /// The columns that differ.
    positions: Vec<usize>,
}

impl CurrentFields {
    pub(super) fn new(spec: &FeatureSpec, schema: &SchemaRef) -> Self {
        let struct_keys = spec.struct_keys();
        let wanted = columns::by_field_type(&struct_keys);
        let differs = |field: &Field| {
            [columns::PROVENANCE_BY_FIELD, columns::DATA_VERSION_BY_FIELD].contains(&field.name().as_str())
                && field.data_type() != &wanted
                && matches!(field.data_type(), DataType::Struct(_) | DataType::Map(_, _))
        };
        let positions: Vec<usize> = (0..schema.fields().len()).filter(|at| differs(schema.field(*at))).collect();
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        for position in &positions {
            fields[*position] = Arc::new(Field::new(fields[*position].name(), wanted.clone(), true));
        }
        Self { schema: Arc::new(Schema::new(fields)), struct_keys, positions }
    }

    fn fit_already(&self) -> bool {
        self.positions.is_empty()
    }

    pub(super) fn apply(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let mut arrays = batch.columns().to_vec();
        for position in &self.positions {
            arrays[*position] = engine::conform_by_field(&arrays[*position], &self.struct_keys)?;
        }
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }
}
