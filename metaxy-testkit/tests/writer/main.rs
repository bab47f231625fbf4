//! The guarantees of the buffered writer, on a backend with injected faults.

mod blocking;
mod budget;
mod columns;
mod dropped;
mod failures;
mod flush;
mod log;
mod progress;
mod rejected;
mod spool;
mod spool_attacks;
mod support;
