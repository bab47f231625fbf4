#![doc = include_str!("../README.md")]

mod backend;
mod config;
mod constraints;
mod decode;
mod delete;
mod deletion;
mod error;
mod file;
mod location;
mod locks;
mod log;
mod maintain;
mod merge;
mod probe;
mod prune;
mod read;
mod runtime;
mod sink;
mod storage;
mod types;
mod upload;
mod write;

use std::sync::Arc;

use metaxy_core::registry::BackendRegistration;

pub use backend::DeltaBackend;
pub use config::{ColumnNames, DeltaSettings, Layout, WriteOptions};

/// The type string of this backend, as in `type = "delta"`.
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
