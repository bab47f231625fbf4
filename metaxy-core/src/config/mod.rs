//! `metaxy.toml`: stores by name, the files in which features are defined, and the settings of a project.
//!
//! ```toml
//! store = "dev"                                # the default store
//! project = "films"
//!
//! [ext.rust]
//! features = ["features/*.toml"]               # definitions of features
//!
//! [stores.dev]
//! type = "sqlite"
//! [stores.dev.config]
//! database = "${HOME}/.metaxy/dev.db"
//! fallback_stores = ["prod"]                   # features that dev does not have are read from there
//!
//! [stores.prod]
//! type = "metaxy.ext.delta.DeltaMetadataStore" # or "delta": the Python package reads the same file
//! [stores.prod.config]
//! root_path = "s3://bucket/metaxy"
//! storage_options = { AWS_REGION = "eu-west-1" }
//! ```
//!
//! - **`[stores.<name>.config]`** holds the settings of a store. They may also be beside its `type`, but the Python
//!   package refuses a file in that form.
//! - **`[ext.rust]`** holds what the Python package does not know: it accepts this table, and refuses unknown fields
//!   elsewhere. If only Rust programs read the file, `features` may also be at the top.
//! - **`features`** lists [feature files](crate::feature_files) by paths, in which `*`, `?`, `[ab]` and `**` are
//!   wildcards. They are relative to the file that names them; those of `METAXY_FEATURES` to the working directory. A
//!   path that matches no file is an error. Hidden files have to be named. The files of an extended configuration are
//!   read too. [`MetaxyConfig::graph`] returns the graph.
//! - **Location.** The file that `METAXY_CONFIG` names; or else the `metaxy.toml`, or the `pyproject.toml` with
//!   `[tool.metaxy]`, of the nearest directory from the working directory upwards that has one of them (the former
//!   wins); or else the defaults. [`MetaxyConfig::loader`] uses other locations, [`MetaxyConfig::builder`] needs no
//!   file.
//! - **`extend = "other.toml"`** includes another file: this file's scalars replace those of the other, arrays are
//!   appended, tables merged one level deep. The path is relative to the file that names it.
//! - **`${VAR}`** in any string is replaced by an environment variable; `${VAR:-default}` has a default if it is not
//!   set. A missing variable is an error when the value is needed: for a store, when that store is opened.
//! - **`METAXY_<FIELD>`** overrides the files, with `__` between the keys of nested tables:
//!   `METAXY_STORES__PROD__CONFIG__ROOT_PATH`. Arrays and tables are written as JSON:
//!   `METAXY_FEATURES='["features/*.toml"]'`.
//! - **`METAXY_MATERIALIZATION_ID`** is the value of `metaxy_materialization_id` in writes, unless the store has its
//!   own `materialization_id`: an orchestrator sets it for a run. The Python package does not have that setting in a
//!   file.
//! - **`METAXY_MEMORY_LIMIT`** (`4GB`, `512MiB`) limits the bytes that resolves and reads of the process hold in
//!   memory, except for stores with their own `memory_limit`. Rows beyond the limit are written to files in the store's
//!   `temp_dir`. The Python package does not have these settings in a file, nor `checkpoints`, the directory where a store
//!   keeps what its last increments knew.
//!
//! | field | meaning | default |
//! |---|---|---|
//! | `store` | the default store | `"dev"` |
//! | `stores.<name>` | a store: its `type`, and its settings | |
//! | `features` | the files that define features, here or in `[ext.rust]` | none |
//! | `project` | the project's name, under which definitions are pushed: letters, digits, `_`, `-` | none |
//! | `hash_truncation_length` | the number of characters of every version that are kept | 8 |
//! | `auto_create_tables` | whether writes may create SQL tables | the default of the backend |
//! | `enable_map_datatype` | whether new tables have their by-field columns as maps instead of structs | `false` |
//! | `sync` | whether [`MetaxyConfig::graph_with`] takes the features of other projects from the store | `true` |
//! | `locked` | whether another version there than in the lock file is an error | `false`: it is told |
//! | `extra_features` | features of other projects beside those on which the project depends | none |
//! | `metaxy_lock_path` | the lock file, with the features of other projects as they are expected | `"metaxy.lock"` beside the file |
//!
//! Every store has the settings of [`CommonSettings`], and those of its backend. Unknown keys are refused, with the
//! file, the line and the nearest known key. Keys that only the Python package uses are accepted with a warning.

mod builder;
mod discover;
mod document;
mod ext;
mod extend;
mod features;
mod fields;
mod linked;
mod lock;
mod open;
mod overlay;
mod print;
mod store;
mod variables;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::error::{Error, Result, nearest};
use crate::graph::{FeatureGraph, FeatureGraphBuilder};
use crate::hash::MIN_TRUNCATION;
use crate::registry::{self, Origins};

pub use crate::definitions::FeatureSelection;
pub use builder::ConfigBuilder;
pub use discover::ConfigLoader;
pub use linked::{ChangedExternal, LinkedGraph, Lock, LockChange};
pub use store::{CommonSettings, StoreConfig};
pub use variables::Environment;

use document::Node;
use features::FilePattern;
use fields::Fields;

/// A configuration: the stores, and the settings of the project.
///
/// ```
/// use metaxy_core::config::MetaxyConfig;
/// let text = "project = 'films'\n[stores.dev]\ntype = 'sqlite'\nconfig.database = 'dev.db'";
/// let config = MetaxyConfig::from_toml_str(text)?;
/// assert_eq!(config.store(), "dev");
/// assert_eq!(config.project(), Some("films"));
/// # Ok::<(), metaxy_core::Error>(())
/// ```
#[derive(Clone)]
pub struct MetaxyConfig {
    file: Option<PathBuf>,
    fields: Fields,
    stores: IndexMap<String, StoreConfig>,
    materialization_id: Option<String>,
    features: Vec<FilePattern>,
    /// The origins of the fields.
    origins: Origins,
}

impl MetaxyConfig {
    /// Loads the configuration of the working directory: the file that `METAXY_CONFIG` names, or else the nearest
    /// `metaxy.toml` or `[tool.metaxy]`, upwards; or else the defaults. `METAXY_*` variables override it.
    ///
    /// # Errors
    /// [`Error::Config`] that names the file, the line and the key; [`Error::DuplicateBackend`].
    pub fn load() -> Result<Self> {
        ConfigLoader::new().load()
    }

    /// Loads the configuration of a file. `METAXY_*` variables override it.
    ///
    /// # Errors
    /// The errors of [`MetaxyConfig::load`].
    pub fn load_from(path: impl AsRef<Path>) -> Result<Self> {
        ConfigLoader::new().file(path.as_ref()).load()
    }

    /// Parses the configuration in a text. Neither files (unless it extends one) nor `METAXY_*` variables take part;
    /// `${VAR}` does.
    ///
    /// # Errors
    /// The errors of [`MetaxyConfig::load`].
    pub fn from_toml_str(text: &str) -> Result<Self> {
        ConfigLoader::new().without_overrides().load_text(text)
    }

    /// Returns a builder for a configuration in code.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Returns a loader for other sources than those of the process: another directory, another environment.
    pub fn loader() -> ConfigLoader {
        ConfigLoader::new()
    }

    /// Checks a merged document, whose stores are in their normal form, and reads it. `beside` names the stores whose
    /// settings were written beside `type`. Paths that no file has are relative to a directory.
    fn from_document(
        file: Option<PathBuf>,
        mut document: Node,
        beside: &BTreeSet<String>,
        directory: &Path,
    ) -> Result<Self> {
        registry::registrations()?;
        let stores = store::take_stores(&mut document, beside)?;
        let fields = Fields::read(&document)?;
        let origins = document.origins();
        let features = FilePattern::all(fields.features.as_deref().unwrap_or_default(), &origins, directory);
        Ok(Self { file, fields, stores, materialization_id: None, features, origins })
    }

    /// Returns the file from which it was loaded.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Returns the name of the default store.
    pub fn store(&self) -> &str {
        &self.fields.store
    }

    /// Returns the stores, by name, in the order of the file.
    pub fn stores(&self) -> impl Iterator<Item = (&str, &StoreConfig)> {
        self.stores.iter().map(|(name, store)| (name.as_str(), store))
    }

    /// Returns the settings of a store.
    ///
    /// # Errors
    /// [`Error::Config`] that lists the configured stores.
    pub fn store_config(&self, name: &str) -> Result<&StoreConfig> {
        self.stores.get(name).ok_or_else(|| self.unknown_store(name))
    }

    /// Returns the name of the project.
    pub fn project(&self) -> Option<&str> {
        self.fields.project.as_deref()
    }

    /// Returns the number of characters of every version that are kept.
    pub fn hash_truncation_length(&self) -> usize {
        self.fields.hash_truncation_length.unwrap_or(MIN_TRUNCATION)
    }

    /// Returns whether stores may create tables, if that is set.
    pub fn auto_create_tables(&self) -> Option<bool> {
        self.fields.auto_create_tables
    }

    /// Returns the value of `METAXY_MATERIALIZATION_ID`, which an orchestrator sets for a run: the default of
    /// `metaxy_materialization_id` in the writes of every store.
    pub fn materialization_id(&self) -> Option<&str> {
        self.materialization_id.as_deref()
    }

    /// Returns the default of `metaxy_materialization_id` in the writes of a store.
    fn materialization_id_of<'a>(&'a self, store: &'a CommonSettings) -> Option<&'a str> {
        store.materialization_id.as_deref().or(self.materialization_id())
    }

    /// Returns whether new tables have their by-field columns as maps instead of structs.
    pub fn enable_map_datatype(&self) -> bool {
        self.fields.enable_map_datatype
    }

    /// Returns whether [`graph_with`](Self::graph_with) takes the features of other projects from the store.
    pub fn sync(&self) -> bool {
        self.fields.sync
    }

    /// Returns whether a feature of another project that has another version in the store than in the lock file is an
    /// error.
    pub fn locked(&self) -> Option<bool> {
        self.fields.locked
    }

    /// Returns the features that [`graph_with`](Self::graph_with) takes from the store beside those on which the project
    /// depends.
    pub fn extra_features(&self) -> &[FeatureSelection] {
        &self.fields.extra_features
    }

    /// Returns a builder for a graph whose versions have the length of this configuration.
    pub fn graph_builder(&self) -> FeatureGraphBuilder {
        FeatureGraph::builder().hash_truncation_length(self.hash_truncation_length())
    }

    fn unknown_store(&self, name: &str) -> Error {
        let origin = registry::Origin { file: self.file.clone(), ..registry::Origin::default() };
        origin.error("stores", self.missing_store(name))
    }

    /// Returns why there is no store of a name, and which stores there are.
    fn missing_store(&self, name: &str) -> String {
        if self.stores.is_empty() {
            let source = match &self.file {
                Some(_) => "the configuration has no stores",
                None => "neither a metaxy.toml nor a pyproject.toml with [tool.metaxy] was found",
            };
            return format!("there is no store `{name}`: {source}; add [stores.{name}]");
        }
        let names: Vec<&str> = self.stores.keys().map(String::as_str).collect();
        let hint =
            nearest(name, names.iter().copied()).map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default();
        format!("there is no store `{name}`{hint}; configured stores: {}", names.join(", "))
    }
}

/// Shows the configuration with its secrets masked.
impl fmt::Debug for MetaxyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetaxyConfig").field("file", &self.file).field("effective", &self.effective()).finish()
    }
}
