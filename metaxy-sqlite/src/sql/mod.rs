//! The SQL of reads and deletes.

mod names;
mod predicate;
mod select;

pub(crate) use names::quoted;
pub(crate) use predicate::{Parameters, condition};
pub(crate) use select::{Select, numbered_rows, select};
