//! The settings that a backend is made from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::read;
use crate::error::{Error, Result};
use crate::secret;

/// The settings of one store, as the configuration gives them: its table without `type` and the common keys.
#[derive(Clone, Default)]
pub struct BackendSettings {
    /// The settings.
    pub table: toml::Table,
    /// The path of the table in the configuration, such as `stores.dev`.
    pub key: String,
    /// The file they come from, where there is one.
    pub file: Option<PathBuf>,
    /// Where each of them was given, as far as that is known.
    pub places: Places,
}

impl BackendSettings {
    /// Settings that come from code.
    pub fn from_table(table: toml::Table) -> Self {
        Self { table, ..Self::default() }
    }

    /// The settings as a backend's own struct, which should carry `#[serde(deny_unknown_fields)]`.
    ///
    /// # Errors
    /// [`Error::Config`] that names the file, the line, the key and what would fit.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T> {
        read::read_table(&self.table).map_err(|problem| self.error_at(&problem.path, problem.reason))
    }

    /// The error of a setting whose value a backend cannot use: `settings.invalid("root_path", "is no URL")`.
    pub fn invalid(&self, setting: &str, reason: impl Into<String>) -> Error {
        self.error_at(&[setting.to_owned()], reason.into())
    }

    fn error_at(&self, path: &[String], reason: String) -> Error {
        let place = self.places.nearest(path).cloned().unwrap_or(Place { file: self.file.clone(), ..Place::default() });
        let mut key = self.key.clone();
        push_path(&mut key, path);
        place.error(key, reason)
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

/// Where a setting was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file, where it was one.
    pub file: Option<PathBuf>,
    /// The line in the file or text, from 1.
    pub line: Option<usize>,
    /// The environment variable, where it was one.
    pub variable: Option<String>,
}

impl Place {
    /// The error of what stands here.
    pub(crate) fn error(&self, key: impl Into<String>, reason: impl Into<String>) -> Error {
        let mut reason = reason.into();
        if let Some(variable) = &self.variable {
            reason.push_str(&format!(" (set by the environment variable {variable})"));
        }
        Error::Config { file: self.file.clone(), line: self.line, key: key.into(), reason }
    }
}

/// Where each of many settings was given, by the keys that lead to it.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<Vec<String>, Place>);

impl Places {
    /// Notes where a setting was given.
    pub fn insert(&mut self, path: Vec<String>, place: Place) {
        self.0.insert(path, place);
    }

    /// The place of a setting, or else of what it is part of.
    pub fn nearest(&self, path: &[String]) -> Option<&Place> {
        (0..=path.len()).rev().find_map(|length| self.0.get(&path[..length]))
    }
}

/// Appends keys to a path as TOML writes it: `stores."a.b".list[0]`.
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
