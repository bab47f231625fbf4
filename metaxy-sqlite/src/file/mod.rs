//! What only a store in a file has: reads without any file beside it, and rows that wait in a temporary file.

mod immutable;
mod spill;

pub(crate) use immutable::Unchanged;
pub(crate) use spill::Spill;
