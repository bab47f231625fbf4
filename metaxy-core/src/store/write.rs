//! Writing rows of one or several features.

use std::future::IntoFuture;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use crate::deferred::Deferred;
#[allow(unused_imports, reason = "named in the documentation")]
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::key::{FeatureKey, IntoFeatureKey};

use super::append::{Preparation, Prepared};
use super::data::GivenRows;
use super::made_from::MadeFrom;
use super::stamp::Stamping;
use super::trace::{Volume, call, feature_of};
use super::{Increment, IntoBatches, IntoRows, MetadataStore, RowsToWrite};

/// A write, to be awaited. Returns the number of rows written.
#[derive(Debug)]
#[must_use = "nothing is written until it is awaited"]
pub struct WriteRequest {
    store: MetadataStore,
    rows: Deferred<Given>,
    materialization_id: Option<String>,
    preserve_versions: bool,
}

/// The rows of each feature, and the samples that they were made from.
#[derive(Debug)]
struct Given {
    features: Vec<(FeatureKey, RowsToWrite)>,
    made_from: Option<Origin>,
}

/// The samples that rows were made from.
#[derive(Debug)]
enum Origin {
    Increment(Arc<MadeFrom>),
    Samples(Vec<RecordBatch>),
}

impl Origin {
    /// Returns the samples of a feature.
    fn of(&self, plan: &FeaturePlan) -> Result<Arc<MadeFrom>> {
        match self {
            Self::Increment(made_from) => Ok(made_from.clone()),
            Self::Samples(samples) => Ok(Arc::new(MadeFrom::of_samples(plan, samples)?)),
        }
    }
}

impl MetadataStore {
    /// Writes rows of a feature. They need its id columns and `metaxy_provenance_by_field`; all other system columns
    /// are added. The rows of one call have the same timestamp; a later write of the same sample replaces it for
    /// readers.
    ///
    /// All rows are written or none; once the call has returned, they survive a crash. A stream is read to its end
    /// before anything is written; rows that exceed the memory limit wait in a temporary file. (If the backend cannot
    /// hold a write open, it stores such rows in pieces, each of them whole.)
    ///
    /// # Errors
    /// Awaiting it returns [`Error::ReadOnly`], [`Error::UnknownFeature`], [`Error::MissingColumn`], [`Error::NullId`],
    /// [`Error::InvalidColumn`], [`Error::TypeMismatch`], [`Error::UnsupportedType`], [`Error::TableMissing`], and the
    /// errors of the backend. In these cases nothing is written.
    pub fn write(&self, feature: impl IntoFeatureKey, data: impl IntoRows) -> WriteRequest {
        self.write_multi([(feature, data)])
    }

    /// Writes rows of several features with one timestamp, dependents first. All rows are checked before any are
    /// written; the rows of each feature are written completely or not at all.
    ///
    /// # Errors
    /// The errors of [`MetadataStore::write`].
    pub fn write_multi<K: IntoFeatureKey, D: IntoRows>(
        &self,
        features: impl IntoIterator<Item = (K, D)>,
    ) -> WriteRequest {
        let features = features.into_iter().map(|(key, data)| Ok((key.into_feature_key()?, data.into_rows()?)));
        let rows = features.collect::<Result<_>>().map(|features| Given { features, made_from: None });
        WriteRequest {
            store: self.clone(),
            rows: Deferred::new(rows),
            materialization_id: None,
            preserve_versions: false,
        }
    }
}

impl WriteRequest {
    /// Sets the value of `metaxy_materialization_id`, instead of the store's setting.
    pub fn materialization_id(mut self, id: impl Into<String>) -> Self {
        self.materialization_id = Some(id.into());
        self
    }

    /// Keeps feature and project versions, timestamps and data versions that the rows carry, as a copy does.
    pub fn preserve_versions(mut self) -> Self {
        self.preserve_versions = true;
        self
    }

    /// Declares that the rows were made from samples of an increment: each gets the versions of the sample whose ids it
    /// has (1:N: of its parent, N:1: of its group), so that it is no longer new or stale.
    ///
    /// # Errors
    /// Awaiting it returns [`Error::InvalidColumn`] for a row without a new or stale sample in the increment, and
    /// [`Error::MissingColumn`] for rows without the columns that name the sample.
    pub fn made_from(mut self, increment: &Increment) -> Self {
        let made_from = MadeFrom::new(increment);
        self.rows.add(made_from, |rows, made_from| rows.made_from = Some(Origin::Increment(Arc::new(made_from))));
        self
    }

    /// Declares that the rows were made from these samples: rows of an increment, such as those that another program
    /// has kept in a file, with their column `metaxy_provenance_by_field`.
    ///
    /// # Errors
    /// The errors of [`made_from`](Self::made_from), and [`Error::MissingColumn`] for samples without the columns that
    /// name them or their provenance.
    pub fn made_from_samples(mut self, samples: impl IntoBatches) -> Self {
        self.rows.add(samples.into_batches(), |rows, samples| rows.made_from = Some(Origin::Samples(samples)));
        self
    }

    async fn run(self) -> Result<u64> {
        let features =
            |rows: &Given| rows.features.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>().join(", ");
        let call = call!("write", feature = feature_of(&self.rows, features), store = self.store.name());
        Ok(call.run(self.write()).await?.rows)
    }

    async fn write(self) -> Result<Volume> {
        let Self { store, rows, materialization_id, preserve_versions } = self;
        store.check_writable("write")?;
        let Given { mut features, made_from } = rows.finish()?;
        for (key, _) in &features {
            store.plan(key)?;
        }
        let tables: Vec<FeatureKey> = features.iter().map(|(key, _)| key.clone()).collect();
        let own = store.stamping(store.stamp_for(&tables).await?);
        let stamping = Stamping {
            at: own.at,
            materialization_id: materialization_id.or(own.materialization_id),
            preserve: preserve_versions,
        };
        let preparation = Preparation::of_rows(stamping, store.inner.duplicates);
        features.sort_by_key(|(key, _)| store.graph().write_turn(key));
        let mut prepared = Vec::with_capacity(features.len());
        for (key, rows) in features {
            let made_from = made_from.as_ref().map(|origin| origin.of(store.plan(&key)?)).transpose()?;
            let rows = match completed(&key, rows, made_from)? {
                GivenRows::Batches(batches) => Prepared::Rows(store.prepare(&key, batches, preparation.clone()).await?),
                GivenRows::Stream(stream) => store.prepare_stream(&key, stream, preparation.clone()).await?,
            };
            prepared.push((key, rows));
        }
        let mut written = Volume::default();
        for (key, rows) in prepared {
            written += store.append_prepared(&key, rows).await?;
        }
        Ok(written)
    }
}

/// Returns the rows of a feature with the versions of the samples from which they were made, if any are named.
fn completed(key: &FeatureKey, rows: RowsToWrite, made_from: Option<Arc<MadeFrom>>) -> Result<GivenRows> {
    let Some(made_from) = made_from else { return Ok(rows.0) };
    Ok(match rows.0 {
        GivenRows::Batches(batches) => {
            GivenRows::Batches(batches.iter().map(|batch| made_from.complete(key, batch)).collect::<Result<_>>()?)
        }
        GivenRows::Stream(stream) => {
            let key = key.clone();
            GivenRows::Stream(stream.map(move |batch| made_from.complete(&key, &batch?)).boxed())
        }
    })
}

impl IntoFuture for WriteRequest {
    type Output = Result<u64>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}
