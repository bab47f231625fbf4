//! The settings of a store, and its registration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metaxy_core::registry::BackendRegistration;
use metaxy_core::secret::mask_url;
use metaxy_core::{Error, Result};
use serde::Deserialize;

use crate::{KIND, SqliteBackend};

/// The name of a database that is no file.
pub(crate) const MEMORY: &str = ":memory:";

/// Where a SQLite store lives, and how it is used.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqliteConfig {
    /// The path of the database file, or `:memory:` for a store that lives as long as it is open.
    pub database: String,
    /// How long a call waits for another process that is writing, in milliseconds; by default half a minute.
    #[serde(default = "default_busy_timeout")]
    pub busy_timeout_ms: u32,
    /// What the names of all tables start with, where several stores, or other tables, share a file.
    #[serde(default)]
    pub table_prefix: String,
}

impl SqliteConfig {
    /// Where the store is, for messages: names of databases may carry keys.
    pub(crate) fn location(&self) -> String {
        mask_url(&self.database)
    }
}

impl fmt::Debug for SqliteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteConfig")
            .field("database", &self.location())
            .field("busy_timeout_ms", &self.busy_timeout_ms)
            .field("table_prefix", &self.table_prefix)
            .finish()
    }
}

fn default_busy_timeout() -> u32 {
    30_000
}

impl SqliteConfig {
    /// A store in a file.
    pub fn new(database: impl Into<String>) -> Self {
        Self { database: database.into(), busy_timeout_ms: default_busy_timeout(), table_prefix: String::new() }
    }

    /// How long a call waits for another process that is writing.
    #[must_use]
    pub fn busy_timeout_ms(mut self, milliseconds: u32) -> Self {
        self.busy_timeout_ms = milliseconds;
        self
    }

    /// What the names of all tables start with.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    pub(crate) fn busy_timeout(&self) -> Duration {
        Duration::from_millis(self.busy_timeout_ms.into())
    }

    /// Refuses settings that no store could be opened with.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |key: &str, reason: &str| Error::Config {
            file: None,
            line: None,
            key: key.to_owned(),
            reason: reason.to_owned(),
        };
        if self.database.is_empty() || self.database.contains('\0') {
            return Err(invalid("database", "give the path of a file, or `:memory:`"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !self.table_prefix.chars().all(fits) || self.table_prefix.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(invalid("table_prefix", "use ASCII letters, digits and `_`, and start with no digit"));
        }
        Ok(())
    }
}

inventory::submit! {
    BackendRegistration {
        kind: KIND,
        aliases: &[],
        crate_name: "metaxy-sqlite",
        ignored_settings: &[],
        create: |settings| Ok(Arc::new(SqliteBackend::new(settings.parse()?)?)),
    }
}
