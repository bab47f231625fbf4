//! What should be there, in SQL: the joined inputs with their provenance.

use metaxy_core::plan::{FieldRecipe, IncrementPlan};

use super::Part;
use super::input::{self, column_name, find, key_name, version_name};
use crate::catalog::StoredColumn;
use crate::sql::text;

/// The expected rows.
pub(super) struct Expected {
    /// A `SELECT` of the keys (`k0`, …), the columns (`o0`, …), the hashes of the fields (`f0`, …) and the one over all
    /// (`p`).
    pub(super) sql: String,
    /// The columns, by their names in the increment.
    pub(super) columns: Vec<StoredColumn>,
}

pub(super) fn expected(plan: &IncrementPlan, parts: &[Part], hash: &str) -> Result<Expected, String> {
    let mut inputs = Vec::with_capacity(parts.len());
    for (number, (input, part)) in plan.inputs.iter().zip(parts).enumerate() {
        inputs.push(format!("({}) AS i{number}", input::select(number, input, part, &plan.join_columns, hash)?));
    }
    if inputs.is_empty() {
        return Err("a root has no inputs in the store".to_owned());
    }
    let all_optional = plan.inputs.iter().all(|input| input.optional);
    let from = joined(plan, inputs, all_optional);
    let mut outputs: Vec<String> = (0..plan.join_columns.len())
        .map(|index| format!("{} AS k{index}", joined_key(index, parts.len(), all_optional)))
        .collect();
    let mut columns = Vec::new();
    for (index, (number, column)) in plan.expected_columns().into_iter().enumerate() {
        let part = parts.get(number).ok_or("an input is missing")?;
        let stored = find(part, &column.source)?;
        outputs.push(format!("{} AS o{index}", output(plan, number, &column.name, stored, all_optional)));
        columns.push(StoredColumn { name: column.name.clone(), ..stored.clone() });
    }
    for (index, field) in plan.recipe.fields.iter().enumerate() {
        outputs.push(format!("{} AS f{index}", field_hash(plan, field, hash)?));
    }
    let all: Vec<String> = (0..plan.recipe.fields.len()).map(|index| format!("f{index}")).collect();
    let sql =
        format!("SELECT *, {hash}({}) AS p FROM (SELECT {} FROM {from})", all.join(", '|', "), outputs.join(", "));
    Ok(Expected { sql, columns })
}

/// Required inputs are joined inner, optional ones left, or in full where none is required.
fn joined(plan: &IncrementPlan, inputs: Vec<String>, all_optional: bool) -> String {
    let mut from = String::new();
    for (number, (sql, input)) in inputs.into_iter().zip(&plan.inputs).enumerate() {
        if number == 0 {
            from = sql;
            continue;
        }
        let kind = match input.optional {
            _ if all_optional => "FULL JOIN",
            true => "LEFT JOIN",
            false => "JOIN",
        };
        let on: Vec<String> = (0..plan.join_columns.len())
            .map(|index| format!("{} = {}", joined_key(index, number, all_optional), key_name(number, index)))
            .collect();
        from = format!("{from} {kind} {sql} ON {}", on.join(" AND "));
    }
    from
}

/// A key of the first inputs, joined.
fn joined_key(index: usize, inputs: usize, all_optional: bool) -> String {
    if !all_optional || inputs == 1 {
        return key_name(0, index);
    }
    let keys: Vec<String> = (0..inputs).map(|number| key_name(number, index)).collect();
    format!("coalesce({})", keys.join(", "))
}

/// A column of the increment; a join column comes from the first input that has a row.
fn output(plan: &IncrementPlan, first: usize, name: &str, stored: &StoredColumn, all_optional: bool) -> String {
    let place = |number: usize| {
        let columns = plan.inputs.get(number).map(|input| input.columns.as_slice()).unwrap_or_default();
        columns.iter().position(|column| column.name == name).map(|index| column_name(number, index))
    };
    let own = place(first).unwrap_or_default();
    if !all_optional || !plan.join_columns.iter().any(|column| column == name) {
        return own;
    }
    let others = (first + 1..plan.inputs.len()).filter_map(place);
    let others: Vec<String> = others.map(|other| format!(", {other}::{}", stored.sql_type)).collect();
    if others.is_empty() { own } else { format!("coalesce({own}{})", others.concat()) }
}

/// The hash of a field, of its parts one after the other.
fn field_hash(plan: &IncrementPlan, field: &FieldRecipe, hash: &str) -> Result<String, String> {
    let mut parts = Vec::new();
    let mut fixed = field.prefix.clone();
    for parent in &field.parents {
        fixed.push_str(&format!("|{}|", parent.name));
        let input = plan.inputs.get(parent.input).ok_or("a parent has no input")?;
        let index = input.fields.iter().position(|key| *key == parent.struct_key).ok_or("a parent has no field")?;
        parts.push(text(&fixed));
        parts.push(format!("coalesce({}, '')", version_name(parent.input, index)));
        fixed.clear();
    }
    parts.extend((!fixed.is_empty()).then(|| text(&fixed)));
    let sql = format!("{hash}({})", parts.join(", "));
    if sql.contains('\0') { Err("a code version holds a NUL character".to_owned()) } else { Ok(sql) }
}
