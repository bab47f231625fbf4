//! The settings of one store.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::Deserialize;

use crate::error::{Error, Result, config_location, nearest};
use crate::hash::{HashAlgorithm, MIN_TRUNCATION};
use crate::memory;
use crate::registry::{self, BackendRegistration, BackendSettings, Origin, push_path, read};
use crate::secret;
use crate::store::{Duplicates, VersioningEngine};

use super::document::{Node, Value};

/// A store in a configuration: its type, the settings that every store has, and those of its backend.
#[derive(Clone)]
pub struct StoreConfig {
    /// The paths of the store and of its settings, which are beside `type` or in `config`.
    path: Vec<String>,
    settings_path: Vec<String>,
    kind: Node,
    settings: Node,
}

/// Settings that every store has, whatever its backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommonSettings {
    /// The algorithm that hashes rows; by default that of the backend.
    #[serde(default)]
    pub hash_algorithm: Option<HashAlgorithm>,
    /// The names of the stores from which features are read that this one does not have.
    #[serde(default)]
    pub fallback_stores: Vec<String>,
    /// The engine that computes increments.
    #[serde(default, deserialize_with = "engine")]
    pub versioning_engine: VersioningEngine,
    /// Whether a write may create a table.
    #[serde(default)]
    pub auto_create_tables: Option<bool>,
    /// The number of characters of every row hash that are kept.
    #[serde(default)]
    pub hash_truncation_length: Option<usize>,
    /// The default value of `metaxy_materialization_id` in writes.
    #[serde(default)]
    pub materialization_id: Option<String>,
    /// How a write handles several rows of one sample.
    #[serde(default)]
    pub duplicates: Duplicates,
    /// The limit of the bytes that resolves and reads hold in memory: a number, or a text such as `4GB`.
    #[serde(default, deserialize_with = "bytes")]
    pub memory_limit: Option<usize>,
    /// The directory for rows that do not fit into memory.
    #[serde(default)]
    pub temp_dir: Option<PathBuf>,
    /// The directory where the checkpoints of increments are kept for other processes.
    #[serde(default)]
    pub checkpoints: Option<PathBuf>,
}

const COMMON: [&str; 10] = [
    "hash_algorithm",
    "fallback_stores",
    "versioning_engine",
    "auto_create_tables",
    "hash_truncation_length",
    "materialization_id",
    "duplicates",
    "memory_limit",
    "temp_dir",
    "checkpoints",
];

/// Reads a number of bytes, or a text that names one.
fn bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<usize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number of bytes, or a text such as `4GB`")]
    enum Bytes {
        Number(usize),
        Text(String),
    }
    match Option::<Bytes>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Bytes::Number(bytes)) => Ok(Some(bytes)),
        Some(Bytes::Text(text)) => memory::parse_bytes(&text).map(Some).map_err(serde::de::Error::custom),
    }
}

/// Reads the engine. The Python package calls the one outside the storage system `polars`.
fn engine<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<VersioningEngine, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Name {
        Auto,
        Native,
        Arrow,
        Polars,
    }
    Ok(match Name::deserialize(deserializer)? {
        Name::Auto => VersioningEngine::Auto,
        Name::Native => VersioningEngine::Native,
        Name::Arrow | Name::Polars => VersioningEngine::Arrow,
    })
}

impl StoreConfig {
    /// Returns a store of a type, such as `sqlite`.
    pub fn new(kind: impl Into<String>) -> Self {
        let kind = Node::of(toml::Value::String(kind.into()), &Origin::default());
        Self { path: Vec::new(), settings_path: Vec::new(), kind, settings: Node::table(Origin::default()) }
    }

    /// Sets a setting.
    #[must_use]
    pub fn setting(mut self, key: impl Into<String>, value: impl Into<toml::Value>) -> Self {
        if let Some(table) = self.settings.as_table_mut() {
            table.insert(key.into(), Node::of(value.into(), &Origin::default()));
        }
        self
    }

    /// Adds a fallback store.
    #[must_use]
    pub fn fallback_store(mut self, name: impl Into<String>) -> Self {
        let name = Node::of(toml::Value::String(name.into()), &Origin::default());
        if let Some(table) = self.settings.as_table_mut() {
            let list = || Node::of(toml::Value::Array(Vec::new()), &Origin::default());
            if let Value::Array(names) = &mut table.entry("fallback_stores".to_owned()).or_insert_with(list).value {
                names.push(name);
            }
        }
        self
    }

    /// Sets the algorithm that hashes rows.
    #[must_use]
    pub fn hash_algorithm(self, algorithm: HashAlgorithm) -> Self {
        self.setting("hash_algorithm", algorithm.name())
    }

    /// Returns the type, as the configuration spells it.
    pub fn kind(&self) -> &str {
        self.kind.as_str().unwrap_or_default()
    }

    /// Returns all settings except the type. They may hold secrets.
    pub fn settings(&self) -> toml::Table {
        match self.settings.to_toml() {
            toml::Value::Table(table) => table,
            _ => toml::Table::new(),
        }
    }

    /// Reads the settings that every store has.
    ///
    /// # Errors
    /// [`Error::Config`] if one is invalid.
    pub fn common(&self) -> Result<CommonSettings> {
        let mut table = self.settings();
        table.retain(|key, _| COMMON.contains(&key));
        let common: CommonSettings =
            read::read_table(&table).map_err(|problem| self.error_at(&problem.path, problem.reason))?;
        match common.hash_truncation_length.filter(|length| *length < MIN_TRUNCATION) {
            Some(length) => Err(self.error_at(
                &["hash_truncation_length".to_owned()],
                format!("{length} is too short: keep at least {MIN_TRUNCATION} characters, or versions collide"),
            )),
            None => Ok(common),
        }
    }

    /// Returns the backend of this store's type.
    ///
    /// # Errors
    /// [`Error::UnknownBackend`], [`Error::DuplicateBackend`].
    pub fn registration(&self) -> Result<&'static BackendRegistration> {
        registry::find(self.kind()).map_err(|error| match error {
            Error::UnknownBackend { kind, known, hint, .. } => {
                let origin = Some(shown(&self.kind.origin, &[&self.path, &["type".to_owned()]]));
                Error::UnknownBackend { kind, known, hint, origin }
            }
            other => other,
        })
    }

    /// Returns the settings of the backend. Those of the Python package alone are left out, with a warning.
    ///
    /// # Errors
    /// [`Error::Config`] for a `${VAR}` without a value, and the errors of [`StoreConfig::registration`].
    pub fn backend_settings(&self) -> Result<BackendSettings> {
        self.check_variables()?;
        let registration = self.registration()?;
        let mut table = self.settings();
        table.retain(|key, _| !COMMON.contains(&key));
        let ignored: Vec<&str> =
            registration.ignored_settings.iter().copied().filter(|key| table.remove(*key).is_some()).collect();
        if !ignored.is_empty() {
            let mut store = String::new();
            push_path(&mut store, &self.path);
            tracing::warn!(
                store,
                settings = ignored.join(", "),
                "only the Python package uses these settings; they are ignored"
            );
        }
        let mut key = String::new();
        push_path(&mut key, &self.settings_path);
        Ok(BackendSettings { table, key, file: self.kind.origin.file.clone(), origins: self.settings.origins() })
    }

    /// Checks that every `${VAR}` was replaced.
    pub(super) fn check_variables(&self) -> Result<()> {
        if let Some((_, reason)) = self.kind.first_unresolved() {
            let mut key = String::new();
            push_path(&mut key, &self.path);
            push_path(&mut key, &["type".to_owned()]);
            return Err(self.kind.origin.error(key, reason));
        }
        match self.settings.first_unresolved() {
            Some((path, reason)) => Err(self.error_at(&path, reason)),
            None => Ok(()),
        }
    }

    /// Returns the error of a setting.
    pub(super) fn error_at(&self, path: &[String], reason: impl Into<String>) -> Error {
        let mut key = String::new();
        push_path(&mut key, &self.settings_path);
        push_path(&mut key, path);
        self.settings.origins().nearest(path).cloned().unwrap_or_default().error(key, reason)
    }

    /// Describes the origin of a setting, for errors that are not about the setting alone.
    pub(super) fn origin_of(&self, path: &[String]) -> String {
        let origin = self.settings.origins().nearest(path).cloned().unwrap_or_default();
        shown(&origin, &[&self.settings_path, path])
    }

    /// Adds the origin of a setting to an error of a backend, which knows only its name.
    pub(super) fn locate(&self, error: Error) -> Error {
        let mut own = String::new();
        push_path(&mut own, &self.settings_path);
        match error {
            Error::Config { file: None, line: None, key, reason } if !key.starts_with(&own) => {
                let path: Vec<String> = key.split('.').filter(|key| !key.is_empty()).map(str::to_owned).collect();
                self.error_at(&path, reason)
            }
            other => other,
        }
    }

    /// Returns the store as a part of a document.
    pub(super) fn into_node(self) -> Node {
        let table = IndexMap::from([("type".to_owned(), self.kind), ("config".to_owned(), self.settings)]);
        Node::new(Value::Table(table), Origin::default())
    }
}

fn shown(origin: &Origin, path: &[&[String]]) -> String {
    let mut key = String::new();
    path.iter().for_each(|part| push_path(&mut key, part));
    config_location(origin.file.as_deref(), origin.line, &key)
}

/// Shows the store with its secrets masked.
impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("type", &self.kind())
            .field("config", &secret::mask_table(&self.settings()))
            .finish()
    }
}

/// Brings every store into its normal form: `type`, and all else in a `config` table. Returns the names of the stores
/// that had their settings beside `type`.
pub(super) fn normalize(document: &mut Node) -> Result<BTreeSet<String>> {
    let mut beside = BTreeSet::new();
    let Some(stores) = document.as_table_mut().and_then(|table| table.get_mut("stores")) else { return Ok(beside) };
    let what = stores.describe();
    let origin = stores.origin.clone();
    let Some(table) = stores.as_table_mut() else {
        return Err(origin.error("stores", format!("expected a table of stores, found {what}")));
    };
    for (name, store) in table {
        if normalize_store(name, store)? {
            beside.insert(name.clone());
        }
    }
    Ok(beside)
}

fn normalize_store(name: &str, store: &mut Node) -> Result<bool> {
    let origin = store.origin.clone();
    let path = ["stores", name];
    if store.as_table().is_none() {
        return Err(store.error(&path, format!("expected a table with the store's `type`, found {}", store.describe())));
    }
    let Some(table) = store.as_table_mut() else { return Ok(false) };
    let kind = table.shift_remove("type");
    let config = table.shift_remove("config");
    let rest = std::mem::take(table);
    let beside = config.is_none();
    let config = match (config, rest.first()) {
        (Some(config), _) if config.as_table().is_none() => {
            let reason = format!("expected a table of settings, found {}", config.describe());
            return Err(config.error(&["stores", name, "config"], reason));
        }
        (Some(_), Some((key, node))) => {
            let reason = format!(
                "the settings of a store must be beside its `type` or in its `config` table, not in both; move `{key}` \
                 into [stores.{name}.config]"
            );
            return Err(node.error(&["stores", name, key], reason));
        }
        (Some(config), None) => config,
        (None, _) => Node::new(Value::Table(rest), origin),
    };
    table.extend(kind.map(|kind| ("type".to_owned(), kind)));
    table.insert("config".to_owned(), config);
    Ok(beside)
}

/// Takes the stores out of a document in their normal form.
pub(super) fn take_stores(document: &mut Node, beside: &BTreeSet<String>) -> Result<IndexMap<String, StoreConfig>> {
    let stores = document.as_table_mut().and_then(|table| table.shift_remove("stores"));
    let mut taken = IndexMap::new();
    let Some(Node { value: Value::Table(stores), .. }) = stores else { return Ok(taken) };
    for (name, store) in stores {
        if let Some(store) = read_store(&name, store, beside.contains(&name))? {
            taken.insert(name, store);
        }
    }
    Ok(taken)
}

/// Reads a store. Returns `None` if only environment variables name it.
fn read_store(name: &str, mut node: Node, beside: bool) -> Result<Option<StoreConfig>> {
    let origin = node.origin.clone();
    let path = vec!["stores".to_owned(), name.to_owned()];
    let Some(table) = node.as_table_mut() else {
        return Err(node.error(&["stores", name], "expected a table with the store's `type`"));
    };
    let settings = table.shift_remove("config").unwrap_or_else(|| Node::table(origin.clone()));
    let Some(kind) = table.shift_remove("type") else {
        if origin.variable.is_some() {
            tracing::warn!(store = name, "environment variables set settings of a store without a type; it is ignored");
            return Ok(None);
        }
        let near = settings.as_table().and_then(|settings| nearest("type", settings.keys().map(String::as_str)));
        let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        return Err(
            node.error(&["stores", name], format!("the store has no `type`{hint}; {}", registry::known_types()?))
        );
    };
    if kind.as_str().is_none() {
        return Err(kind.error(&["stores", name, "type"], format!("expected a string, found {}", kind.describe())));
    }
    let settings_path = match beside {
        true => path.clone(),
        false => path.iter().cloned().chain(["config".to_owned()]).collect(),
    };
    let store = StoreConfig { path, settings_path, kind, settings };
    if store.check_variables().is_ok() {
        store.common()?;
    }
    Ok(Some(store))
}
