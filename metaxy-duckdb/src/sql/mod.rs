//! SQL: names, predicates, scans, and the growth of tables.

pub(crate) mod alter;
pub(crate) mod names;
pub(crate) mod predicate;
pub(crate) mod select;
