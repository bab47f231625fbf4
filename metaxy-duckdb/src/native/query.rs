//! The whole statement, which compares the expected rows with the current ones.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use metaxy_core::plan::RowKind;
use metaxy_core::plan::{CurrentPlan, IncrementPlan};
use metaxy_core::{Result, columns};

use super::expected::{Expected, expected};
use super::input::{KeyType, find, key, key_type, whole_scan};
use super::{Part, batch_of};
use crate::catalog::StoredColumn;
use crate::sql::names::quoted;
use crate::sql::predicate::condition;
use crate::sql::select::newest_of;
use crate::types::convert;

/// The statement. Its rows have the expected columns, a hash for each field, and the provenance; and if there are
/// current rows, the kind, and the row number of the current row, or of all current rows, in the table.
pub(super) struct Query {
    pub(super) sql: String,
    expected: Vec<StoredColumn>,
    fields: usize,
    compares: bool,
}

impl Query {
    pub(super) fn new(
        plan: &IncrementPlan,
        parts: &[Part],
        current: Option<&Part>,
        hash: &str,
    ) -> Result<Self, String> {
        check_keys(plan, parts, current)?;
        let Expected { sql, columns } = expected(plan, parts, hash)?;
        let fields = plan.recipe.fields.len();
        let outputs = (0..columns.len()).map(|index| format!("e.o{index}"));
        let outputs: Vec<String> = outputs.chain((0..fields).map(|index| format!("e.f{index}"))).collect();
        let outputs = outputs.join(", ");
        let (Some(current), Some(current_plan)) = (current, &plan.current) else {
            let sql = format!("SELECT {outputs}, e.p FROM ({sql}) AS e");
            return Ok(Self { sql, expected: columns, fields, compares: false });
        };
        let rows = CurrentRows::new(plan, current_plan, current)?;
        let on: Vec<String> = (0..plan.join_columns.len()).map(|index| format!("e.k{index} = c.k{index}")).collect();
        let sql = format!(
            "SELECT {outputs}, e.p, CASE WHEN c.row_id IS NULL THEN {} WHEN e.p IS NULL THEN {} ELSE {} END, \
             c.row_id FROM ({sql}) AS e FULL JOIN ({}) AS c ON {} \
             WHERE c.row_id IS NULL OR e.p IS NULL OR {}",
            RowKind::New.sql(),
            RowKind::Orphaned.sql(),
            RowKind::Stale.sql(),
            rows.sql,
            on.join(" AND "),
            rows.stale,
        );
        Ok(Self { sql, expected: columns, fields, compares: true })
    }

    /// Splits some rows of the result into their kinds, their expected rows, and the row numbers of their current rows.
    pub(super) fn split(
        &self,
        plan: &IncrementPlan,
        batch: &RecordBatch,
    ) -> Result<(Option<ArrayRef>, RecordBatch, Option<ArrayRef>)> {
        let (expected, rest) = batch.columns().split_at(self.expected.len());
        let (hashes, rest) = rest.split_at(self.fields + 1);
        let mut named = Vec::with_capacity(self.expected.len() + 4);
        for (column, array) in self.expected.iter().zip(expected) {
            named.push((column.name.clone(), convert(array, &column.data_type)?));
        }
        let hashes = hashes.iter().map(|array| Ok(convert(array, &DataType::Utf8)?)).collect::<Result<Vec<_>>>()?;
        named.extend(plan.recipe.version_columns(&hashes)?);
        let mut rest = rest.iter().filter(|_| self.compares).cloned();
        Ok((rest.next(), batch_of(named)?, rest.next()))
    }
}

/// Checks that join columns are of one kind in every table; otherwise only the engine compares them correctly.
fn check_keys(plan: &IncrementPlan, parts: &[Part], current: Option<&Part>) -> Result<(), String> {
    for name in &plan.join_columns {
        let inputs = parts.iter().zip(&plan.inputs).map(|(part, input)| (part, input.source_of(name)));
        let mut first: Option<KeyType> = None;
        for (part, own) in inputs.chain(current.map(|part| (part, name.as_str()))) {
            let kind = key_type(part, own)?;
            if first.get_or_insert_with(|| kind.clone()) != &kind {
                return Err(format!("rows are joined by `{name}`, which has another type in `{}`", part.key));
            }
        }
    }
    Ok(())
}

/// The current rows: a row for each key (`k0`, …), with the columns that are compared, and its `row_id`.
struct CurrentRows {
    sql: String,
    /// The condition that a row `c` and the expected row `e` of its key differ.
    stale: String,
}

impl CurrentRows {
    fn new(plan: &IncrementPlan, current: &CurrentPlan, part: &Part) -> Result<Self, String> {
        let mut relation = whole_scan(part, &current.request)?;
        let keys = plan.join_columns.iter().map(|name| key(part, name)).collect::<Result<Vec<_>, _>>()?;
        let all_keys = keys.join(", ");
        let mut outputs: Vec<String> =
            keys.iter().enumerate().map(|(index, key)| format!("{key} AS k{index}")).collect();
        let provenance = find(part, columns::PROVENANCE)?;
        if key_type(part, columns::PROVENANCE)? != KeyType::Text {
            return Err(format!("`{}` stores its provenance as {}", part.key, provenance.data_type));
        }
        let provenance = quoted(&provenance.sql_name);
        let forced = match &current.staleness {
            None => None,
            Some(predicate) => {
                let sql = condition(&part.table, predicate);
                Some(sql.ok_or("DuckDB and Arrow evaluate the staleness predicates differently")?)
            }
        };
        if current.collapse {
            relation = relation.qualified(&newest_of(&part.table, &all_keys, std::slice::from_ref(&provenance)));
        }
        let ids = current.request.keep_latest.as_deref().unwrap_or_default();
        let is_unique = current.collapse || (!ids.is_empty() && ids.iter().all(|id| plan.join_columns.contains(id)));
        if is_unique {
            outputs.extend([format!("{provenance} AS p"), "rowid AS row_id".to_owned()]);
            outputs.extend(forced.iter().map(|forced| format!("{forced} AS forced")));
            let sql = format!("SELECT {} {}", outputs.join(", "), relation.sql());
            return Ok(Self { sql, stale: with_forced("c.p IS DISTINCT FROM e.p", forced.is_some()) });
        }
        // A null among several provenances makes the key stale: min and max ignore it, so it is tested explicitly.
        outputs.extend([
            format!("CASE WHEN bool_or({provenance} IS NULL) THEN NULL ELSE min({provenance}) END AS low"),
            format!("max({provenance}) AS high"),
            "list(rowid) AS row_id".to_owned(),
        ]);
        outputs.extend(forced.iter().map(|forced| format!("bool_or({forced}) AS forced")));
        let sql = format!("SELECT {} {} GROUP BY {all_keys}", outputs.join(", "), relation.sql());
        let stale = "c.low IS DISTINCT FROM e.p OR c.high IS DISTINCT FROM e.p";
        Ok(Self { sql, stale: with_forced(stale, forced.is_some()) })
    }
}

fn with_forced(stale: &str, forced: bool) -> String {
    if forced { format!("{stale} OR c.forced") } else { stale.to_owned() }
}
