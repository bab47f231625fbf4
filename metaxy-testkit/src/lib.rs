#![doc = include_str!("../README.md")]

pub mod clock;
pub mod configured;
pub mod conformance;
pub mod crash;
pub mod faults;
pub mod location;
pub mod memory;
pub mod oracle;
#[cfg(feature = "postgres-server")]
pub mod postgres_server;
#[cfg(feature = "s3-server")]
pub mod s3_server;
pub mod scenario;
pub mod stores;
pub mod tables;
pub mod workload;

pub use location::{Location, OtherProcesses, SharedLocation, Support};
pub use metaxy_core::Result;
