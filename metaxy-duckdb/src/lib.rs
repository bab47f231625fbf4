#![doc = include_str!("../README.md")]

mod arrow_border;
mod backend;
mod catalog;
mod changes;
mod config;
mod connection;
mod delete;
mod error;
mod held;
mod keys;
mod known;
mod location;
mod native;
mod read;
mod sql;
mod types;
mod write;

use std::sync::Arc;

use metaxy_core::registry::{BackendRegistration, BackendSettings};
use metaxy_core::{Result, SharedBackend};

pub use backend::DuckDbBackend;
pub use config::DuckDbConfig;

/// The type string of this backend.
pub(crate) const KIND: &str = "duckdb";

inventory::submit! {
    BackendRegistration {
        kind: KIND,
        aliases: &[
            "metaxy.ext.duckdb.DuckDBMetadataStore",
            "metaxy.ext.duckdb.metadata_store.DuckDBMetadataStore",
            "metaxy.ext.metadata_stores.duckdb.DuckDBMetadataStore",
        ],
        crate_name: "metaxy-duckdb",
        ignored_settings: &["extensions"],
        create,
    }
}

fn create(mut settings: BackendSettings) -> Result<SharedBackend> {
    if settings.table.contains_key("ducklake") {
        // If it were ignored, rows would go to another store than the Python package's.
        let reason = "a DuckLake catalog cannot be used; remove it to store rows in `database` itself";
        return Err(settings.invalid("ducklake", reason));
    }
    config::take_connection_string(&mut settings)?;
    Ok(Arc::new(DuckDbBackend::new(settings.parse()?)?))
}
