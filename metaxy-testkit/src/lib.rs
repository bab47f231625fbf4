#![doc = include_str!("../README.md")]

pub mod clock;
pub mod conformance;
pub mod crash;
pub mod faults;
pub mod fixtures;
pub mod fuzz;
pub mod ledger;
pub mod location;
pub mod logs;
pub mod long_runs;
pub mod memory;
pub mod oracle;
pub mod process;
pub mod python;
pub mod scenario;
pub mod servers;
pub mod sizes;
pub mod spans;
pub mod workload;

pub use location::{Load, Location, SharedLocation};
pub use metaxy_core::Result;
