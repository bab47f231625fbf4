#![doc = include_str!("../README.md")]

mod backend;
mod config;
mod constraints;
mod decode;
mod delete;
mod deletion;
mod errors;
mod file;
mod hint;
mod location;
mod locks;
mod log;
mod maintain;
mod merge;
mod probe;
mod protocol;
mod prune;
mod read;
mod row_ids;
mod runtime;
mod storage;
mod types;
mod upload;
mod write;

pub use backend::DeltaBackend;
pub use config::{ColumnNames, DeltaSettings, Layout, WriteOptions};
