//! Predicates in SQL.

use metaxy_core::filter::Predicate;

use crate::catalog::Table;

pub(super) fn write(_table: &Table, _predicate: &Predicate) -> Result<String, String> {
    Err("filters are not written in SQL yet".to_owned())
}
