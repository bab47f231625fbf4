#![doc = include_str!("../README.md")]

mod backend;
mod catalog;
mod changes;
mod config;
mod connection;
mod delete;
mod error;
mod immutable;
mod keys;
mod location;
mod read;
mod sql;
mod types;
mod write;

use std::sync::Arc;

use metaxy_core::registry::BackendRegistration;

pub use backend::SqliteBackend;
pub use config::SqliteConfig;

/// The programs of the project's README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct ProjectReadme;

/// The type string of this backend.
pub const KIND: &str = "sqlite";

inventory::submit! {
    BackendRegistration {
        kind: KIND,
        aliases: &[],
        crate_name: "metaxy-sqlite",
        ignored_settings: &[],
        create: |settings| Ok(Arc::new(SqliteBackend::new(settings.parse()?)?)),
    }
}
