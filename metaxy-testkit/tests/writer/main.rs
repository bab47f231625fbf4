//! The promises of the buffered writer, over a backend that fails on demand.

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
