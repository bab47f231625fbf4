//! A configuration made in code.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use crate::error::Result;
use crate::registry::Place;

use super::document::{Node, Value};
use super::{FeatureSelection, MetaxyConfig, StoreConfig};

/// Collects a configuration in code. Neither files nor environment variables take part.
///
/// ```
/// use metaxy_core::config::{MetaxyConfig, StoreConfig};
/// let config = MetaxyConfig::builder()
///     .store("prod")
///     .add_store("prod", StoreConfig::new("sqlite").setting("database", "prod.db"))
///     .build()?;
/// assert_eq!(config.store(), "prod");
/// # Ok::<(), metaxy_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing happens before `build`"]
pub struct ConfigBuilder {
    fields: toml::Table,
    stores: IndexMap<String, StoreConfig>,
}

impl ConfigBuilder {
    fn field(mut self, name: &str, value: impl Into<toml::Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// The name of the store that is used where none is named.
    pub fn store(self, name: impl Into<String>) -> Self {
        self.field("store", name.into())
    }

    /// Adds a store.
    pub fn add_store(mut self, name: impl Into<String>, store: StoreConfig) -> Self {
        self.stores.insert(name.into(), store);
        self
    }

    /// The project's name.
    pub fn project(self, name: impl Into<String>) -> Self {
        self.field("project", name.into())
    }

    /// How many characters of every version are kept, at least 8.
    pub fn hash_truncation_length(self, length: usize) -> Self {
        self.field("hash_truncation_length", i64::try_from(length).unwrap_or(i64::MAX))
    }

    /// Whether stores may create tables.
    pub fn auto_create_tables(self, create: bool) -> Self {
        self.field("auto_create_tables", create)
    }

    /// Whether the Python package keeps map columns as maps. Here they always stay maps.
    pub fn enable_map_datatype(self, enable: bool) -> Self {
        self.field("enable_map_datatype", enable)
    }

    /// Whether definitions of external features are brought up to date from the store.
    pub fn sync(self, sync: bool) -> Self {
        self.field("sync", sync)
    }

    /// Whether an external feature whose version is not the stored one is an error.
    pub fn locked(self, locked: bool) -> Self {
        self.field("locked", locked)
    }

    /// Adds features to load from the store beside those that the project names.
    pub fn extra_features(mut self, selection: FeatureSelection) -> Self {
        let texts = |items: Vec<String>| toml::Value::Array(items.into_iter().map(toml::Value::String).collect());
        let mut table = toml::Table::new();
        if !selection.projects.is_empty() {
            table.insert("projects".to_owned(), texts(selection.projects));
        }
        if !selection.keys.is_empty() {
            table.insert("keys".to_owned(), texts(selection.keys.iter().map(ToString::to_string).collect()));
        }
        if selection.all {
            table.insert("all".to_owned(), true.into());
        }
        let list = self.fields.entry("extra_features").or_insert_with(|| toml::Value::Array(Vec::new()));
        if let Some(list) = list.as_array_mut() {
            list.push(table.into());
        }
        self
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) that names the field, [`Error::DuplicateBackend`](crate::Error::DuplicateBackend).
    pub fn build(self) -> Result<MetaxyConfig> {
        let mut document = Node::of(self.fields.into(), &Place::default());
        let stores = self.stores.into_iter().map(|(name, store)| (name, store.into_node())).collect();
        if let Some(table) = document.as_table_mut() {
            table.insert("stores".to_owned(), Node::new(Value::Table(stores), Place::default()));
        }
        MetaxyConfig::from_document(None, document, &BTreeSet::new())
    }
}
