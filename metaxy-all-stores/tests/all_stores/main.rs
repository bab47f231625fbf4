//! What only several storage systems together can show.

mod chains;
mod places;
mod rows;
mod settings;

// Linked so that a configuration finds them by their type strings.
use {metaxy_delta as _, metaxy_duckdb as _, metaxy_postgres as _, metaxy_sqlite as _};
