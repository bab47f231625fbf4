//! Increments on a cluster: a scheduler and executors as processes, which every test shares that does not harm them.

mod appends;
mod commands;
mod engines;
mod failures;
mod processes;
mod proxy;
mod secrets;
mod stock;
mod stock_processes;
mod stock_values;
mod tables;
