#![doc = include_str!("../README.md")]

pub mod backend;
pub mod blocking;
mod canonical_json;
mod capabilities;
mod checkpoint;
pub mod columns;
pub mod config;
#[cfg(feature = "polars")]
mod data_frame;
mod deferred;
pub mod definitions;
mod engine;
pub mod error;
pub mod executor;
pub mod feature_files;
#[cfg(feature = "datafusion")]
pub mod feature_table;
pub mod fence;
pub mod file_changes;
pub mod filter;
pub mod graph;
#[cfg(doc)]
pub mod guide;
pub mod hash;
pub mod ipc;
pub mod key;
mod lineage;
mod memory;
pub mod plan;
mod position;
pub mod registry;
mod scan;
pub mod schema;
pub mod secret;
pub mod shared;
pub mod spec;
pub mod spill;
pub mod store;
mod text_file;
pub mod writer;

pub use arrow;
pub use arrow::array::RecordBatch;
pub use backend::{AccessMode, BackendInfo, Capabilities, Scan, ScanRequest, ScanStage, SharedBackend, StoreBackend};
pub use checkpoint::Checkpoint;
pub use config::MetaxyConfig;
#[cfg(feature = "datafusion")]
pub use datafusion;
pub use definitions::{PushedDefinition, PushedDefinitions};
pub use error::{Error, Result};
pub use feature_files::FeatureFiles;
pub use filter::{Filter, col};
pub use graph::{FeatureGraph, FeaturePlan};
pub use hash::HashAlgorithm;
pub use key::{FeatureKey, FieldKey, FqFieldKey, IntoFeatureKey, IntoFieldKey};
pub use memory::parse_bytes;
pub use plan::RowKind;
#[cfg(feature = "polars")]
pub use polars_core;
pub use spec::{FeatureDep, FeatureSpec, FieldDep, FieldDeps, FieldSelection, FieldSpec, FieldsMapping, Lineage};
#[cfg(feature = "serde")]
pub use store::structs;
pub use store::{
    Basis, BlockingStore, Fallback, Increment, InputProgress, IntoBatches, IntoRows, LazyIncrement, MetadataStore,
    RowStream, Rows, VersioningEngine, Watch,
};
pub use writer::BufferedMetadataWriter;
