//! One input in SQL: the rows of a scan with their keys, their columns, and the data versions of the fields.

use arrow::datatypes::DataType;
use metaxy_core::hash::RowHasher;
use metaxy_core::plan::sql::{column_name, key_name, version_name};
use metaxy_core::plan::{GroupOrder, InputLineage, InputPlan};
use metaxy_core::{ScanRequest, ScanStage, columns};

use super::{ONCE, Source, hash};
use crate::catalog::{Column, Table};
use crate::sql::{self, Pushdown, Relation, literal, quoted};
use crate::types::Wire;

/// Returns the whole scan, or the reason why the server cannot evaluate all of it.
pub(super) fn whole_scan(
    source: &Source,
    request: &ScanRequest,
    needed: &[String],
    place: bool,
) -> Result<Relation, String> {
    let pushdown = Pushdown::new(&source.table, request);
    match (pushdown.applied, pushdown.refused.clone()) {
        (ScanStage::Filter, None) => Ok(pushdown.relation(&source.name, &source.table, request, needed, place)),
        (_, reason) => Err(format!("`{}`: {}", source.name.key, reason.unwrap_or_default())),
    }
}

/// Returns a column of a table, or an error if it is missing.
pub(super) fn find<'a>(source: &'a Source, name: &str) -> Result<&'a Column, String> {
    source.table.find(name).ok_or_else(|| format!("`{}` has no column `{name}`", source.name.key))
}

/// Returns the `SELECT` of an input.
pub(super) fn select(
    number: usize,
    input: &InputPlan,
    source: &Source,
    join_columns: &[String],
    hasher: RowHasher,
) -> Result<String, String> {
    let needed = input.request.columns.clone().unwrap_or_default();
    let mut relation = whole_scan(source, &input.request, &needed, false)?;
    let mut outputs = Vec::new();
    for (index, name) in join_columns.iter().enumerate() {
        let column = find(source, input.source_of(name))?;
        outputs.push(format!("{} AS {}", key(column)?, key_name(number, index)));
    }
    for (index, column) in input.columns.iter().enumerate() {
        let column = sql::output(find(source, &column.source)?);
        outputs.push(format!("{column} AS {}", column_name(number, index)));
    }
    let window = match &input.lineage {
        InputLineage::Rows => None,
        InputLineage::Groups { on, order } => Some(window(&mut relation, source, input, on, order)?),
    };
    for (index, field) in input.fields.iter().enumerate() {
        let version = data_version(source, field)?;
        let version = match &window {
            None => version,
            Some(_) => hash(hasher, &format!("string_agg({version}, '|') OVER w"))?,
        };
        outputs.push(format!("{version} AS {}", version_name(number, index)));
    }
    let window = window.map(|window| format!(" WINDOW w AS ({window})")).unwrap_or_default();
    Ok(format!("SELECT {} {}{window} {ONCE}", outputs.join(", "), relation.sql()))
}

/// Returns a column by which rows are joined, grouped or sorted.
pub(super) fn key(column: &Column) -> Result<String, String> {
    sql::key(column).ok_or_else(|| {
        format!(
            "rows are matched by `{}`, whose type {} PostgreSQL and Arrow compare differently",
            column.name, column.storage.sql
        )
    })
}

/// Returns the data version of a field, empty if there is none.
fn data_version(source: &Source, field: &str) -> Result<String, String> {
    let column = find(source, columns::DATA_VERSION_BY_FIELD)?;
    let nested = matches!(column.storage.data_type, DataType::Struct(_) | DataType::Map(_, _));
    if let Some(other) = other_text(&column.storage.data_type, field) {
        return Err(format!(
            "`{}` has data versions of type {other} for `{field}`, whose text differs in PostgreSQL",
            source.name.key
        ));
    }
    let name = sql::column(&column.name);
    match column.storage.wire {
        Wire::Jsonb | Wire::Json if nested => Ok(format!("coalesce({name} ->> {}, '')", literal(field))),
        Wire::Text if nested => Ok(format!("coalesce({name}::jsonb ->> {}, '')", literal(field))),
        _ => Err(format!("`{}` stores its data versions as {}", source.name.key, column.storage.sql)),
    }
}

/// Returns the type of a member whose text in JSON differs from the text that is hashed.
fn other_text<'a>(data_type: &'a DataType, field: &str) -> Option<&'a DataType> {
    let DataType::Struct(members) = data_type else { return None };
    let member = members.iter().find(|member| member.name() == field)?.data_type();
    let is_alike = member.is_integer()
        || matches!(member, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean);
    Some(member).filter(|_| !is_alike)
}

/// Returns the window of a group: its rows, in the order in which their versions are hashed.
fn window(
    relation: &mut Relation,
    source: &Source,
    input: &InputPlan,
    on: &[String],
    order: &GroupOrder,
) -> Result<String, String> {
    let on: Vec<String> = on.iter().map(|name| key(find(source, input.source_of(name))?)).collect::<Result<_, _>>()?;
    let ascending = |names: &[String]| -> Result<Vec<String>, String> {
        names.iter().map(|name| Ok(format!("{} NULLS FIRST", key(find(source, name)?)?))).collect()
    };
    let sorted = match order {
        GroupOrder::Ids(ids) => ascending(ids)?,
        GroupOrder::Arrival { kept, ids } => {
            let arrival = arrival(relation, &source.table, &ascending(ids)?)?;
            let mut sorted = ascending(kept)?;
            sorted.push(arrival);
            sorted
        }
    };
    Ok(format!(
        "PARTITION BY {} ORDER BY {} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
        on.join(", "),
        sorted.join(", ")
    ))
}

/// Numbers the rows in the order of [`GroupOrder::Arrival`], in a new column of the relation whose name is returned.
fn arrival(relation: &mut Relation, table: &Table, ids: &[String]) -> Result<String, String> {
    if table.find(columns::UPDATED_AT).is_none() {
        return Err("the table has no times of writing".to_owned());
    }
    let free = |name: &str| {
        let mut name = format!("metaxy {name}");
        while table.find(&name).is_some() {
            name.push('_');
        }
        quoted(&name)
    };
    let [number, total, single, arrival] = ["number", "total", "single", "arrival"].map(free);
    let updated = sql::column(columns::UPDATED_AT);
    let inner = format!(
        "SELECT t.*, row_number() OVER (ORDER BY {updated} DESC NULLS LAST, {}) - 1 AS {number}, \
         count(*) OVER () AS {total}, \
         min({updated}) OVER () IS NOT DISTINCT FROM max({updated}) OVER () \
         AND count({updated}) OVER () IN (0, count(*) OVER ()) AS {single} {}",
        ids.join(", "),
        relation.sql()
    );
    // If all rows come from a single write, the second half comes first.
    let rotated = format!("(x.{number} - (x.{total} + 1) / 2 + x.{total}) % x.{total}");
    relation.from = format!(
        "(SELECT x.*, CASE WHEN x.{single} THEN {rotated} ELSE x.{number} END AS {arrival} FROM ({inner}) AS x) AS t"
    );
    relation.conditions.clear();
    Ok(format!("t.{arrival}"))
}
