//! The storage systems of tables: a local directory, or a bucket.

pub(crate) mod below;
pub(crate) mod endpoint;
pub(crate) mod file_system;
pub(crate) mod local_file;
pub(crate) mod locks;
pub(crate) mod probe;
pub(crate) mod remote;
pub(crate) mod runtime;
pub(crate) mod staged;
pub(crate) mod upload;

/// The directory of a log in its table.
pub(crate) const LOG_DIRECTORY: &str = "_delta_log";
