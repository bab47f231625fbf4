//! The settings from which a backend is created.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::read;
use crate::error::{Error, Result};
use crate::secret;

/// The settings of one store in the configuration: its table without `type` and the common keys.
#[derive(Clone, Default)]
pub struct BackendSettings {
    /// The settings.
    pub table: toml::Table,
    /// The path of the table in the configuration, such as `stores.dev`.
    pub key: String,
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The origins of the settings, as far as they are known.
    pub origins: Origins,
}

impl BackendSettings {
    /// Returns settings that are given in code.
    pub fn from_table(table: toml::Table) -> Self {
        Self { table, ..Self::default() }
    }

    /// Reads the settings into a struct of the backend, which should have `#[serde(deny_unknown_fields)]`.
    ///
    /// # Errors
    /// [`Error::Config`] that names the file, the line, the key and the expected value.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T> {
        read::read_table(&self.table).map_err(|problem| self.error_at(&problem.path, problem.reason))
    }

    /// Returns the error of a setting with an invalid value: `settings.invalid("root_path", "it is not a URL")`.
    pub fn invalid(&self, setting: &str, reason: impl Into<String>) -> Error {
        self.error_at(&[setting.to_owned()], reason.into())
    }

    fn error_at(&self, path: &[String], reason: String) -> Error {
        let origin =
            self.origins.nearest(path).cloned().unwrap_or(Origin { file: self.file.clone(), ..Origin::default() });
        let mut key = self.key.clone();
        push_path(&mut key, path);
        origin.error(key, reason)
    }
}

/// Shows the settings with their secrets masked.
impl fmt::Debug for BackendSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendSettings")
            .field("key", &self.key)
            .field("file", &self.file)
            .field("table", &secret::mask_table(&self.table))
            .finish_non_exhaustive()
    }
}

/// The origin of a setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file, if it was given in one.
    pub file: Option<PathBuf>,
    /// The line in the file or text, from 1.
    pub line: Option<usize>,
    /// The environment variable, if it was given by one.
    pub variable: Option<String>,
}

impl Origin {
    /// Returns an error of the setting.
    pub(crate) fn error(&self, key: impl Into<String>, reason: impl Into<String>) -> Error {
        let mut reason = reason.into();
        if let Some(variable) = &self.variable {
            reason.push_str(&format!(" (set by the environment variable {variable})"));
        }
        Error::Config { file: self.file.clone(), line: self.line, key: key.into(), reason }
    }
}

/// The origins of settings, by path.
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<Vec<String>, Origin>);

impl Origins {
    /// Records the origin of a setting.
    pub fn insert(&mut self, path: Vec<String>, origin: Origin) {
        self.0.insert(path, origin);
    }

    /// Returns the origin of a setting, or else of the table that contains it.
    pub fn nearest(&self, path: &[String]) -> Option<&Origin> {
        (0..=path.len()).rev().find_map(|length| self.0.get(&path[..length]))
    }
}

/// Appends keys to a path in the notation of TOML: `stores."a.b".list[0]`.
pub(crate) fn push_path(out: &mut String, path: &[String]) {
    for key in path {
        let is_index = key.starts_with('[') && key.ends_with(']');
        if !out.is_empty() && !is_index {
            out.push('.');
        }
        let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        match is_bare || is_index {
            true => out.push_str(key),
            false => out.push_str(&format!("{key:?}")),
        }
    }
}
