//! Prints the effective configuration.

use crate::error::{Error, Result};
use crate::secret;

use super::MetaxyConfig;

impl MetaxyConfig {
    /// Returns the effective configuration as TOML: files, variables and defaults together, with every secret masked.
    /// Both this program and the Python package can read it.
    ///
    /// # Errors
    /// [`Error::Config`] if it cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(&self.effective()).map_err(|error| Error::Config {
            file: self.file.clone(),
            line: None,
            key: String::new(),
            reason: format!("the configuration cannot be written as TOML: {error}"),
        })
    }

    /// Returns the effective settings, masked.
    pub(super) fn effective(&self) -> toml::Table {
        let mut table = toml::Table::new();
        let mut set = |key: &str, value: Option<toml::Value>| table.extend(value.map(|value| (key.to_owned(), value)));
        set("store", Some(self.store().into()));
        set("project", self.project().map(Into::into));
        set("hash_truncation_length", i64::try_from(self.hash_truncation_length()).ok().map(Into::into));
        set("auto_create_tables", self.auto_create_tables().map(Into::into));
        set("enable_map_datatype", Some(self.enable_map_datatype().into()));
        set("sync", Some(self.sync().into()));
        set("locked", self.locked().map(Into::into));
        let selections = self.extra_features().iter().filter_map(|one| toml::Value::try_from(one).ok());
        set(
            "extra_features",
            Some(toml::Value::Array(selections.collect())).filter(|_| !self.extra_features().is_empty()),
        );
        set("metaxy_lock_path", self.fields.metaxy_lock_path.as_deref().map(Into::into));
        // The Python package refuses `features` at the top.
        let patterns =
            self.feature_patterns().map(|patterns| toml::Value::Array(patterns.into_iter().map(Into::into).collect()));
        let own = |patterns| toml::Table::from_iter([("features".to_owned(), patterns)]);
        set("ext", patterns.map(|patterns| toml::Table::from_iter([("rust".to_owned(), own(patterns).into())]).into()));
        let stores: toml::Table =
            self.stores().map(|(name, store)| (name.to_owned(), store.effective().into())).collect();
        set("stores", Some(stores.into()));
        table
    }
}

impl super::StoreConfig {
    fn effective(&self) -> toml::Table {
        let config = secret::mask_table(&self.settings());
        toml::Table::from_iter([
            ("type".to_owned(), self.kind().into()),
            ("config".to_owned(), toml::Value::Table(config)),
        ])
    }
}
