//! What should be there, in SQL: the joined inputs with their provenance.

use arrow::datatypes::DataType;
use metaxy_core::plan::IncrementPlan;

use super::input::{self, column_name, find, key_name, version_name};
use super::{ONCE, Source, hash};
use crate::sql::literal;
use crate::types::{Storage, Wire};

/// The expected rows.
pub(super) struct Expected {
    /// A `SELECT` of the keys (`k0`, …), the columns (`o0`, …), the hashes of the fields (`f0`, …) and the one over all
    /// (`p`).
    pub(super) sql: String,
    /// Names and storage of the columns.
    pub(super) columns: Vec<(String, Storage)>,
}

pub(super) fn expected(plan: &IncrementPlan, sources: &[Source]) -> Result<Expected, String> {
    let hasher = plan.recipe.hasher;
    let mut inputs = Vec::with_capacity(sources.len());
    for (number, (input, source)) in plan.inputs.iter().zip(sources).enumerate() {
        inputs.push(format!("({}) AS i{number}", input::select(number, input, source, &plan.join_columns, hasher)?));
    }
    if inputs.is_empty() {
        return Err("a root has no inputs in the store".to_owned());
    }
    let all_optional = plan.inputs.iter().all(|input| input.optional);
    let from = joined(plan, inputs, all_optional);
    let mut outputs: Vec<String> = (0..plan.join_columns.len())
        .map(|index| format!("{} AS k{index}", joined_key(index, sources.len(), all_optional)))
        .collect();
    let mut columns = Vec::new();
    for (index, (number, column)) in plan.expected_columns().into_iter().enumerate() {
        let source = sources.get(number).ok_or("an input is missing")?;
        let storage = sent(&find(source, &column.source)?.storage);
        outputs.push(format!("{} AS o{index}", output(plan, number, &column.name, &storage, all_optional)));
        columns.push((column.name.clone(), storage));
    }
    for (index, field) in plan.recipe.fields.iter().enumerate() {
        outputs.push(format!("{} AS f{index}", hash(hasher, &field_text(plan, field)?)?));
    }
    let all: Vec<String> = (0..plan.recipe.fields.len()).map(|index| format!("x.f{index}")).collect();
    let provenance = hash(hasher, &all.join(" || '|' || "))?;
    let sql =
        format!("SELECT x.*, {provenance} AS p FROM (SELECT {} FROM {from} {ONCE}) AS x {ONCE}", outputs.join(", "));
    Ok(Expected { sql, columns })
}

/// A column as it is sent: what is no type of ours goes as text.
pub(super) fn sent(storage: &Storage) -> Storage {
    match storage.wire {
        Wire::Other => Storage { sql: "text".to_owned(), ..storage.clone() },
        _ => storage.clone(),
    }
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
fn output(plan: &IncrementPlan, first: usize, name: &str, storage: &Storage, all_optional: bool) -> String {
    let place = |number: usize| {
        let columns = plan.inputs.get(number).map(|input| input.columns.as_slice()).unwrap_or_default();
        columns.iter().position(|column| column.name == name).map(|index| column_name(number, index))
    };
    let own = place(first).unwrap_or_default();
    if !all_optional || !plan.join_columns.iter().any(|column| column == name) {
        return own;
    }
    let others = (first + 1..plan.inputs.len()).filter_map(place);
    let all: Vec<String> =
        std::iter::once(own.clone()).chain(others.map(|other| format!("{other}::{}", storage.sql))).collect();
    if all.len() == 1 { own } else { format!("coalesce({})", all.join(", ")) }
}

/// The text that is hashed for a field.
fn field_text(plan: &IncrementPlan, field: &metaxy_core::plan::FieldRecipe) -> Result<String, String> {
    let mut parts = Vec::new();
    let mut text = field.prefix.clone();
    for parent in &field.parents {
        text.push_str(&format!("|{}|", parent.name));
        let input = plan.inputs.get(parent.input).ok_or("a parent has no input")?;
        let index = input.fields.iter().position(|key| *key == parent.struct_key).ok_or("a parent has no field")?;
        if text.contains('\0') {
            return Err("a code version holds a NUL character".to_owned());
        }
        parts.push(format!("{}::text", literal(&text)));
        parts.push(format!("coalesce({}, '')", version_name(parent.input, index)));
        text.clear();
    }
    parts.extend((!text.is_empty()).then(|| format!("{}::text", literal(&text))));
    Ok(parts.join(" || "))
}

/// Whether values of two key columns can be compared: integers with integers, else what is stored in the same way.
pub(super) fn comparable(left: &Storage, right: &Storage) -> bool {
    let integer = |storage: &Storage| storage.data_type.is_integer();
    let text = |storage: &Storage| {
        storage.wire == Wire::Text
            && matches!(storage.data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    };
    (integer(left) && integer(right))
        || (text(left) && text(right))
        || (left.wire == right.wire && left.data_type == right.data_type)
}
