//! Builds a configuration in code.

use std::collections::BTreeSet;
use std::path::Path;

use indexmap::IndexMap;

use crate::error::Result;
use crate::registry::Origin;

use super::document::{Node, Value};
use super::{FeatureSelection, MetaxyConfig, StoreConfig};

/// Builds a [`MetaxyConfig`] in code. Neither files nor environment variables take part.
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

    /// Sets the name of the default store.
    pub fn store(self, name: impl Into<String>) -> Self {
        self.field("store", name.into())
    }

    /// Adds a store.
    pub fn add_store(mut self, name: impl Into<String>, store: StoreConfig) -> Self {
        self.stores.insert(name.into(), store);
        self
    }

    /// Sets the name of the project.
    pub fn project(self, name: impl Into<String>) -> Self {
        self.field("project", name.into())
    }

    /// Sets the number of characters of every version that are kept, at least 8.
    pub fn hash_truncation_length(self, length: usize) -> Self {
        self.field("hash_truncation_length", i64::try_from(length).unwrap_or(i64::MAX))
    }

    /// Sets whether stores may create tables.
    pub fn auto_create_tables(self, create: bool) -> Self {
        self.field("auto_create_tables", create)
    }

    /// Sets whether new tables have their by-field columns as maps instead of structs.
    pub fn enable_map_datatype(self, enable: bool) -> Self {
        self.field("enable_map_datatype", enable)
    }

    /// Sets whether the Python package updates the definitions of external features from the store. Not used here.
    pub fn sync(self, sync: bool) -> Self {
        self.field("sync", sync)
    }

    /// Sets whether the Python package refuses an external feature whose version differs from the stored one. Not used
    /// here.
    pub fn locked(self, locked: bool) -> Self {
        self.field("locked", locked)
    }

    /// Adds features that the Python package loads from the store beside those of the project. Not used here.
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

    /// Adds a pattern of feature files, relative to the working directory: `features/*.toml`.
    pub fn features(mut self, pattern: impl Into<String>) -> Self {
        let list = self.fields.entry("features").or_insert_with(|| toml::Value::Array(Vec::new()));
        if let Some(list) = list.as_array_mut() {
            list.push(toml::Value::String(pattern.into()));
        }
        self
    }

    /// Checks the configuration, and returns it.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) that names the field,
    /// [`Error::DuplicateBackend`](crate::Error::DuplicateBackend).
    pub fn build(self) -> Result<MetaxyConfig> {
        let mut document = Node::of(self.fields.into(), &Origin::default());
        let stores = self.stores.into_iter().map(|(name, store)| (name, store.into_node())).collect();
        if let Some(table) = document.as_table_mut() {
            table.insert("stores".to_owned(), Node::new(Value::Table(stores), Origin::default()));
        }
        MetaxyConfig::from_document(None, document, &BTreeSet::new(), Path::new(""))
    }
}
