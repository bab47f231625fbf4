#![doc = include_str!("../README.md")]

pub mod clock;
pub mod crash;
pub mod memory;
pub mod scenario;
pub mod workload;
