//! The settings of a store.

use std::fmt;
use std::time::Duration;

use metaxy_core::secret::mask_url;
use metaxy_core::{Error, Result};
use serde::Deserialize;

/// The name of a database in memory.
pub(crate) const MEMORY: &str = ":memory:";

/// The location and the options of a SQLite store.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqliteConfig {
    /// The path of the database file, or `:memory:` for a store that exists until it is closed.
    pub database: String,
    /// The time that a call waits for another process that writes, in milliseconds; by default half a minute.
    #[serde(default = "default_busy_timeout")]
    pub busy_timeout_ms: u32,
    /// The prefix of the names of all tables, with which several stores, or other tables, can share a file.
    #[serde(default)]
    pub table_prefix: String,
    /// Promises that no process writes to the file while this store is open. Then it is read without locks and without
    /// files beside it, even if none can be created, and it can only be opened for reading. Off by default.
    #[serde(default)]
    pub immutable: bool,
}

impl SqliteConfig {
    /// Returns the location for messages. Secrets are masked: database names may contain keys.
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
            .field("immutable", &self.immutable)
            .finish()
    }
}

fn default_busy_timeout() -> u32 {
    30_000
}

impl SqliteConfig {
    /// Creates settings for a file, or for `:memory:`.
    pub fn new(database: impl Into<String>) -> Self {
        Self {
            database: database.into(),
            busy_timeout_ms: default_busy_timeout(),
            table_prefix: String::new(),
            immutable: false,
        }
    }

    /// Sets the time that a call waits for another process that writes.
    #[must_use]
    pub fn busy_timeout_ms(mut self, milliseconds: u32) -> Self {
        self.busy_timeout_ms = milliseconds;
        self
    }

    /// Sets the prefix of the names of all tables.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Sets whether no process writes to the file while this store is open; see [`SqliteConfig::immutable`].
    #[must_use]
    pub fn immutable(mut self, value: bool) -> Self {
        self.immutable = value;
        self
    }

    pub(crate) fn busy_timeout(&self) -> Duration {
        Duration::from_millis(self.busy_timeout_ms.into())
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`], which names the setting.
    pub fn check(&self) -> Result<()> {
        let invalid = |key: &str, reason: &str| Error::setting(key, reason);
        if self.database.is_empty() || self.database.contains('\0') {
            return Err(invalid("database", "give the path of a file, or `:memory:`"));
        }
        if self.immutable && self.database == MEMORY {
            return Err(invalid("immutable", "remove it: a store in memory is always written to"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !self.table_prefix.chars().all(fits) || self.table_prefix.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(invalid("table_prefix", "use ASCII letters, digits and `_`, and start with no digit"));
        }
        Ok(())
    }
}
