#![doc = include_str!("../README.md")]

pub mod clock;
pub mod crash;
pub mod faults;
pub mod memory;
pub mod oracle;
pub mod scenario;
pub mod workload;
