//! One input of a resolve: its rows, their keys, and the data versions that provenance is computed from.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::row::{RowConverter, Rows, SortField};

use crate::columns;
use crate::error::Result;
use crate::hash::RowHasher;
use crate::plan::{GroupOrder, InputLineage, InputPlan};

use super::by_field;
use super::keys::Keys;
use super::table::Table;

/// The rows of an input, ready to be joined.
pub(crate) struct Input {
    /// The rows, in the names of the upstream table.
    pub(crate) table: Table,
    /// The data versions by struct key.
    versions: HashMap<String, Versions>,
}

/// The data versions of one field: a value for each row, or for each group of rows.
struct Versions {
    values: StringArray,
    group_of_row: Option<std::sync::Arc<Vec<u32>>>,
}

impl Input {
    /// Takes the data versions from the rows of an input and applies the lineage.
    pub(crate) fn new(plan: &InputPlan, table: Table, hasher: RowHasher) -> Result<Self> {
        let mut versions = HashMap::new();
        if table.schema.column_with_name(columns::DATA_VERSION_BY_FIELD).is_none() {
            return Ok(Self { table, versions });
        }
        let groups = match &plan.lineage {
            InputLineage::Groups { on, order } if table.num_rows() > 0 => Some(group(plan, &table, on, order)?),
            _ => None,
        };
        let (table, by_field) = table.without(columns::DATA_VERSION_BY_FIELD)?;
        for (field, chunks) in plan.fields.iter().zip(by_field::members(by_field, &plan.fields)?) {
            let values = by_field::joined(chunks)?;
            let versions_of_field = match &groups {
                None => Versions { values, group_of_row: None },
                Some(groups) => {
                    Versions { values: groups.hash(&values, hasher), group_of_row: Some(groups.of_row.clone()) }
                }
            };
            versions.insert(field.clone(), versions_of_field);
        }
        let kept: Vec<String> = plan.columns.iter().map(|column| column.source.clone()).collect();
        Ok(Self { table: table.project(&kept)?, versions })
    }

    /// Returns the data versions of a field, as a function of the row.
    pub(crate) fn versions<'a>(&'a self, struct_key: &str) -> impl Fn(usize) -> &'a str + use<'a> {
        let versions = self.versions.get(struct_key);
        move |row| match versions {
            None => "",
            Some(Versions { values, group_of_row: None }) => by_field::value_or_empty(values, row),
            Some(Versions { values, group_of_row: Some(groups) }) => {
                by_field::value_or_empty(values, groups[row] as usize)
            }
        }
    }

    /// Returns a column by its name in the increment.
    pub(crate) fn column(&self, plan: &InputPlan, name: &str) -> Result<ArrayRef> {
        self.table.column(plan.source_of(name))
    }
}

/// The rows of an `N:1` input by group.
struct RowGroups {
    of_row: std::sync::Arc<Vec<u32>>,
    /// All rows, group by group, in the order in which their values are hashed.
    rows: Vec<u32>,
    /// The end of each group in `rows`.
    ends: Vec<usize>,
}

impl RowGroups {
    /// Returns for each group the hash of its values joined by `|`.
    fn hash(&self, values: &StringArray, hasher: RowHasher) -> StringArray {
        let mut start = 0;
        by_field::hashed(0..self.ends.len(), hasher, |group, text| {
            let rows = self.rows[start..self.ends[group]].iter();
            by_field::write_line(rows.map(|row| by_field::value_or_empty(values, *row as usize)), text);
            start = self.ends[group];
        })
    }
}

fn group(plan: &InputPlan, table: &Table, on: &[String], order: &GroupOrder) -> Result<RowGroups> {
    let columns = on.iter().map(|name| table.column(plan.source_of(name))).collect::<Result<Vec<_>>>()?;
    let groups = Keys::within(columns)?.groups();
    let mut rows = ordered_rows(table, order)?;
    rows.sort_by_key(|row| groups.of_row[*row as usize]);
    let mut ends = vec![0; groups.firsts.len()];
    for group in &groups.of_row {
        ends[*group as usize] += 1;
    }
    let mut end = 0;
    for size in &mut ends {
        end += *size;
        *size = end;
    }
    Ok(RowGroups { of_row: std::sync::Arc::new(groups.of_row), rows, ends })
}

/// Returns all rows in the order in which the values of a group are hashed.
fn ordered_rows(table: &Table, order: &GroupOrder) -> Result<Vec<u32>> {
    let mut rows: Vec<u32> = (0..table.num_rows() as u32).collect();
    match order {
        GroupOrder::Ids(ids) => {
            let ids = sortable(table, ids)?;
            rows.sort_by(|a, b| ids.row(*a as usize).cmp(&ids.row(*b as usize)));
        }
        GroupOrder::Arrival { kept, ids } => {
            arrival_order(table, ids, &mut rows)?;
            let kept = sortable(table, kept)?;
            rows.sort_by(|a, b| kept.row(*a as usize).cmp(&kept.row(*b as usize)));
        }
    }
    Ok(rows)
}

/// Sorts rows by [`GroupOrder::Arrival`], except for the id columns that are kept.
fn arrival_order(table: &Table, ids: &[String], rows: &mut [u32]) -> Result<()> {
    let ids = sortable(table, ids)?;
    let updated = cast(&table.column(columns::UPDATED_AT)?, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let updated = updated.as_primitive::<TimestampMicrosecondType>();
    let time = |row: u32| if updated.is_valid(row as usize) { updated.value(row as usize) } else { i64::MIN };
    rows.sort_by(|a, b| {
        let by_id = || ids.row(*a as usize).cmp(&ids.row(*b as usize));
        time(*b).cmp(&time(*a)).then_with(by_id)
    });
    let single_write = rows.windows(2).all(|pair| time(pair[0]) == time(pair[1]));
    if single_write {
        rows.rotate_left(rows.len().div_ceil(2));
    }
    Ok(())
}

fn sortable(table: &Table, names: &[String]) -> Result<Rows> {
    let columns = names.iter().map(|name| table.column(name)).collect::<Result<Vec<_>>>()?;
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    if columns.is_empty() {
        let all_equal = RowConverter::new(vec![SortField::new(DataType::Null)])?;
        return Ok(all_equal.convert_columns(&[arrow::array::new_null_array(&DataType::Null, table.num_rows())])?);
    }
    Ok(converter.convert_columns(&columns)?)
}
