//! The whole statement, which compares the expected rows with the current ones.

use metaxy_core::columns;
use metaxy_core::plan::RowKind;
use metaxy_core::plan::{CurrentPlan, IncrementPlan};

use super::Source;
use super::expected::{Expected, comparable, expected, sent};
use super::input::{find, key, whole_scan};
use crate::catalog::Column;
use crate::sql::{self, collated};
use crate::types::{Storage, Wire};

/// The statement. After the kind, its rows have the expected columns, a hash for each field, the provenance, and the
/// columns of orphaned rows.
pub(super) struct Query {
    pub(super) sql: String,
    pub(super) expected: Vec<(String, Storage)>,
    pub(super) orphaned: Vec<(String, Storage)>,
}

impl Query {
    pub(super) fn new(plan: &IncrementPlan, sources: &[Source], current: Option<&Source>) -> Result<Self, String> {
        check_keys(plan, sources, current)?;
        let Expected { sql, columns } = expected(plan, sources)?;
        let fields = plan.recipe.fields.len();
        let outputs = |of: &str| -> Vec<String> {
            let columns = (0..columns.len()).map(|index| format!("{of}.o{index}"));
            let hashes = (0..fields).map(|index| format!("{of}.f{index}"));
            columns.chain(hashes).chain([format!("{of}.p")]).collect()
        };
        let (Some(current), Some(current_plan)) = (current, &plan.current) else {
            let sql = format!("SELECT {}, {} FROM ({sql}) AS e", RowKind::New.sql(), outputs("e").join(", "));
            return Ok(Self { sql, expected: columns, orphaned: Vec::new() });
        };
        let orphan_columns: Vec<&Column> =
            current_plan.orphan_columns.iter().map(|name| find(current, name)).collect::<Result<_, _>>()?;
        let rows = current_rows(plan, current_plan, current)?;
        let on: Vec<String> = (0..plan.join_columns.len()).map(|index| format!("e.k{index} = c.k{index}")).collect();
        let differences = format!(
            "SELECT CASE WHEN c.here IS NULL THEN {} WHEN e.p IS NULL THEN {} ELSE {} END AS kind, {}, c.places \
             FROM ({sql}) AS e FULL JOIN ({rows}) AS c ON {} \
             WHERE c.here IS NULL OR e.p IS NULL OR c.low IS DISTINCT FROM e.p OR c.high IS DISTINCT FROM e.p \
             OR c.forced",
            RowKind::New.sql(),
            RowKind::Orphaned.sql(),
            RowKind::Stale.sql(),
            outputs("e").join(", "),
            on.join(" AND "),
        );
        let orphaned: Vec<(String, Storage)> =
            orphan_columns.iter().map(|column| (column.name.clone(), sent(&column.storage))).collect();
        let nothing = |storages: &[(String, Storage)]| -> Vec<String> {
            storages.iter().map(|(_, storage)| format!("NULL::{}", storage.sql)).collect()
        };
        let mut changed = outputs("d");
        changed.extend(nothing(&orphaned));
        let mut gone = nothing(&columns);
        gone.extend(std::iter::repeat_n("NULL::text".to_owned(), fields + 1));
        gone.extend(orphan_columns.iter().map(|column| sql::output(column)));
        let sql = format!(
            "WITH d AS MATERIALIZED ({differences}) \
             SELECT d.kind, {} FROM d WHERE d.kind <> {orphan} \
             UNION ALL \
             SELECT d.kind, {} FROM d CROSS JOIN LATERAL unnest(d.places) AS o(place) \
             JOIN {} AS t ON t.ctid = o.place WHERE d.kind = {orphan}",
            changed.join(", "),
            gone.join(", "),
            current.name.quoted,
            orphan = RowKind::Orphaned.sql(),
        );
        Ok(Self { sql, expected: columns, orphaned })
    }
}

/// Checks that join columns are of one kind in every table; otherwise only the engine compares them correctly.
fn check_keys(plan: &IncrementPlan, sources: &[Source], current: Option<&Source>) -> Result<(), String> {
    for name in &plan.join_columns {
        let mut first: Option<&Column> = None;
        for (source, own) in sources
            .iter()
            .zip(&plan.inputs)
            .map(|(source, input)| (source, input.source_of(name)))
            .chain(current.map(|source| (source, name.as_str())))
        {
            let column = find(source, own)?;
            match first {
                Some(first) if !comparable(&first.storage, &column.storage) => {
                    return Err(format!(
                        "rows are joined by `{name}`, which is {} in one table and {} in another",
                        first.storage.sql, column.storage.sql
                    ));
                }
                _ => first = Some(column),
            }
        }
    }
    Ok(())
}

/// Selects the current rows: a row for each key (`k0`, …), with the least and the greatest provenance, whether a
/// staleness predicate is true, and the locations of its rows in the table.
fn current_rows(plan: &IncrementPlan, current: &CurrentPlan, source: &Source) -> Result<String, String> {
    if !source.table.is_plain {
        return Err(format!("`{}` is not a plain table", source.name.key));
    }
    let mut needed = current.request.columns.clone().unwrap_or_default();
    // Both engines choose the same row if a key has several.
    needed.extend([columns::UPDATED_AT.to_owned(), columns::DELETED_AT.to_owned()]);
    let relation = whole_scan(source, &current.request, &needed, true)?;
    let keys: Vec<String> = plan.join_columns.iter().map(|name| key(find(source, name)?)).collect::<Result<_, _>>()?;
    let provenance = find(source, columns::PROVENANCE)?;
    if provenance.storage.wire != Wire::Text {
        return Err(format!("`{}` stores its provenance as {}", source.name.key, provenance.storage.sql));
    }
    let provenance = collated(sql::column(columns::PROVENANCE), &Wire::Text);
    let forced = match &current.staleness {
        Some(predicate) => format!("coalesce({}, false)", sql::condition(&source.table, predicate)?),
        None => "false".to_owned(),
    };
    let mut outputs: Vec<String> = keys.iter().enumerate().map(|(index, key)| format!("{key} AS k{index}")).collect();
    let all_keys = keys.join(", ");
    let sql = relation.sql();
    if current.collapse {
        let touched = sql::touched(&source.table).ok_or("the table has no times of writing")?;
        outputs.extend([
            format!("{provenance} AS low"),
            format!("{provenance} AS high"),
            format!("{forced} AS forced"),
        ]);
        return Ok(format!(
            "SELECT DISTINCT ON ({all_keys}) {}, ARRAY[t.ctid] AS places, true AS here {sql} \
             ORDER BY {all_keys}, {touched} DESC NULLS LAST, low DESC NULLS LAST, t.ctid DESC",
            outputs.join(", ")
        ));
    }
    let ids = current.request.keep_latest.as_deref().unwrap_or_default();
    let is_unique = !ids.is_empty() && ids.iter().all(|id| plan.join_columns.contains(id));
    if is_unique {
        outputs.extend([
            format!("{provenance} AS low"),
            format!("{provenance} AS high"),
            format!("{forced} AS forced"),
        ]);
        return Ok(format!("SELECT {}, ARRAY[t.ctid] AS places, true AS here {sql}", outputs.join(", ")));
    }
    // A null among several provenances makes the key stale: min and max ignore it, so it is tested explicitly.
    outputs.extend([
        format!("CASE WHEN bool_or({provenance} IS NULL) THEN NULL ELSE min({provenance}) END AS low"),
        format!("max({provenance}) AS high"),
        format!("bool_or({forced}) AS forced"),
    ]);
    Ok(format!("SELECT {}, array_agg(t.ctid) AS places, true AS here {sql} GROUP BY {all_keys}", outputs.join(", ")))
}
