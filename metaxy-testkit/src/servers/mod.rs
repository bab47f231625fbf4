//! Servers for the tests of this project's own backends; other backends should not depend on them.

#[cfg(feature = "postgres-server")]
pub mod postgres;
#[cfg(feature = "s3-server")]
pub mod s3;
