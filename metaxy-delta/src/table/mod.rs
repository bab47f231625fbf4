//! A Delta table: its log, its data files, the storage that both are in, and its upkeep.

pub(crate) mod compact;
pub(crate) mod files;
pub(crate) mod log;
pub(crate) mod remove;
pub(crate) mod storage;
pub(crate) mod vacuum;
