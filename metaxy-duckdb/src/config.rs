//! The settings of a store, and its registration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metaxy_core::registry::{BackendRegistration, BackendSettings};
use metaxy_core::secret::mask_url;
use metaxy_core::{Error, Result, SharedBackend};
use serde::Deserialize;

use crate::{DuckDbBackend, KIND};

/// What new files are created as: DuckDB 1.4 and later open them.
const STORAGE_VERSION: &str = "v1.4.0";

/// Settings of DuckDB that a store cannot do with, and why.
const RESERVED: [(&str, &str); 2] = [
    ("access_mode", "the store is opened for reading or writing as the program asks; leave it out"),
    ("default_collation", "samples are told apart byte by byte; leave it out"),
];

/// Where a DuckDB store lives, and how it is used.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DuckDbConfig {
    /// The path of the database file, or `:memory:` for a store that lives as long as it is open.
    pub database: String,
    /// Settings of DuckDB itself, such as `threads` or `memory_limit`.
    #[serde(default)]
    pub config: BTreeMap<String, toml::Value>,
    /// What the names of all tables start with, where several stores, or other tables, share a file.
    #[serde(default)]
    pub table_prefix: String,
    /// Whether a write creates the tables that it lacks.
    #[serde(default)]
    pub auto_create_tables: Option<bool>,
    /// The oldest DuckDB that has to open a file that is created.
    #[serde(default = "default_storage_version")]
    pub storage_version: String,
}

fn default_storage_version() -> String {
    STORAGE_VERSION.to_owned()
}

impl DuckDbConfig {
    /// A store in a file.
    pub fn new(database: impl Into<String>) -> Self {
        Self {
            database: database.into(),
            config: BTreeMap::new(),
            table_prefix: String::new(),
            auto_create_tables: None,
            storage_version: default_storage_version(),
        }
    }

    /// Sets one of DuckDB's own settings.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<toml::Value>) -> Self {
        self.config.insert(name.into(), value.into());
        self
    }

    /// What the names of all tables start with.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Whether a write creates the tables that it lacks.
    #[must_use]
    pub fn auto_create_tables(mut self, create: bool) -> Self {
        self.auto_create_tables = Some(create);
        self
    }

    /// The oldest DuckDB that has to open a file that is created, such as `v1.4.0`.
    #[must_use]
    pub fn storage_version(mut self, version: impl Into<String>) -> Self {
        self.storage_version = version.into();
        self
    }

    /// The file; `None` for a store in memory.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let in_memory = self.database == ":memory:" || self.database.is_empty();
        (!in_memory).then(|| Path::new(&self.database).to_owned())
    }

    /// DuckDB's settings as it reads them.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        let text = |value: &toml::Value| match value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.config.iter().map(|(name, value)| (name.to_lowercase(), text(value))).collect()
    }

    /// Refuses settings that no store could be opened with.
    pub(crate) fn check(&self) -> Result<()> {
        if self.database.contains('\0') {
            return Err(invalid("database", "the path holds a NUL character".to_owned()));
        }
        if let Some((scheme, _)) = self.database.split_once("://") {
            return Err(remote(scheme));
        }
        if self.database.starts_with("md:") || self.database.starts_with("motherduck:") {
            return Err(remote("md"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !self.table_prefix.chars().all(fits) || self.table_prefix.starts_with(|c: char| c.is_ascii_digit()) {
            let reason = "use ASCII letters, digits and `_`, and start with no digit".to_owned();
            return Err(invalid("table_prefix", reason));
        }
        for (name, value) in &self.config {
            if matches!(value, toml::Value::Array(_) | toml::Value::Table(_)) {
                let reason = "give a text, a number or a truth value".to_owned();
                return Err(invalid(&format!("config.{name}"), reason));
            }
            let reserved = RESERVED.iter().find(|(reserved, _)| name.eq_ignore_ascii_case(reserved));
            if let Some((_, reason)) = reserved {
                return Err(invalid(&format!("config.{name}"), (*reason).to_owned()));
            }
        }
        Ok(())
    }
}

/// An error that names a setting.
pub(crate) fn invalid(key: &str, reason: String) -> Error {
    Error::Config { file: None, line: None, key: key.to_owned(), reason }
}

fn remote(scheme: &str) -> Error {
    Error::Unsupported {
        what: format!("a DuckDB database behind `{scheme}:`"),
        hint: "it needs an extension, and none is ever downloaded; give the path of a local file".to_owned(),
    }
}

impl DuckDbConfig {
    /// Where the store is, for messages: names of databases may carry tokens.
    pub(crate) fn location(&self) -> String {
        mask_url(&self.database)
    }
}

/// DuckDB's settings may be secrets: only their names are shown.
impl fmt::Debug for DuckDbConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DuckDbConfig")
            .field("database", &self.location())
            .field("config", &self.config.keys().collect::<Vec<_>>())
            .field("table_prefix", &self.table_prefix)
            .field("auto_create_tables", &self.auto_create_tables)
            .field("storage_version", &self.storage_version)
            .finish()
    }
}

inventory::submit! {
    BackendRegistration {
        kind: KIND,
        aliases: &["metaxy.ext.duckdb.DuckDBMetadataStore", "metaxy.ext.metadata_stores.duckdb.DuckDBMetadataStore"],
        crate_name: "metaxy-duckdb",
        ignored_settings: &["extensions", "connection_string"],
        create,
    }
}

fn create(settings: BackendSettings) -> Result<SharedBackend> {
    if settings.table.contains_key("ducklake") {
        // Ignored, it would lead to another store than the Python package's.
        let reason = "a DuckLake catalog cannot be used; leave it out to keep rows in `database` itself";
        return Err(settings.invalid("ducklake", reason));
    }
    Ok(Arc::new(DuckDbBackend::new(settings.parse()?)?))
}
