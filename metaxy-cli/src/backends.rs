//! Links the backends, so that their types are known. Each is a feature of the crate.

#[cfg(feature = "delta")]
use metaxy_delta as _;
#[cfg(feature = "duckdb")]
use metaxy_duckdb as _;
#[cfg(feature = "postgres")]
use metaxy_postgres as _;
#[cfg(feature = "sqlite")]
use metaxy_sqlite as _;
