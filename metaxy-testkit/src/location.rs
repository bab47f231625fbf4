//! Where a backend's tests keep their rows, and how much of a load it gets.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use metaxy_core::backend::SharedBackend;
use metaxy_core::store::StoreBuilder;
use metaxy_core::{FeatureKey, Result};

/// A location for rows that is empty when a case begins: a temporary directory, a schema of a test database. It is removed
/// when it is dropped.
#[async_trait]
pub trait Location: Send + Sync + 'static {
    /// Returns a backend at this location that is not open. Each call gives another one, and all of them see the same
    /// rows, as several programs do that use one store.
    ///
    /// # Errors
    /// Whatever stands in the way; the case fails with it.
    async fn backend(&self) -> Result<SharedBackend>;

    /// Returns the settings that lead to this location, as `metaxy.toml` has them in `[stores.<name>.config]`.
    fn settings(&self) -> toml::Table;

    /// Returns the settings with which a store opens for reading if none of its files and directories may be
    /// written. By default the same.
    fn settings_without_rights(&self) -> toml::Table {
        self.settings()
    }

    /// Returns what other processes of a test find in their environment, such as the URL of a server that runs already.
    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Returns the directory whose files hold the rows, and nothing else, if the backend keeps them in files.
    fn directory(&self) -> Option<PathBuf> {
        None
    }

    /// Returns how much of a load the backend gets.
    fn load(&self) -> Load {
        Load::default()
    }

    /// Returns the name in the report if one type string is tested in several ways: `delta, flat layout`. By
    /// default the type string.
    fn variant(&self) -> Option<String> {
        None
    }

    /// Sets what every store at this location is opened with, such as a hash algorithm that the storage system can
    /// compute, or an engine. A case that asks for something else gets it.
    fn configure(&self, store: StoreBuilder) -> StoreBuilder {
        store
    }

    /// Lets another program append to a table while a store may be open: a row of the table once more, as deleted at a
    /// time in microseconds. Another program is the storage system's own client, not the backend. Returns whether there
    /// is one; by default not.
    ///
    /// # Errors
    /// Whatever stands in the way; the case fails with it.
    async fn delete_elsewhere(&self, table: &FeatureKey, time: i64) -> Result<bool> {
        let _ = (table, time);
        Ok(false)
    }

    /// Returns the passwords, keys and tokens among the settings: no message may show one of them.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A location that is shared.
pub type SharedLocation = Arc<dyn Location>;

/// How much of a load a backend gets.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many one-row writes the case of many tiny writes makes at most; 10,000 unless told otherwise. Where they
    /// take longer than 20 seconds, 200 are enough.
    pub tiny_writes: usize,
    /// How many random histories are played and compared with the oracle; 25 unless told otherwise.
    pub histories: usize,
}

impl Default for Load {
    fn default() -> Self {
        Self { tiny_writes: 10_000, histories: 25 }
    }
}

impl Load {
    /// Makes fewer tiny writes, if each leaves much behind.
    #[must_use]
    pub fn tiny_writes(mut self, count: usize) -> Self {
        self.tiny_writes = count;
        self
    }

    /// Plays another number of random histories.
    #[must_use]
    pub fn histories(mut self, count: usize) -> Self {
        self.histories = count;
        self
    }
}
