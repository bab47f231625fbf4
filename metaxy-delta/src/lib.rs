#![doc = include_str!("../README.md")]

mod backend;
mod config;
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
mod prune;
mod read;
mod storage;
mod types;
mod upload;
mod write;

pub use backend::DeltaBackend;
pub use config::{ColumnNames, DeltaSettings, Layout, WriteOptions};
