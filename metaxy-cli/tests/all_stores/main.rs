//! Tests of several storage systems together.

mod chains;
mod live;
mod places;
mod rows;
mod secrets;
mod settings;

// Linked so that a configuration can find them by their type strings.
use {metaxy_delta as _, metaxy_duckdb as _, metaxy_postgres as _, metaxy_sqlite as _};
