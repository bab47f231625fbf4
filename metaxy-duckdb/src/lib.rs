#![doc = include_str!("../README.md")]

mod append;
mod arrow_border;
mod backend;
mod catalog;
mod config;
mod database;
mod error;
mod hashing;
mod held;
mod native;
mod scan;
mod source;
mod sql;
mod texts;
mod types;

pub use backend::DuckDbBackend;
pub use config::DuckDbConfig;

/// The type string of this backend.
pub(crate) const KIND: &str = "duckdb";
