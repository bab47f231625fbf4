//! Maintenance: the tables of a store, their locations, and their storage.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::key::{FeatureKey, IntoFeatureKey};

use super::trace::{Files, call};
use super::{AccessMode, MetadataStore, SYSTEM_PREFIX};

/// The location of the rows of a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureLocation {
    /// The name of the store that serves the feature.
    pub store: String,
    /// The path or URL that holds the table: the database, or for Delta Lake the table itself. Secrets are masked.
    pub location: String,
    /// The name of the table.
    pub table: String,
}

impl MetadataStore {
    /// Rewrites the storage of a feature for faster reads, without changing a row. Does nothing if the feature has no
    /// table or the backend needs no compaction.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], and the errors of the backend.
    pub async fn compact(&self, feature: impl IntoFeatureKey) -> Result<()> {
        let key = feature.into_feature_key()?;
        let compact = async {
            self.check_writable("compact")?;
            self.inner.backend.compact(&key).await
        };
        call!("compact", feature = key.to_string(), store = self.name()).run(compact).await
    }

    /// Removes files that the current table of a feature no longer uses and that are older than `retention`, and
    /// returns their number. Readers that began earlier than that fail.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], and the errors of the backend.
    pub async fn vacuum(&self, feature: impl IntoFeatureKey, retention: Duration) -> Result<u64> {
        let key = feature.into_feature_key()?;
        let vacuum = async {
            self.check_writable("vacuum")?;
            self.inner.backend.vacuum(&key, retention).await.map(Files)
        };
        let call = call!("vacuum", feature = key.to_string(), store = self.name(), files = tracing::field::Empty);
        Ok(call.run(vacuum).await?.0)
    }

    /// Removes a feature with all its rows, of every version, permanently. Fallbacks are not changed.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::ReservedFeature`], and the errors of the backend.
    pub async fn drop_feature(&self, feature: impl IntoFeatureKey) -> Result<()> {
        let key = feature.into_feature_key()?;
        let drop = async {
            self.check_may_change(&key, "drop")?;
            self.inner.backend.drop_table(&key).await
        };
        call!("drop", feature = key.to_string(), store = self.name()).run(drop).await
    }

    /// Returns the sorted names of all tables of this store, including those of features that the graph does not have.
    ///
    /// # Errors
    /// The errors of the backend.
    pub async fn tables(&self) -> Result<Vec<String>> {
        let mut tables = self.inner.backend.tables().await?;
        tables.sort_unstable();
        Ok(tables)
    }

    /// Returns the location of the rows of a feature, in this store or in the fallback that serves it; `None` if no
    /// store has the feature.
    ///
    /// # Errors
    /// The errors of the backends.
    pub async fn location_of(&self, feature: impl IntoFeatureKey) -> Result<Option<FeatureLocation>> {
        let key = feature.into_feature_key()?;
        let location = |store: &MetadataStore| FeatureLocation {
            store: store.inner.name.clone(),
            location: store.inner.backend.table_location(&key),
            table: key.table_name(),
        };
        Ok(self.serving(&key).await?.map(|source| location(&source.store)))
    }

    /// Checks that a method may change the rows of a feature.
    pub(crate) fn check_may_change(&self, key: &FeatureKey, operation: &'static str) -> Result<()> {
        self.check_writable(operation)?;
        match key.parts().first() {
            Some(first) if first == SYSTEM_PREFIX => Err(Error::ReservedFeature { feature: key.clone(), operation }),
            _ => Ok(()),
        }
    }

    /// Checks that the store is open for writing.
    pub(crate) fn check_writable(&self, operation: &'static str) -> Result<()> {
        match self.inner.mode {
            AccessMode::ReadWrite => Ok(()),
            AccessMode::ReadOnly => Err(Error::ReadOnly { store: self.inner.name.clone(), operation }),
        }
    }
}
