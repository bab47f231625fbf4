//! Writing rows of one or several features.

use std::future::IntoFuture;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array};
use arrow::compute::{cast, is_not_null, kernels::zip::zip};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::blocking;
use crate::columns;
use crate::engine;
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::key::{FeatureKey, IntoFeatureKey};

use super::duplicates::one_row_each;
use super::{IntoBatches, MetadataStore};
use crate::schema::{align, convert};

/// A write, to be awaited. The answer is the number of rows written.
#[derive(Debug)]
#[must_use = "nothing is written until it is awaited"]
pub struct WriteRequest {
    store: MetadataStore,
    features: Vec<Result<(FeatureKey, Vec<RecordBatch>)>>,
    materialization_id: Option<String>,
    preserve_versions: bool,
}

impl MetadataStore {
    /// Writes rows of a feature. They need its id columns and `metaxy_provenance_by_field`; all other system columns are
    /// added. The rows of one call share one timestamp; a later write of the same sample replaces it for readers.
    ///
    /// All rows are written or none; once the answer is there, a crash loses nothing.
    ///
    /// # Errors
    /// Awaiting it gives [`Error::ReadOnly`], [`Error::UnknownFeature`], [`Error::MissingColumn`], [`Error::NullId`],
    /// [`Error::InvalidColumn`], [`Error::TypeMismatch`], [`Error::UnsupportedType`], [`Error::TableMissing`], and what
    /// the backend says. Nothing is written then.
    pub fn write(&self, feature: impl IntoFeatureKey, data: impl IntoBatches) -> WriteRequest {
        self.write_multi([(feature, data)])
    }

    /// Writes rows of several features with one timestamp, dependents first. Every feature's rows are checked before
    /// any are written; each feature's rows are written whole or not at all.
    ///
    /// # Errors
    /// As [`MetadataStore::write`].
    pub fn write_multi<K: IntoFeatureKey, D: IntoBatches>(
        &self,
        features: impl IntoIterator<Item = (K, D)>,
    ) -> WriteRequest {
        let features =
            features.into_iter().map(|(key, data)| Ok((key.into_feature_key()?, data.into_batches()?))).collect();
        WriteRequest { store: self.clone(), features, materialization_id: None, preserve_versions: false }
    }
}

impl WriteRequest {
    /// What goes into `metaxy_materialization_id`, instead of what the store would put there.
    pub fn materialization_id(mut self, id: impl Into<String>) -> Self {
        self.materialization_id = Some(id.into());
        self
    }

    /// Keeps feature and project versions, timestamps and data versions that the rows carry, as a copy does.
    pub fn preserve_versions(mut self) -> Self {
        self.preserve_versions = true;
        self
    }

    async fn run(self) -> Result<u64> {
        let Self { store, features, materialization_id, preserve_versions } = self;
        store.check_writable("write")?;
        let mut features = features.into_iter().collect::<Result<Vec<_>>>()?;
        for (key, _) in &features {
            store.plan(key)?;
        }
        let tables: Vec<FeatureKey> = features.iter().map(|(key, _)| key.clone()).collect();
        let stamping = Stamping {
            at: store.stamp_for(&tables).await?,
            materialization_id: materialization_id.or_else(|| store.inner.materialization_id.clone()),
            preserve: preserve_versions,
        };
        let order = store.graph().topological_order();
        features.sort_by_key(|(key, _)| std::cmp::Reverse(order.iter().position(|other| other == key)));
        let mut prepared = Vec::with_capacity(features.len());
        for (key, batches) in features {
            prepared.push((key.clone(), store.prepare(key, batches, stamping.clone()).await?));
        }
        let mut written = 0;
        for (key, (schema, batches)) in prepared {
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            if rows > 0 {
                store.inner.backend.append(&key, schema, batches).await?;
                written += rows as u64;
            }
        }
        Ok(written)
    }
}

impl IntoFuture for WriteRequest {
    type Output = Result<u64>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

/// How rows are stamped.
#[derive(Clone)]
pub(super) struct Stamping {
    pub(super) at: i64,
    pub(super) materialization_id: Option<String>,
    pub(super) preserve: bool,
}

impl MetadataStore {
    /// Checks and completes rows, and brings them into the schema of their table. Writes nothing.
    pub(super) async fn prepare(
        &self,
        key: FeatureKey,
        batches: Vec<RecordBatch>,
        stamping: Stamping,
    ) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let table = self.table_to_write(&key).await?;
        let store = self.clone();
        blocking::run(move || {
            let plan = store.plan(&key)?;
            let complete = |batch: &RecordBatch| store.complete(plan, batch, &stamping);
            let batches = batches.iter().map(complete).collect::<Result<Vec<_>>>()?;
            let batches = store.with_new_columns(&key, table.as_ref(), batches)?;
            let (schema, mut batches) = align(&key, table.as_ref(), batches)?;
            if !stamping.preserve {
                batches = one_row_each(&plan.spec, &schema, batches, store.inner.duplicates)?;
            }
            batches.iter().try_for_each(|batch| store.inner.backend.check(&key, batch))?;
            Ok((schema, batches))
        })
        .await
    }

    /// The schema of a table, or `None` where a write may create it.
    pub(super) async fn table_to_write(&self, key: &FeatureKey) -> Result<Option<SchemaRef>> {
        let table = self.inner.backend.schema(key).await?;
        if table.is_none() && !self.inner.auto_create_tables {
            return Err(Error::TableMissing { table: key.table_name(), location: self.inner.info.location.clone() });
        }
        Ok(table)
    }

    /// The batches with by-field columns in the form that this store gives new ones.
    pub(super) fn with_new_columns(
        &self,
        key: &FeatureKey,
        table: Option<&SchemaRef>,
        batches: Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>> {
        if !self.inner.maps {
            return Ok(batches);
        }
        batches.iter().map(|batch| with_maps(key, table, batch)).collect()
    }

    /// A batch with all system columns behind the user's own.
    pub(super) fn complete(&self, plan: &FeaturePlan, batch: &RecordBatch, stamping: &Stamping) -> Result<RecordBatch> {
        check_names(plan, batch)?;
        check_ids(plan, batch)?;
        self.completed_rows(plan, batch, stamping)
    }

    /// The same for rows that lack ids on purpose.
    pub(super) fn complete_marker(
        &self,
        plan: &FeaturePlan,
        batch: &RecordBatch,
        stamping: &Stamping,
    ) -> Result<RecordBatch> {
        check_names(plan, batch)?;
        self.completed_rows(plan, batch, stamping)
    }

    fn completed_rows(&self, plan: &FeaturePlan, batch: &RecordBatch, stamping: &Stamping) -> Result<RecordBatch> {
        let versions = engine::complete_versions(&plan.spec, batch, self.inner.hasher)?;
        let schema = batch.schema();
        let own = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| !columns::is_system(field.name()));
        let mut all: Vec<(String, ArrayRef)> =
            own.map(|(field, array)| (field.name().clone(), array.clone())).collect();
        all.extend(versions);
        all.extend(self.stamps(plan, batch, stamping)?);
        engine::batch_of(all, batch.num_rows())
    }

    /// The system columns that say when and under which definitions rows were written.
    fn stamps(&self, plan: &FeaturePlan, batch: &RecordBatch, stamping: &Stamping) -> Result<Vec<(String, ArrayRef)>> {
        let rows = batch.num_rows();
        let text = |value: Option<&str>| -> ArrayRef {
            match value {
                Some(value) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows))),
                None => new_null_array(&DataType::Utf8, rows),
            }
        };
        let now: ArrayRef = Arc::new(
            TimestampMicrosecondArray::from_iter_values(std::iter::repeat_n(stamping.at, rows)).with_timezone("UTC"),
        );
        let never = new_null_array(&columns::timestamp_type(), rows);
        let project = self.graph().project_version();
        let stamp = |name: &str, keep: bool, otherwise: ArrayRef| -> Result<(String, ArrayRef)> {
            let value = match batch.column_by_name(name).filter(|_| keep) {
                Some(given) => filled(given, &otherwise)?,
                None => otherwise,
            };
            Ok((name.to_owned(), value))
        };
        let keep = stamping.preserve;
        Ok(vec![
            stamp(columns::FEATURE_VERSION, keep, text(Some(&plan.feature_version)))?,
            stamp(columns::PROJECT_VERSION, keep, text(Some(project)))?,
            stamp(columns::CREATED_AT, true, now.clone())?,
            stamp(columns::UPDATED_AT, keep, now)?,
            stamp(columns::DELETED_AT, keep, never)?,
            stamp(columns::MATERIALIZATION_ID, keep, text(stamping.materialization_id.as_deref()))?,
        ])
    }
}

/// The batch with maps in the place of by-field structs that the table does not have yet.
fn with_maps(key: &FeatureKey, table: Option<&SchemaRef>, batch: &RecordBatch) -> Result<RecordBatch> {
    let is_new = |name: &str| table.is_none_or(|table| table.column_with_name(name).is_none());
    let mut batch = batch.clone();
    for name in [columns::PROVENANCE_BY_FIELD, columns::DATA_VERSION_BY_FIELD] {
        if let Some(structs) = batch.column_by_name(name).filter(|_| is_new(name)) {
            let maps = convert(key, name, structs, &columns::by_field_map_type())?;
            batch = columns::with_column(&batch, name, maps)?;
        }
    }
    Ok(batch)
}

/// The given values, in the type of the others, which fill its nulls.
fn filled(given: &ArrayRef, otherwise: &ArrayRef) -> Result<ArrayRef> {
    let given =
        if given.data_type() == otherwise.data_type() { given.clone() } else { cast(given, otherwise.data_type())? };
    if given.null_count() == 0 {
        return Ok(given);
    }
    Ok(zip(&is_not_null(&given)?, &given, otherwise)?)
}

/// Every sample needs an id, which tells it from others in every storage system.
pub(super) fn check_ids(plan: &FeaturePlan, batch: &RecordBatch) -> Result<()> {
    let feature = &plan.spec.key;
    for column in &plan.spec.id_columns {
        let Some(array) = batch.column_by_name(column) else {
            return Err(Error::MissingColumn {
                feature: feature.clone(),
                column: column.clone(),
                context: "the batch; it is an id column".to_owned(),
                available: batch.schema().fields().iter().map(|field| field.name().clone()).collect(),
            });
        };
        let count = array.logical_null_count();
        if count > 0 {
            return Err(Error::NullId { feature: feature.clone(), column: column.clone(), count });
        }
        engine::key_type(array.data_type()).map_err(|error| Error::InvalidColumn {
            feature: feature.clone(),
            column: column.clone(),
            reason: error.to_string(),
        })?;
        if let Some(row) = engine::ambiguous_float(array)? {
            return Err(Error::InvalidValue {
                table: feature.table_name(),
                column: column.clone(),
                row,
                reason:
                    "NaN and -0.0 cannot identify a sample, because storage systems disagree on what they are equal \
                         to; write another id, 0.0 for -0.0"
                        .to_owned(),
            });
        }
    }
    Ok(())
}

/// How deep types may be nested, so that every storage system can read what it has written.
const MAX_NESTING: usize = 32;

fn check_nesting(plan: &FeaturePlan, schema: &Schema) -> Result<()> {
    match schema.fields().iter().find(|field| is_nested_beyond(field.data_type(), MAX_NESTING)) {
        None => Ok(()),
        Some(field) => Err(Error::LimitExceeded {
            what: format!("feature `{}`, column `{}`: the nesting of its type", plan.spec.key, field.name()),
            limit: format!("{MAX_NESTING} levels"),
            hint: "store the value as JSON text, or its parts in columns of their own".to_owned(),
        }),
    }
}

/// Whether lists, structs and maps stand in each other deeper than `levels`; looks no further than that.
fn is_nested_beyond(data_type: &DataType, levels: usize) -> bool {
    let item = |item: &FieldRef| levels == 0 || is_nested_beyond(item.data_type(), levels - 1);
    match data_type {
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::ListView(inner)
        | DataType::LargeListView(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::Map(inner, _) => item(inner),
        DataType::Struct(members) => members.iter().any(item),
        DataType::Union(members, _) => members.iter().any(|(_, member)| item(member)),
        DataType::RunEndEncoded(_, values) => item(values),
        DataType::Dictionary(_, values) => levels == 0 || is_nested_beyond(values, levels - 1),
        _ => false,
    }
}

/// Columns are found by name, so no two may have the same.
fn check_names(plan: &FeaturePlan, batch: &RecordBatch) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    let schema = batch.schema_ref();
    check_nesting(plan, schema)?;
    match schema.fields().iter().find(|field| field.name().is_empty() || !seen.insert(field.name().as_str())) {
        None => Ok(()),
        Some(field) => Err(Error::InvalidColumn {
            feature: plan.spec.key.clone(),
            column: field.name().clone(),
            reason: "the batch has two columns of this name, or a column without a name".to_owned(),
        }),
    }
}
