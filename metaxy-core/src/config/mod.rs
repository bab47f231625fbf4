//! `metaxy.toml`: stores by name, and the settings of a project.
//!
//! ```toml
//! store = "dev"                                # the store that is used where none is named
//! project = "films"
//!
//! [stores.dev]
//! type = "sqlite"
//! [stores.dev.config]
//! database = "${HOME}/.metaxy/dev.db"
//! fallback_stores = ["prod"]                   # read from there what dev does not have
//!
//! [stores.prod]
//! type = "metaxy.ext.delta.DeltaMetadataStore" # or "delta": the Python package reads the same file
//! [stores.prod.config]
//! root_path = "s3://bucket/metaxy"
//! storage_options = { AWS_REGION = "eu-west-1" }
//! ```
//!
//! - **`[stores.<name>.config]`** holds the settings of a store. They may also stand beside its `type`, but the Python
//!   package refuses a file in that form.
//! - **Where it is found.** In the file that `METAXY_CONFIG` names; else in the nearest directory, from the working
//!   directory upwards, that has a `metaxy.toml` or a `pyproject.toml` with `[tool.metaxy]` (the former wins). Without any
//!   file the defaults hold. [`MetaxyConfig::loader`] looks elsewhere, [`MetaxyConfig::builder`] needs no file.
//! - **`extend = "other.toml"`** takes over what another file says: scalars are replaced, arrays appended, tables merged
//!   one level deep. The path is relative to the file that names it.
//! - **`${VAR}`** in any string is replaced by an environment variable, `${VAR:-default}` also where it is not set. What
//!   is missing is an error as soon as the value is needed: for a store, when that store is opened.
//! - **`METAXY_<FIELD>`** overrides the files, with `__` between the keys of nested tables:
//!   `METAXY_STORES__PROD__CONFIG__ROOT_PATH`. Arrays and tables are written as JSON.
//! - **`METAXY_MATERIALIZATION_ID`** is what writes put into `metaxy_materialization_id`, unless the store has a
//!   `materialization_id` of its own: an orchestrator sets it for a run. The Python package does not know that setting in
//!   a file.
//!
//! | field | meaning | default |
//! |---|---|---|
//! | `store` | the store that is used where none is named | `"dev"` |
//! | `stores.<name>` | a store: its `type`, and its settings | |
//! | `project` | the project's name: letters, digits, `_`, `-` | none |
//! | `hash_truncation_length` | how many characters of every version are kept | 8 |
//! | `auto_create_tables` | whether writes may create SQL tables | as the backend prefers |
//! | `enable_map_datatype` | whether new tables have their by-field columns as maps instead of structs | `false` |
//! | `sync`, `locked`, `extra_features` | how the Python package brings definitions of external features up to date; not used here | `true`, none, none |
//!
//! Every store, whatever its backend, has the settings of [`CommonSettings`]. Keys that nobody knows are refused, with the
//! file, the line and the key that may be meant. Keys that only mean something to the Python package are accepted with a
//! warning.

mod builder;
mod discover;
mod document;
mod extend;
mod fields;
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
use crate::registry::{self, Places};

pub use builder::ConfigBuilder;
pub use discover::ConfigLoader;
pub use fields::FeatureSelection;
pub use store::{CommonSettings, StoreConfig};
pub use variables::Environment;

use document::Node;
use fields::Fields;

/// A configuration: which stores there are, and how the project uses them.
///
/// ```
/// use metaxy_core::config::MetaxyConfig;
/// let config = MetaxyConfig::from_toml_str("project = 'films'\n[stores.dev]\ntype = 'sqlite'\nconfig.database = 'dev.db'")?;
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
    /// Where the fields were given.
    places: Places,
}

impl MetaxyConfig {
    /// The configuration of the working directory: that of the file that `METAXY_CONFIG` names, else that of the nearest
    /// `metaxy.toml` or `[tool.metaxy]`, upwards; else the defaults. `METAXY_*` variables override it.
    ///
    /// # Errors
    /// [`Error::Config`] that names the file, the line and the key; [`Error::DuplicateBackend`].
    pub fn load() -> Result<Self> {
        ConfigLoader::new().load()
    }

    /// The configuration of a file. `METAXY_*` variables override it.
    ///
    /// # Errors
    /// As [`MetaxyConfig::load`].
    pub fn load_from(path: impl AsRef<Path>) -> Result<Self> {
        ConfigLoader::new().file(path.as_ref()).load()
    }

    /// The configuration in a text. Neither files (unless it extends one) nor `METAXY_*` variables take part; `${VAR}`
    /// does.
    ///
    /// # Errors
    /// As [`MetaxyConfig::load`].
    pub fn from_toml_str(text: &str) -> Result<Self> {
        ConfigLoader::new().without_overrides().load_text(text)
    }

    /// Starts a configuration in code.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Starts loading with other sources than the process has: another directory, another environment.
    pub fn loader() -> ConfigLoader {
        ConfigLoader::new()
    }

    /// Checks a merged document, its stores in their normal form, and takes it apart. `beside` names the stores whose
    /// settings were written beside `type`.
    fn from_document(file: Option<PathBuf>, mut document: Node, beside: &BTreeSet<String>) -> Result<Self> {
        registry::registrations()?;
        let stores = store::take_stores(&mut document, beside)?;
        let fields = Fields::read(&document)?;
        Ok(Self { file, fields, stores, materialization_id: None, places: document.places() })
    }

    /// The file it was loaded from.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The name of the store that is used where none is named.
    pub fn store(&self) -> &str {
        &self.fields.store
    }

    /// The stores, by name, in the order of the file.
    pub fn stores(&self) -> impl Iterator<Item = (&str, &StoreConfig)> {
        self.stores.iter().map(|(name, store)| (name.as_str(), store))
    }

    /// The settings of a store.
    ///
    /// # Errors
    /// [`Error::Config`] that lists the stores there are.
    pub fn store_config(&self, name: &str) -> Result<&StoreConfig> {
        self.stores.get(name).ok_or_else(|| self.unknown_store(name))
    }

    /// The project's name.
    pub fn project(&self) -> Option<&str> {
        self.fields.project.as_deref()
    }

    /// How many characters of every version are kept.
    pub fn hash_truncation_length(&self) -> usize {
        self.fields.hash_truncation_length.unwrap_or(MIN_TRUNCATION)
    }

    /// Whether stores may create tables, where the configuration says so.
    pub fn auto_create_tables(&self) -> Option<bool> {
        self.fields.auto_create_tables
    }

    /// What writes of every store put into `metaxy_materialization_id` where neither the store nor the write says
    /// otherwise: the value of `METAXY_MATERIALIZATION_ID`, which an orchestrator sets for a run.
    pub fn materialization_id(&self) -> Option<&str> {
        self.materialization_id.as_deref()
    }

    /// What writes of a store put into `metaxy_materialization_id`.
    fn materialization_id_of<'a>(&'a self, store: &'a CommonSettings) -> Option<&'a str> {
        store.materialization_id.as_deref().or(self.materialization_id())
    }

    /// Whether new tables have their by-field columns as maps instead of structs.
    pub fn enable_map_datatype(&self) -> bool {
        self.fields.enable_map_datatype
    }

    /// Whether the Python package brings definitions of external features up to date from the store. Not used here: a graph
    /// holds the definitions that the program gives it.
    pub fn sync(&self) -> bool {
        self.fields.sync
    }

    /// Whether the Python package takes an external feature whose version is not the stored one for an error. Not used here.
    pub fn locked(&self) -> Option<bool> {
        self.fields.locked
    }

    /// Features that the Python package loads from the store beside those that the project names. Not used here.
    pub fn extra_features(&self) -> &[FeatureSelection] {
        &self.fields.extra_features
    }

    /// Starts a graph whose versions are as long as this configuration wants them.
    pub fn graph_builder(&self) -> FeatureGraphBuilder {
        FeatureGraph::builder().hash_truncation_length(self.hash_truncation_length())
    }

    fn unknown_store(&self, name: &str) -> Error {
        let place = registry::Place { file: self.file.clone(), ..registry::Place::default() };
        place.error("stores", self.missing_store(name))
    }

    /// Why there is no store of a name, and which there are.
    fn missing_store(&self, name: &str) -> String {
        if self.stores.is_empty() {
            let source = match &self.file {
                Some(_) => "the configuration names no stores",
                None => "no metaxy.toml was found, nor a pyproject.toml with [tool.metaxy]",
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
