//! What an executor of plans shares with the Arrow engine if it works on Arrow arrays, so that both give the same results:
//! keys, by which rows are matched, and data versions as texts.

pub use crate::engine::{common_type, comparable, compared_type, completed, member, text};
