//! Looking after what a store keeps: its tables, where they are, and their storage.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::key::{FeatureKey, IntoFeatureKey};

use super::{AccessMode, MetadataStore};

/// The first part of the keys of tables that the store keeps for itself.
const SYSTEM_PREFIX: &str = "metaxy-system";

/// Where the rows of a feature are.
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
    /// Rewrites the storage of a feature so that it is read faster, without changing a row. Does nothing for a feature
    /// without a table, or if the backend needs no compaction.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], and what the backend says.
    pub async fn compact(&self, feature: impl IntoFeatureKey) -> Result<()> {
        let key = feature.into_feature_key()?;
        self.check_writable("compact")?;
        self.inner.backend.compact(&key).await
    }

    /// Removes files of a feature that no reader needs any more and that are older than `retention`; returns how many.
    /// Readers that began earlier than that fail.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], and what the backend says.
    pub async fn vacuum(&self, feature: impl IntoFeatureKey, retention: Duration) -> Result<u64> {
        let key = feature.into_feature_key()?;
        self.check_writable("vacuum")?;
        self.inner.backend.vacuum(&key, retention).await
    }

    /// Removes a feature with all its rows, of every version, for good. Fallbacks keep theirs.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::ReservedFeature`], and what the backend says.
    pub async fn drop_feature(&self, feature: impl IntoFeatureKey) -> Result<()> {
        let key = feature.into_feature_key()?;
        self.check_may_change(&key, "drop")?;
        self.inner.backend.drop_table(&key).await
    }

    /// Returns the names of all tables of this store, sorted, also those of features that the graph does not have.
    ///
    /// # Errors
    /// What the backend says.
    pub async fn tables(&self) -> Result<Vec<String>> {
        let mut tables = self.inner.backend.tables().await?;
        tables.sort_unstable();
        Ok(tables)
    }

    /// Returns where the rows of a feature are, in this store or in the fallback that serves it; `None` if no store has
    /// the feature.
    ///
    /// # Errors
    /// What the backends say.
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
