//! How the schema of a table grows, and how rows are converted into it.
//!
//! Columns and struct members are matched by name. A table gains the columns and members that it lacks, and keeps the
//! type of those that it has: a value is stored unchanged, or refused. Two rules hold for every backend:
//!
//! - **Encodings** (dictionaries, run-end encoding) are a form of a batch, not a type of a column: a new column has the
//!   type of its values. So the key type of a dictionary cannot overflow when more rows are written.
//! - **Types without values**: a column, list item, map value or struct member of type Null has no type yet. It is left
//!   out of a new table, and null in one that has it.

mod compact;
mod convert;
mod grow;
mod names;
mod plain;
mod reshape;
mod sizes;
mod trim;
mod untyped;

pub use convert::{conform, convert, misfit};
pub use grow::grown_schema;
pub use names::distinct_name;
pub use plain::plain_type;
pub use reshape::reshape;
pub use sizes::slices;
pub use trim::trimmed;

pub(crate) use compact::compact;
pub(crate) use convert::align;
pub(crate) use grow::item_of;
pub(crate) use plain::{plain_array, plain_batches};
pub(crate) use sizes::{bytes_of_rows, output_runs, struct_bytes};
