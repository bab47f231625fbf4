#![doc = include_str!("../README.md")]

mod backend;
mod catalog;
#[cfg(feature = "ballista")]
pub mod cluster;
mod config;
mod connection;
mod delete;
mod error;
mod location;
mod native;
mod read;
mod scheduler;
mod table;
mod types;
mod write;

use std::sync::Arc;

use metaxy_core::registry::BackendRegistration;

pub use backend::DeltaBackend;
pub use config::{ColumnNames, DeltaConfig, Executors, OptionValue, WriteOptions};
pub use location::Layout;

/// The type string of this backend.
pub const KIND: &str = "delta";

inventory::submit! {
    BackendRegistration {
        kind: KIND,
        aliases: &[
            "metaxy.ext.metadata_stores.delta.DeltaMetadataStore",
            "metaxy.ext.polars.handlers.delta.DeltaMetadataStore",
            "metaxy.ext.polars.DeltaMetadataStore",
            "metaxy.ext.delta.DeltaMetadataStore",
        ],
        crate_name: "metaxy-delta",
        ignored_settings: &[],
        create: |settings| Ok(Arc::new(DeltaBackend::new(settings.parse()?)?)),
    }
}
