//! A Delta table: its log, its data files, their storage, and maintenance.

pub(crate) mod compact;
pub(crate) mod files;
pub(crate) mod log;
pub(crate) mod remove;
pub(crate) mod storage;
pub(crate) mod vacuum;
