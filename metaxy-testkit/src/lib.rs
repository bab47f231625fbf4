#![doc = include_str!("../README.md")]

pub mod clock;
pub mod crash;
pub mod memory;
#[cfg(feature = "postgres-server")]
pub mod postgres_server;
pub mod scenario;
pub mod workload;
