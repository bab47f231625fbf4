//! Data files: reading, skipping, writing and rewriting them.

mod decoding;
mod deletion;
mod file_bytes;
mod job;
mod keys;
mod piece;
#[cfg(feature = "ballista")]
mod plain;
pub(crate) mod prune;
mod rewrite;
mod row_groups;
mod scan;
mod sink;
mod workers;

pub(crate) use job::Filters;
pub(crate) use keys::KeyFilter;
#[cfg(feature = "ballista")]
pub(crate) use plain::plain_rows;
pub(crate) use rewrite::rewrite;
pub(crate) use scan::rows;
pub(crate) use sink::{FileSink, ROW_GROUP_ROWS};
