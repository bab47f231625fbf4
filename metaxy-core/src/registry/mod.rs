//! Finds backends by their type string.
//!
//! A backend crate registers itself; a program that links the crate can use it in `metaxy.toml`:
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

pub(crate) mod read;
mod settings;

use crate::backend::SharedBackend;
use crate::error::{Error, Result, nearest};

pub(crate) use settings::push_path;
pub use settings::{BackendSettings, Origin, Origins};

/// How a backend is found and created.
pub struct BackendRegistration {
    /// The type string.
    pub kind: &'static str,
    /// Other names of the type, such as the class names of the Python package.
    pub aliases: &'static [&'static str],
    /// The crate of the backend.
    pub crate_name: &'static str,
    /// Settings that only the Python package uses. They are accepted, with a warning.
    pub ignored_settings: &'static [&'static str],
    /// Creates the backend from its settings, without opening anything.
    pub create: fn(BackendSettings) -> Result<SharedBackend>,
}

inventory::collect!(BackendRegistration);

/// Returns all registered backends.
///
/// # Errors
/// [`Error::DuplicateBackend`] if two have the same type string.
pub fn registrations() -> Result<Vec<&'static BackendRegistration>> {
    let mut all: Vec<_> = inventory::iter::<BackendRegistration>.into_iter().collect();
    all.sort_by_key(|registration| (registration.kind, registration.crate_name));
    let mut claimed = std::collections::BTreeMap::new();
    for registration in &all {
        for kind in names(registration) {
            match claimed.insert(kind, *registration) {
                Some(first) if !std::ptr::eq(first, *registration) => {
                    return Err(Error::DuplicateBackend {
                        kind: kind.to_owned(),
                        first: first.crate_name,
                        second: registration.crate_name,
                    });
                }
                _ => {}
            }
        }
    }
    Ok(all)
}

fn names(registration: &BackendRegistration) -> impl Iterator<Item = &'static str> {
    std::iter::once(registration.kind).chain(registration.aliases.iter().copied())
}

/// Returns the backend of a type string.
///
/// # Errors
/// [`Error::UnknownBackend`] that lists the known types, [`Error::DuplicateBackend`].
pub fn find(kind: &str) -> Result<&'static BackendRegistration> {
    let all = registrations()?;
    if let Some(found) = all.iter().copied().find(|registration| names(registration).any(|name| name == kind)) {
        return Ok(found);
    }
    let known: Vec<String> = all.iter().map(|registration| registration.kind.to_owned()).collect();
    let hint = nearest(&kind.to_lowercase(), all.iter().flat_map(|registration| names(registration)))
        .map(|name| format!("did you mean `{name}`?"))
        .or_else(|| {
            project_backend(kind).map(|(word, crate_name)| match known.iter().any(|kind| kind == word) {
                true => format!("did you mean `{word}`?"),
                false => missing_crate(crate_name),
            })
        })
        .or_else(|| {
            kind.starts_with("metaxy.ext.")
                .then(|| "this class of the Python package has no counterpart here".to_owned())
        });
    Err(Error::UnknownBackend { kind: kind.to_owned(), known, hint, origin: None })
}

/// Lists the registered types, for messages.
pub(crate) fn known_types() -> Result<String> {
    let known: Vec<String> = registrations()?.iter().map(|registration| registration.kind.to_owned()).collect();
    Ok(crate::error::known_types(&known))
}

/// The type strings and crates of the backends of this project.
const PROJECT_BACKENDS: [(&str, &str); 4] = [
    ("sqlite", "metaxy-sqlite"),
    ("duckdb", "metaxy-duckdb"),
    ("delta", "metaxy-delta"),
    ("postgres", "metaxy-postgres"),
];

/// Returns the backend of this project that a type string may mean: its name is part of the string, or nearly equal to
/// it.
fn project_backend(kind: &str) -> Option<(&'static str, &'static str)> {
    let lower = kind.to_lowercase();
    let near = || nearest(&lower, PROJECT_BACKENDS.iter().map(|(word, _)| *word));
    PROJECT_BACKENDS
        .into_iter()
        .find(|(word, _)| lower.contains(word))
        .or_else(|| near().and_then(|near| PROJECT_BACKENDS.into_iter().find(|(word, _)| *word == near)))
}

fn missing_crate(name: &str) -> String {
    format!(
        "it comes with the crate `{name}`: add it to your dependencies, and link it with `use {} as _;`",
        name.replace('-', "_")
    )
}
