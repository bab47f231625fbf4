//! Deleting rows, softly or permanently.

use std::future::IntoFuture;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::columns;
use crate::deferred::Deferred;
#[allow(unused_imports, reason = "named in the documentation")]
use crate::error::{Error, Result};
use crate::filter::{Filter, IntoFilter, col};
use crate::key::{FeatureKey, IntoFeatureKey};

use super::append::Preparation;
use super::named::Named;
use super::trace::{Volume, call, feature_of};
use super::{IntoBatches, MetadataStore, ReadRequest, check_system_columns};

/// A delete, to be awaited. Returns the number of rows deleted.
#[derive(Debug)]
#[must_use = "nothing is deleted until it is awaited"]
pub struct DeleteRequest {
    store: MetadataStore,
    selection: Deferred<Selection>,
    soft: bool,
    with_feature_history: bool,
}

/// The samples that are deleted: those that pass all filters and, if rows are given, are named by them.
#[derive(Debug)]
struct Selection {
    feature: FeatureKey,
    filters: Vec<Filter>,
    rows: Option<Vec<RecordBatch>>,
}

impl MetadataStore {
    /// Deletes samples of a feature: all of them, or those that pass the filters. By default the delete is soft: the
    /// rows are kept, and readers no longer see them. A feature whose rows were all deleted permanently is empty, not
    /// absent: reads return no rows and do not search the fallbacks; [`drop_feature`](Self::drop_feature) makes it
    /// absent.
    ///
    /// # Errors
    /// Awaiting it returns [`Error::ReadOnly`], [`Error::UnknownFeature`], [`Error::FeatureNotFound`], the errors of
    /// filters, and those of the backend. In these cases nothing is deleted.
    pub fn delete(&self, feature: impl IntoFeatureKey) -> DeleteRequest {
        let selection = |feature| Selection { feature, filters: Vec::new(), rows: None };
        DeleteRequest {
            store: self.clone(),
            selection: Deferred::new(feature.into_feature_key().map(selection)),
            soft: true,
            with_feature_history: false,
        }
    }

    /// Deletes the samples that are named by rows, such as `increment.orphaned`: those with the same ids. Rows of a
    /// feature that expands (1:N) may have only the columns `on`, which name a parent; then all its children are
    /// deleted. By default the delete is soft. (A hard delete of many thousand samples is done in parts, each of them
    /// atomic.)
    ///
    /// # Errors
    /// The errors of [`MetadataStore::delete`]; [`Error::MissingColumn`] if the rows name no samples, and for a hard
    /// delete [`Error::Unsupported`] if their ids are of a type that filters do not have.
    pub fn delete_rows(&self, feature: impl IntoFeatureKey, rows: impl IntoBatches) -> DeleteRequest {
        let mut request = self.delete(feature);
        request.selection.add(rows.into_batches(), |selection, rows| selection.rows = Some(rows));
        request
    }
}

impl DeleteRequest {
    /// Deletes only rows for which the filter is true. Earlier filters apply too.
    pub fn filter(mut self, filter: impl IntoFilter) -> Self {
        self.selection.add(filter.into_filter(), |selection, filter| selection.filters.push(filter));
        self
    }

    /// Deletes permanently instead of softly.
    pub fn hard(mut self) -> Self {
        self.soft = false;
        self
    }

    /// Deletes rows of every feature version.
    pub fn with_feature_history(mut self) -> Self {
        self.with_feature_history = true;
        self
    }

    /// Returns the number of samples that would be deleted, and deletes nothing.
    ///
    /// # Errors
    /// The errors of [`MetadataStore::read`].
    pub async fn count(self) -> Result<u64> {
        Ok(self.samples().await?.2.iter().map(|batch| batch.num_rows() as u64).sum())
    }

    /// Returns the options, the feature, and the ids of the samples that would be deleted.
    pub(super) async fn samples(self) -> Result<(DeleteOptions, FeatureKey, Vec<RecordBatch>)> {
        let Self { store, selection, soft, with_feature_history } = self;
        let Selection { feature: key, filters, rows } = selection.finish()?;
        let plan = store.plan(&key)?;
        let mut read = store.read(&key).with_markers().columns(&plan.spec.id_columns);
        read.with_feature_history = with_feature_history;
        let read = filters.into_iter().fold(read, ReadRequest::filter);
        let rows = match rows.map(|rows| Named::new(plan, rows)).transpose()? {
            None => read.await?.collect().await?,
            Some(named) => {
                let read = named.narrowing().into_iter().fold(read, ReadRequest::filter);
                named.pick(read.await?).await?
            }
        };
        Ok((DeleteOptions { store, soft, with_feature_history }, key, rows))
    }

    async fn run(self) -> Result<u64> {
        let feature = feature_of(&self.selection, |selection| selection.feature.to_string());
        let call = call!("delete", feature = feature, store = self.store.name(), hard = !self.soft);
        Ok(call.run(self.delete()).await?.rows)
    }

    async fn delete(self) -> Result<Volume> {
        let Self { store, selection, soft, with_feature_history } = self;
        store.check_writable("delete")?;
        let selection = selection.finish()?;
        store.check_may_change(&selection.feature, "delete from")?;
        if selection.rows.as_ref().is_some_and(|rows| rows.iter().all(|batch| batch.num_rows() == 0)) {
            return Ok(Volume::default());
        }
        match soft {
            true => selection.delete_softly(&store, with_feature_history).await,
            false => selection.delete_hard(&store, with_feature_history).await,
        }
    }
}

/// A delete without the samples.
pub(super) struct DeleteOptions {
    pub(super) store: MetadataStore,
    soft: bool,
    with_feature_history: bool,
}

impl DeleteOptions {
    /// Returns the delete of samples.
    pub(super) fn delete(&self, feature: &FeatureKey, rows: Vec<RecordBatch>) -> DeleteRequest {
        let mut request = self.store.delete_rows(feature, rows);
        (request.soft, request.with_feature_history) = (self.soft, self.with_feature_history);
        request
    }
}

impl Selection {
    /// Appends the rows of a read again, marked as deleted.
    async fn delete_softly(self, store: &MetadataStore, with_feature_history: bool) -> Result<Volume> {
        let Self { feature: key, filters, rows } = self;
        // The stamp is taken before the read: rows that are written during the read are later than the deletion.
        let at = store.stamp_for(std::slice::from_ref(&key)).await?;
        let mut read = store.read(&key).with_markers();
        read.with_feature_history = with_feature_history;
        let read = filters.into_iter().fold(read, ReadRequest::filter);
        let batches = match rows {
            None => read.await?.collect().await?,
            Some(rows) => {
                let named = Named::new(store.plan(&key)?, rows)?;
                let read = named.narrowing().into_iter().fold(read, ReadRequest::filter);
                named.pick(read.await?).await?
            }
        };
        let marked = batches.iter().map(|batch| marked_deleted(batch, at)).collect::<Result<Vec<_>>>()?;
        store.prepare_and_append(&key, marked, Preparation::COMPLETE).await
    }

    async fn delete_hard(self, store: &MetadataStore, with_feature_history: bool) -> Result<Volume> {
        let Self { feature: key, filters, rows } = self;
        let plan = store.plan(&key)?;
        let Some(schema) = store.inner.backend.schema(&key).await? else {
            return match store.serving(&key).await? {
                Some(_) => Ok(Volume::default()),
                None => Err(store.not_found(&key).await),
            };
        };
        check_system_columns(&key, &schema)?;
        let version = (!with_feature_history).then(|| col(columns::FEATURE_VERSION).eq(plan.feature_version.as_str()));
        let all = Filter::all(version.into_iter().chain(filters));
        let parts = match rows {
            None => vec![all],
            Some(rows) => {
                let named = Named::new(plan, rows)?.filters(&key)?;
                named.into_iter().map(|part| Filter::all([all.clone(), part])).collect()
            }
        };
        let mut deleted = Volume::default();
        for part in parts {
            deleted.rows += store.inner.backend.delete(&key, &part.bind(&schema)?).await?;
        }
        Ok(deleted)
    }
}

impl IntoFuture for DeleteRequest {
    type Output = Result<u64>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

pub(super) fn marked_deleted(batch: &RecordBatch, at: i64) -> Result<RecordBatch> {
    let position = batch.schema_ref().index_of(columns::DELETED_AT)?;
    let times: ArrayRef = Arc::new(
        TimestampMicrosecondArray::from_iter_values(std::iter::repeat_n(at, batch.num_rows())).with_timezone("UTC"),
    );
    let mut arrays = batch.columns().to_vec();
    arrays[position] = arrow::compute::cast(&times, batch.schema_ref().field(position).data_type())?;
    Ok(RecordBatch::try_new(batch.schema(), arrays)?)
}
