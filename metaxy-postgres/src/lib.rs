#![doc = include_str!("../README.md")]

mod backend;
mod catalog;
mod config;
mod connection;
mod delete;
mod error;
mod native;
mod read;
mod server;
mod sql;
mod types;
mod write;

use std::sync::Arc;

use metaxy_core::Result;
use metaxy_core::backend::SharedBackend;
use metaxy_core::registry::{BackendRegistration, BackendSettings};

pub use backend::{PostgresBackend, Traffic};
pub use config::{ConnectionParams, PostgresConfig};

/// The type string of this backend.
pub const KIND: &str = "postgres";

inventory::submit! {
    BackendRegistration {
        kind: KIND,
        aliases: &[
            "postgresql",
            "metaxy.ext.postgresql.PostgreSQLMetadataStore",
            "metaxy.ext.postgresql.metadata_store.PostgreSQLMetadataStore",
            "metaxy.ext.metadata_stores.postgresql.PostgreSQLMetadataStore",
        ],
        crate_name: "metaxy-postgres",
        ignored_settings: &[],
        create,
    }
}

fn create(settings: BackendSettings) -> Result<SharedBackend> {
    let config: PostgresConfig = settings.parse()?;
    Ok(Arc::new(PostgresBackend::new(config)?))
}
