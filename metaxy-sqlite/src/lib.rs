#![doc = include_str!("../README.md")]

mod backend;
mod catalog;
mod config;
mod connection;
mod error;
mod read;
mod sql;
mod types;
mod write;

pub use backend::SqliteBackend;
pub use config::SqliteConfig;

/// The type string of this backend.
pub const KIND: &str = "sqlite";
