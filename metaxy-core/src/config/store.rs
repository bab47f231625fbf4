//! The settings of one store.

use std::collections::BTreeSet;
use std::fmt;

use indexmap::IndexMap;
use serde::Deserialize;

use crate::error::{Error, Result, config_place, nearest};
use crate::hash::{HashAlgorithm, MIN_TRUNCATION};
use crate::registry::{self, BackendRegistration, BackendSettings, Place, push_path, read};
use crate::secret;
use crate::store::{Duplicates, VersioningEngine};

use super::document::{Node, Value};

/// A store as the configuration gives it: its type, the settings that every store has, and those of its backend.
#[derive(Clone)]
pub struct StoreConfig {
    /// The path of the store in the configuration, and of its settings: they stand beside `type` or in `config`.
    path: Vec<String>,
    settings_path: Vec<String>,
    kind: Node,
    settings: Node,
}

/// Settings that every store has, whatever its backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommonSettings {
    /// How rows are hashed; as the backend prefers where nothing is said.
    #[serde(default)]
    pub hash_algorithm: Option<HashAlgorithm>,
    /// The names of the stores to read features from that this one does not have.
    #[serde(default)]
    pub fallback_stores: Vec<String>,
    /// Who computes increments.
    #[serde(default, deserialize_with = "engine")]
    pub versioning_engine: VersioningEngine,
    /// Whether a write may create a table.
    #[serde(default)]
    pub auto_create_tables: Option<bool>,
    /// How many characters of every row hash are kept.
    #[serde(default)]
    pub hash_truncation_length: Option<usize>,
    /// What writes put into `metaxy_materialization_id` unless they say otherwise.
    #[serde(default)]
    pub materialization_id: Option<String>,
    /// What a write does with several rows of one sample.
    #[serde(default)]
    pub duplicates: Duplicates,
}

const COMMON: [&str; 7] = [
    "hash_algorithm",
    "fallback_stores",
    "versioning_engine",
    "auto_create_tables",
    "hash_truncation_length",
    "materialization_id",
    "duplicates",
];

/// `polars` is what the Python package calls the engine that is not the storage system's.
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
    /// A store of a type, such as `sqlite`.
    pub fn new(kind: impl Into<String>) -> Self {
        let kind = Node::of(toml::Value::String(kind.into()), &Place::default());
        Self { path: Vec::new(), settings_path: Vec::new(), kind, settings: Node::table(Place::default()) }
    }

    /// Gives a setting its value.
    #[must_use]
    pub fn setting(mut self, key: impl Into<String>, value: impl Into<toml::Value>) -> Self {
        if let Some(table) = self.settings.as_table_mut() {
            table.insert(key.into(), Node::of(value.into(), &Place::default()));
        }
        self
    }

    /// Adds a store to fall back on.
    #[must_use]
    pub fn fallback_store(mut self, name: impl Into<String>) -> Self {
        let name = Node::of(toml::Value::String(name.into()), &Place::default());
        if let Some(table) = self.settings.as_table_mut() {
            let list = || Node::of(toml::Value::Array(Vec::new()), &Place::default());
            if let Value::Array(names) = &mut table.entry("fallback_stores".to_owned()).or_insert_with(list).value {
                names.push(name);
            }
        }
        self
    }

    /// Chooses how rows are hashed.
    #[must_use]
    pub fn hash_algorithm(self, algorithm: HashAlgorithm) -> Self {
        self.setting("hash_algorithm", algorithm.name())
    }

    /// The type, as the configuration spells it.
    pub fn kind(&self) -> &str {
        self.kind.as_str().unwrap_or_default()
    }

    /// All settings except the type. They may hold secrets.
    pub fn settings(&self) -> toml::Table {
        match self.settings.to_toml() {
            toml::Value::Table(table) => table,
            _ => toml::Table::new(),
        }
    }

    /// The settings that every store has.
    ///
    /// # Errors
    /// [`Error::Config`] where one does not fit.
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

    /// The backend of this store's type.
    ///
    /// # Errors
    /// [`Error::UnknownBackend`], [`Error::DuplicateBackend`].
    pub fn registration(&self) -> Result<&'static BackendRegistration> {
        registry::find(self.kind()).map_err(|error| match error {
            Error::UnknownBackend { kind, known, hint, .. } => {
                let place = Some(shown(&self.kind.place, &[&self.path, &["type".to_owned()]]));
                Error::UnknownBackend { kind, known, hint, place }
            }
            other => other,
        })
    }

    /// The settings of the backend. Those that only the Python package knows are left out, with a warning.
    ///
    /// # Errors
    /// [`Error::Config`] for a `${VAR}` without a value, and as [`StoreConfig::registration`].
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
                "these settings only mean something to the Python package and are ignored"
            );
        }
        let mut key = String::new();
        push_path(&mut key, &self.settings_path);
        Ok(BackendSettings { table, key, file: self.kind.place.file.clone(), places: self.settings.places() })
    }

    /// Every `${VAR}` must have got its value.
    pub(super) fn check_variables(&self) -> Result<()> {
        if let Some((_, reason)) = self.kind.first_unresolved() {
            let mut key = String::new();
            push_path(&mut key, &self.path);
            push_path(&mut key, &["type".to_owned()]);
            return Err(self.kind.place.error(key, reason));
        }
        match self.settings.first_unresolved() {
            Some((path, reason)) => Err(self.error_at(&path, reason)),
            None => Ok(()),
        }
    }

    /// The error of one of the settings.
    pub(super) fn error_at(&self, path: &[String], reason: impl Into<String>) -> Error {
        let mut key = String::new();
        push_path(&mut key, &self.settings_path);
        push_path(&mut key, path);
        self.settings.places().nearest(path).cloned().unwrap_or_default().error(key, reason)
    }

    /// Where one of the settings stands, for errors that are not about the setting alone.
    pub(super) fn place_of(&self, path: &[String]) -> String {
        let place = self.settings.places().nearest(path).cloned().unwrap_or_default();
        shown(&place, &[&self.settings_path, path])
    }

    /// A backend that refuses a setting knows its name alone; says where it stands.
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

    /// The store as it goes into a document.
    pub(super) fn into_node(self) -> Node {
        let table = IndexMap::from([("type".to_owned(), self.kind), ("config".to_owned(), self.settings)]);
        Node::new(Value::Table(table), Place::default())
    }
}

fn shown(place: &Place, path: &[&[String]]) -> String {
    let mut key = String::new();
    path.iter().for_each(|part| push_path(&mut key, part));
    config_place(place.file.as_deref(), place.line, &key)
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

/// Brings every store into one form: `type`, and all else in a `config` table. Gives the names of those that had their
/// settings beside `type`.
pub(super) fn normalize(document: &mut Node) -> Result<BTreeSet<String>> {
    let mut beside = BTreeSet::new();
    let Some(stores) = document.as_table_mut().and_then(|table| table.get_mut("stores")) else { return Ok(beside) };
    let what = stores.describe();
    let place = stores.place.clone();
    let Some(table) = stores.as_table_mut() else {
        return Err(place.error("stores", format!("expected a table of stores, found {what}")));
    };
    for (name, store) in table {
        if normalize_store(name, store)? {
            beside.insert(name.clone());
        }
    }
    Ok(beside)
}

fn normalize_store(name: &str, store: &mut Node) -> Result<bool> {
    let place = store.place.clone();
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
                "the settings of a store stand beside its `type` or in its `config` table, not in both; move `{key}` \
                 into [stores.{name}.config]"
            );
            return Err(node.error(&["stores", name, key], reason));
        }
        (Some(config), None) => config,
        (None, _) => Node::new(Value::Table(rest), place),
    };
    table.extend(kind.map(|kind| ("type".to_owned(), kind)));
    table.insert("config".to_owned(), config);
    Ok(beside)
}

/// Takes the stores out of a document in which they have their normal form.
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

/// A store; none where variables give settings of a store that nobody has declared.
fn read_store(name: &str, mut node: Node, beside: bool) -> Result<Option<StoreConfig>> {
    let place = node.place.clone();
    let path = vec!["stores".to_owned(), name.to_owned()];
    let Some(table) = node.as_table_mut() else {
        return Err(node.error(&["stores", name], "expected a table with the store's `type`"));
    };
    let settings = table.shift_remove("config").unwrap_or_else(|| Node::table(place.clone()));
    let Some(kind) = table.shift_remove("type") else {
        if place.variable.is_some() {
            tracing::warn!(
                store = name,
                "environment variables give settings of a store that has no type; it is ignored"
            );
            return Ok(None);
        }
        let near = settings.as_table().and_then(|settings| nearest("type", settings.keys().map(String::as_str)));
        let hint = near.map(|near| format!(" (is it `{near}`?)")).unwrap_or_default();
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
