#![doc = include_str!("../README.md")]

mod backend;
mod catalog;
mod config;
mod copy;
mod held;
mod insert;
mod native;
mod session;
mod sql;
mod types;

pub use backend::{PostgresBackend, Traffic};
pub use config::{ConnectionParams, PostgresConfig};

/// The type string of this backend.
pub(crate) const KIND: &str = "postgres";
