//! Servers for the tests of this project's own backends: nothing that the suite needs, and nothing that a backend elsewhere
//! should depend on.

#[cfg(feature = "postgres-server")]
pub mod postgres;
#[cfg(feature = "s3-server")]
pub mod s3;
