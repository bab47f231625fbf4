//! The settings of a store.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use metaxy_core::registry::BackendSettings;
use metaxy_core::secret::mask_url;
use metaxy_core::{Error, Result};
use serde::Deserialize;

/// The storage version of new files: DuckDB 1.4 and later can open them.
const STORAGE_VERSION: &str = "v1.4.0";

/// The settings of DuckDB that are refused, with the reason.
const RESERVED: [(&[&str], &str); 6] = [
    (&["access_mode"], "the program opens the store for reading or writing; remove it"),
    (&["default_collation"], "ids are compared byte by byte; remove it"),
    (&["storage_compatibility_version"], "use the store's own setting `storage_version`"),
    (
        &[
            "enable_external_access",
            "allowed_configs",
            "allowed_directories",
            "allowed_paths",
            "allow_unsigned_extensions",
            "allow_extensions_metadata_mismatch",
            "autoload_known_extensions",
            "autoinstall_known_extensions",
        ],
        "a store reads no other file and loads no extension; remove it",
    ),
    (
        &[
            "default_order",
            "default_null_order",
            "null_order",
            "integer_division",
            "ieee_floating_point_ops",
            "old_implicit_casting",
            "order_by_non_integer_literal",
            "scalar_subquery_error_on_multiple_rows",
            "disable_timestamptz_casts",
            "preserve_identifier_case",
            "schema",
            "search_path",
            "arrow_large_buffer_size",
            "arrow_lossless_conversion",
            "arrow_output_list_view",
            "arrow_output_version",
            "produce_arrow_string_view",
            "errors_as_json",
        ],
        "it changes the meaning of statements; remove it",
    ),
    (&["disable_database_invalidation", "lock_configuration"], "the store could be damaged; remove it"),
];

/// The start of the names of DuckDB's settings for its own tests.
const DEBUGGING: &str = "debug_";

/// The location and the options of a DuckDB store.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DuckDbConfig {
    /// The path of the database file, or `:memory:` for a store that exists until it is closed.
    pub database: String,
    /// Settings of DuckDB itself, such as `threads` or `memory_limit`.
    #[serde(default)]
    pub config: BTreeMap<String, toml::Value>,
    /// The prefix of the names of all tables, with which several stores, or other tables, can share a file.
    #[serde(default)]
    pub table_prefix: String,
    /// Whether a write creates missing tables.
    #[serde(default)]
    pub auto_create_tables: Option<bool>,
    /// The oldest version of DuckDB that must be able to open a new file.
    #[serde(default = "default_storage_version")]
    pub storage_version: String,
}

fn default_storage_version() -> String {
    STORAGE_VERSION.to_owned()
}

impl DuckDbConfig {
    /// Creates settings for a file, or for `:memory:`.
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

    /// Sets the prefix of the names of all tables.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Sets whether a write creates missing tables.
    #[must_use]
    pub fn auto_create_tables(mut self, create: bool) -> Self {
        self.auto_create_tables = Some(create);
        self
    }

    /// Sets the oldest version of DuckDB that must be able to open a new file, such as `v1.4.0`.
    #[must_use]
    pub fn storage_version(mut self, version: impl Into<String>) -> Self {
        self.storage_version = version.into();
        self
    }

    /// Returns the file; `None` for a store in memory.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let in_memory = self.database == ":memory:" || self.database.is_empty();
        (!in_memory).then(|| Path::new(&self.database).to_owned())
    }

    /// Returns DuckDB's settings as text.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        let text = |value: &toml::Value| match value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.config.iter().map(|(name, value)| (name.to_lowercase(), text(value))).collect()
    }

    /// Checks the settings without opening the database.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Unsupported`] for invalid settings.
    pub fn check(&self) -> Result<()> {
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
                let reason = "give a string, a number or a boolean".to_owned();
                return Err(invalid(&format!("config.{name}"), reason));
            }
            if let Some(reason) = refused(&name.to_lowercase(), value) {
                return Err(invalid(&format!("config.{name}"), reason.to_owned()));
            }
        }
        Ok(())
    }
}

/// Returns why a setting of DuckDB cannot be used. Values that forbid something that is always forbidden are accepted.
fn refused(name: &str, value: &toml::Value) -> Option<&'static str> {
    if name.starts_with(DEBUGGING) {
        return Some("it is for tests of DuckDB itself; remove it");
    }
    let (_, reason) = RESERVED.iter().find(|(names, _)| names.contains(&name))?;
    let is_off = matches!(value.as_str().unwrap_or(&value.to_string()), "false" | "0" | "");
    let forbids = ["enable_external_access", "autoload_known_extensions", "autoinstall_known_extensions"];
    if is_off && (forbids.contains(&name) || name.starts_with("allow_")) { None } else { Some(reason) }
}

/// Replaces the connection string of the Python package, which has precedence over `database` there, by its path.
pub(crate) fn take_connection_string(settings: &mut BackendSettings) -> Result<()> {
    const KEY: &str = "connection_string";
    let Some(given) = settings.table.remove(KEY) else { return Ok(()) };
    let text = given.as_str().ok_or_else(|| settings.invalid(KEY, "give a string such as `duckdb://store.duckdb`"))?;
    let (database, parameters) = text.split_once('?').unwrap_or((text, ""));
    let database = path_of(database).ok_or_else(|| {
        let shown = mask_url(text);
        settings.invalid(KEY, format!("`{shown}` does not name a DuckDB file; write `duckdb://` and a path"))
    })?;
    settings.table.insert("database".to_owned(), database.into());
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name == "read_only" {
            return Err(settings.invalid(KEY, "the program opens the store for reading or writing; remove `read_only`"));
        }
        let config = settings.table.entry("config").or_insert_with(|| toml::Table::new().into());
        if let Some(config) = config.as_table_mut() {
            config.insert(name.to_owned(), value.into());
        }
    }
    Ok(())
}

/// Returns the path of a connection string, as Ibis reads it: without percent-decoding.
fn path_of(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    if lower.starts_with("duckdb:") {
        let rest = &text["duckdb:".len()..];
        let path = rest.strip_prefix("//").unwrap_or(rest);
        return Some(if path.is_empty() { ":memory:".to_owned() } else { path.to_owned() });
    }
    let path = if lower.starts_with("file://") { &text["file://".len()..] } else { text };
    let is_file = lower.ends_with(".duckdb") && !path.contains("://");
    is_file.then(|| path.to_owned())
}

/// Returns the error of a setting.
pub(crate) fn invalid(key: &str, reason: String) -> Error {
    Error::setting(key, reason)
}

fn remote(scheme: &str) -> Error {
    let reason = format!(
        "a database behind `{scheme}:` needs an extension, and extensions are not downloaded; give the path of a local \
         file"
    );
    Error::setting("database", reason)
}

impl DuckDbConfig {
    /// Returns the location for messages. Secrets are masked: database names may contain tokens.
    pub(crate) fn location(&self) -> String {
        mask_url(&self.database)
    }
}

/// Shows the names of DuckDB's settings without their values, which may be secrets.
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
