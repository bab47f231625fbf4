//! The part of a scan that the server evaluates.

use metaxy_core::filter::Predicate;
use metaxy_core::{ScanRequest, ScanStage};

use super::{column, condition, key, touched};
use crate::catalog::{Table, TableName};

/// The rows of a scan, as far as the server evaluates it.
pub(crate) struct Relation {
    /// The text after `FROM`; the relation is named `t`.
    pub(crate) from: String,
    /// The text after `WHERE`; empty for no condition.
    pub(crate) conditions: Vec<String>,
}

impl Relation {
    pub(crate) fn sql(&self) -> String {
        match self.conditions.as_slice() {
            [] => format!("FROM {}", self.from),
            conditions => format!("FROM {} WHERE {}", self.from, conditions.join(" AND ")),
        }
    }
}

/// The part of a scan that the server evaluates, and the reason why it is not more.
pub(crate) struct Pushdown {
    row_filter: Option<String>,
    keep_latest: Option<KeepLatest>,
    filter: Option<String>,
    pub(crate) applied: ScanStage,
    pub(crate) refused: Option<String>,
}

struct KeepLatest {
    keys: Vec<String>,
    touched: String,
}

impl Pushdown {
    pub(crate) fn new(table: &Table, request: &ScanRequest) -> Self {
        let mut pushdown =
            Self { row_filter: None, keep_latest: None, filter: None, applied: ScanStage::Nothing, refused: None };
        pushdown.refused = pushdown.fill(table, request).err();
        pushdown
    }

    fn fill(&mut self, table: &Table, request: &ScanRequest) -> Result<(), String> {
        self.row_filter = request.row_filter.as_ref().map(|filter| condition(table, filter)).transpose()?;
        self.applied = ScanStage::RowFilter;
        self.keep_latest = request.keep_latest.as_ref().map(|ids| keep_latest(table, ids)).transpose()?;
        self.applied = ScanStage::KeepLatest;
        self.filter = request.filter.as_ref().map(|filter| condition(table, filter)).transpose()?;
        self.applied = ScanStage::Filter;
        Ok(())
    }

    /// Returns the rows with at least these columns, and with their `ctid` if `with_place`.
    pub(crate) fn relation(
        &self,
        name: &TableName,
        table: &Table,
        request: &ScanRequest,
        needed: &[String],
        with_place: bool,
    ) -> Relation {
        let conditions = |parts: [&Option<String>; 2]| parts.into_iter().flatten().cloned().collect::<Vec<_>>();
        let Some(latest) = &self.keep_latest else {
            return Relation {
                from: format!("{} AS t", name.quoted),
                conditions: conditions([&self.row_filter, &self.filter]),
            };
        };
        let filtered: Vec<String> = request.filter.iter().flat_map(Predicate::columns).collect();
        let is_needed = |name: &String| needed.contains(name) || (self.filter.is_some() && filtered.contains(name));
        let mut outputs: Vec<String> = table
            .columns
            .iter()
            .map(|column| &column.name)
            .filter(|name| is_needed(name))
            .map(|name| column(name))
            .collect();
        outputs.extend(with_place.then(|| "t.ctid AS ctid".to_owned()));
        let keys = latest.keys.join(", ");
        // Of rows with the same time, the last one in the table is kept in every scan.
        let last = if table.is_plain { ", t.ctid DESC" } else { "" };
        let inner =
            Relation { from: format!("{} AS t", name.quoted), conditions: conditions([&self.row_filter, &None]) };
        let from = format!(
            "(SELECT DISTINCT ON ({keys}) {} {} ORDER BY {keys}, {} DESC NULLS LAST{last}) AS t",
            outputs.join(", "),
            inner.sql(),
            latest.touched,
        );
        Relation { from, conditions: conditions([&self.filter, &None]) }
    }
}

fn keep_latest(table: &Table, ids: &[String]) -> Result<KeepLatest, String> {
    let key = |id: &String| {
        let column = table.find(id).ok_or_else(|| format!("there is no column `{id}`"))?;
        key(column).ok_or_else(|| {
            format!(
                "the id column `{id}` is of type {}, whose values PostgreSQL and Arrow compare differently",
                column.storage.sql
            )
        })
    };
    let keys = ids.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let touched = touched(table).ok_or("the table has no times of writing")?;
    if keys.is_empty() {
        return Err("there are no id columns".to_owned());
    }
    Ok(KeepLatest { keys, touched })
}
