//! One input in SQL: the rows of a scan with their keys, their columns, and the data versions of the fields.

use arrow::datatypes::DataType;
use metaxy_core::plan::sql::{column_name, key_name, version_name};
use metaxy_core::plan::{GroupOrder, InputLineage, InputPlan};
use metaxy_core::{ScanRequest, ScanStage, columns};

use super::Part;
use crate::catalog::StoredColumn;
use crate::sql::names::{quoted, text};
use crate::sql::select::Relation;

/// Returns the whole scan, or the reason why DuckDB cannot evaluate all of it.
pub(super) fn whole_scan(part: &Part, request: &ScanRequest) -> Result<Relation, String> {
    if part.table.has_own_rowid() {
        return Err(format!("`{}` has a column `rowid`", part.key));
    }
    let relation = Relation::new(&part.table, request);
    match relation.applied {
        ScanStage::Filter => Ok(relation),
        _ => Err(format!("DuckDB and Arrow select different rows of `{}`", part.key)),
    }
}

/// Returns a column that the table has to have.
pub(super) fn find<'a>(part: &'a Part, name: &str) -> Result<&'a StoredColumn, String> {
    part.table.column(name).ok_or_else(|| format!("`{}` has no column `{name}`", part.key))
}

/// Returns the `SELECT` of an input. `hash` is the name of the hash function.
pub(super) fn select(
    number: usize,
    input: &InputPlan,
    part: &Part,
    join_columns: &[String],
    hash: &str,
) -> Result<String, String> {
    let mut relation = whole_scan(part, &input.request)?;
    let mut outputs = Vec::new();
    for (index, name) in join_columns.iter().enumerate() {
        outputs.push(format!("{} AS {}", key(part, input.source_of(name))?, key_name(number, index)));
    }
    for (index, column) in input.columns.iter().enumerate() {
        let column = find(part, &column.source)?;
        outputs.push(format!("{} AS {}", quoted(&column.sql_name), column_name(number, index)));
    }
    let window = match &input.lineage {
        InputLineage::Rows => None,
        InputLineage::Groups { on, order } => {
            let (numbered, window) = window(relation, part, input, on, order)?;
            relation = numbered;
            Some(window)
        }
    };
    for (index, field) in input.fields.iter().enumerate() {
        let version = data_version(part, field)?;
        let version = match &window {
            None => version,
            Some(_) => format!("{hash}(string_agg(coalesce({version}, ''), '|') OVER w)"),
        };
        outputs.push(format!("{version} AS {}", version_name(number, index)));
    }
    let window = window.map(|window| format!(" WINDOW w AS ({window})")).unwrap_or_default();
    Ok(format!("SELECT {} {}{window}", outputs.join(", "), relation.sql()))
}

/// Whether DuckDB compares and sorts the values of a type as the engine does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum KeyType {
    Integer,
    Text,
    Same(DataType),
}

impl KeyType {
    fn new(data_type: &DataType) -> Option<Self> {
        use DataType as T;
        Some(match data_type {
            T::Utf8 | T::LargeUtf8 | T::Utf8View => Self::Text,
            integer if integer.is_integer() => Self::Integer,
            T::Dictionary(_, values) => Self::new(values)?,
            T::Boolean | T::Date32 | T::Timestamp(_, _) | T::Decimal128(_, _) | T::Binary | T::FixedSizeBinary(_) => {
                Self::Same(data_type.clone())
            }
            _ => return None,
        })
    }
}

/// Returns a column by which rows are joined, grouped or sorted.
pub(super) fn key_type(part: &Part, name: &str) -> Result<KeyType, String> {
    let column = find(part, name)?;
    let known = KeyType::new(&column.data_type).filter(|_| part.table.is_stored_as_written(Some(&column.name)));
    known.ok_or_else(|| {
        let kind = &column.data_type;
        format!(
            "rows of `{}` are matched by `{name}`, whose type {kind} DuckDB and Arrow compare differently",
            part.key
        )
    })
}

pub(super) fn key(part: &Part, name: &str) -> Result<String, String> {
    key_type(part, name)?;
    Ok(quoted(&find(part, name)?.sql_name))
}

/// Returns the data version of a field; null if there is none.
fn data_version(part: &Part, field: &str) -> Result<String, String> {
    let column = find(part, columns::DATA_VERSION_BY_FIELD)?;
    let is_text = |data_type: &DataType| matches!(KeyType::new(data_type), Some(KeyType::Text));
    let name = quoted(&column.sql_name);
    let (known, sql) = match &column.data_type {
        DataType::Struct(members) => match members.iter().find(|member| member.name() == field) {
            Some(member) => {
                (is_text(member.data_type()), part.table.expression(&[column.name.clone(), field.to_owned()]))
            }
            None => (true, Some("NULL::VARCHAR".to_owned())),
        },
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => {
                let texts = pair.iter().all(|member| is_text(member.data_type()));
                (texts, Some(format!("map_extract_value({name}, {})", text(field))))
            }
            _ => (false, None),
        },
        _ => (false, None),
    };
    let known = known && part.table.is_stored_as_written(Some(&column.name));
    sql.filter(|_| known).ok_or_else(|| format!("`{}` stores its data versions as {}", part.key, column.data_type))
}

/// Returns the window of a group: its rows, in the order in which their versions are hashed.
fn window(
    relation: Relation,
    part: &Part,
    input: &InputPlan,
    on: &[String],
    order: &GroupOrder,
) -> Result<(Relation, String), String> {
    let on = on.iter().map(|name| key(part, input.source_of(name))).collect::<Result<Vec<_>, _>>()?;
    let ascending = |names: &[String]| -> Result<Vec<String>, String> {
        names.iter().map(|name| Ok(format!("{} ASC NULLS FIRST", key(part, name)?))).collect()
    };
    let (relation, sorted) = match order {
        GroupOrder::Ids(ids) => (relation, ascending(ids)?),
        GroupOrder::Arrival { kept, ids } => {
            let (relation, arrival) = numbered(relation, part, &ascending(ids)?)?;
            let mut sorted = ascending(kept)?;
            sorted.push(format!("{arrival} ASC"));
            (relation, sorted)
        }
    };
    let window = format!(
        "PARTITION BY {} ORDER BY {} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
        on.join(", "),
        sorted.join(", ")
    );
    Ok((relation, window))
}

/// Numbers the rows in the order of [`GroupOrder::Arrival`]. Returns the relation with that column, and the column's
/// name.
fn numbered(relation: Relation, part: &Part, ids: &[String]) -> Result<(Relation, String), String> {
    let free = |name: &str| {
        let mut name = format!("metaxy {name}");
        while part.table.columns.iter().any(|column| column.sql_name.eq_ignore_ascii_case(&name)) {
            name.push('_');
        }
        quoted(&name)
    };
    let updated = part.table.name_in_sql(columns::UPDATED_AT);
    let updated = updated.ok_or_else(|| format!("`{}` has no times of writing", part.key))?;
    let (number, total, single, arrival) = (free("number"), free("total"), free("single"), free("arrival"));
    let relation = relation.with_columns(&format!(
        "row_number() OVER (ORDER BY {updated} DESC NULLS LAST, {}) - 1 AS {number}, \
         count(*) OVER () AS {total}, \
         (min({updated}) OVER () IS NOT DISTINCT FROM max({updated}) OVER () \
         AND count({updated}) OVER () IN (0, count(*) OVER ())) AS {single}",
        ids.join(", ")
    ));
    // If all rows come from a single write, the second half comes first.
    let relation = relation.with_columns(&format!(
        "CASE WHEN {single} THEN ({number} - ({total} + 1) // 2 + {total}) % {total} ELSE {number} END AS {arrival}"
    ));
    Ok((relation, arrival))
}
