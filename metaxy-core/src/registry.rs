//! Backends by their type string.
//!
//! A backend crate registers itself; a program that links the crate can name it in `metaxy.toml`:
//! ```ignore
//! inventory::submit! {
//!     BackendRegistration {
//!         kind: "sqlite",
//!         aliases: &[],
//!         crate_name: "metaxy-sqlite",
//!         ignored_settings: &[],
//!         create: |settings| Ok(Arc::new(SqliteBackend::new(settings.parse()?)?)),
//!     }
//! }
//! ```

use std::path::PathBuf;

use serde::de::DeserializeOwned;

use crate::backend::SharedBackend;
use crate::error::{Error, Result, nearest};

/// How a backend is found and made.
pub struct BackendRegistration {
    /// Its type string.
    pub kind: &'static str,
    /// Other strings that mean it, such as the class names of the Python package.
    pub aliases: &'static [&'static str],
    /// The crate it comes from.
    pub crate_name: &'static str,
    /// Settings that only mean something to the Python package: accepted, with a warning that names them.
    pub ignored_settings: &'static [&'static str],
    /// Makes the backend from its settings; opens nothing.
    pub create: fn(BackendSettings) -> Result<SharedBackend>,
}

inventory::collect!(BackendRegistration);

/// The settings of one store, as the configuration gives them: its table without `type` and the common keys.
#[derive(Clone, Debug, Default)]
pub struct BackendSettings {
    /// The settings.
    pub table: toml::Table,
    /// The path of the table in the configuration, such as `stores.dev`.
    pub key: String,
    /// The file they come from, where there is one.
    pub file: Option<PathBuf>,
}

impl BackendSettings {
    /// Settings that come from code.
    pub fn from_table(table: toml::Table) -> Self {
        Self { table, ..Self::default() }
    }

    /// The settings as a backend's own struct, which should carry `#[serde(deny_unknown_fields)]`.
    ///
    /// # Errors
    /// [`Error::Config`] that names the file, the key and what would fit.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T> {
        toml::Value::Table(self.table).try_into().map_err(|error: toml::de::Error| Error::Config {
            file: self.file,
            line: None,
            key: self.key,
            reason: error.message().to_owned(),
        })
    }
}

/// All registered backends.
///
/// # Errors
/// [`Error::DuplicateBackend`] where two claim one string.
pub fn registrations() -> Result<Vec<&'static BackendRegistration>> {
    let all: Vec<_> = inventory::iter::<BackendRegistration>.into_iter().collect();
    let mut claimed = std::collections::HashMap::new();
    for registration in &all {
        for kind in names(registration) {
            if let Some(first) = claimed.insert(kind, registration.crate_name) {
                return Err(Error::DuplicateBackend { kind: kind.to_owned(), first, second: registration.crate_name });
            }
        }
    }
    Ok(all)
}

fn names(registration: &BackendRegistration) -> impl Iterator<Item = &'static str> {
    std::iter::once(registration.kind).chain(registration.aliases.iter().copied())
}

/// The backend of a type string.
///
/// # Errors
/// [`Error::UnknownBackend`] that lists the known types, [`Error::DuplicateBackend`].
pub fn find(kind: &str) -> Result<&'static BackendRegistration> {
    let all = registrations()?;
    if let Some(found) = all.iter().copied().find(|registration| names(registration).any(|name| name == kind)) {
        return Ok(found);
    }
    let mut known: Vec<String> = all.iter().map(|registration| registration.kind.to_owned()).collect();
    known.sort();
    let hint = missing_crate(kind)
        .or_else(|| nearest(kind, known.iter().map(String::as_str)).map(|name| format!("did you mean `{name}`?")));
    Err(Error::UnknownBackend { kind: kind.to_owned(), known, hint })
}

/// The crate of this project that would bring a type string.
fn missing_crate(kind: &str) -> Option<String> {
    let lower = kind.to_lowercase();
    [
        ("sqlite", "metaxy-sqlite"),
        ("duckdb", "metaxy-duckdb"),
        ("delta", "metaxy-delta"),
        ("postgres", "metaxy-postgres"),
    ]
    .into_iter()
    .find(|(word, _)| lower.contains(word))
    .map(|(_, name)| {
        format!("add the crate `{name}` to your dependencies and link it with `use {} as _;`", name.replace('-', "_"))
    })
}
