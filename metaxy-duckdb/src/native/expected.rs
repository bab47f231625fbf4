//! The expected rows in SQL: the joined inputs with their provenance.

use metaxy_core::plan::sql::{HashPart, JoinedInputs, hash_parts};
use metaxy_core::plan::{FieldRecipe, IncrementPlan};

use super::Part;
use super::input::{self, find};
use crate::catalog::StoredColumn;
use crate::sql::names::text;

/// The expected rows.
pub(super) struct Expected {
    /// A `SELECT` of the keys (`k0`, …), the columns (`o0`, …), the hashes of the fields (`f0`, …) and the one over all
    /// (`p`).
    pub(super) sql: String,
    /// The columns, by their names in the increment.
    pub(super) columns: Vec<StoredColumn>,
}

pub(super) fn expected(plan: &IncrementPlan, parts: &[Part], hash: &str) -> Result<Expected, String> {
    let joined = JoinedInputs::new(plan)?;
    let mut inputs = Vec::with_capacity(parts.len());
    for (number, (input, part)) in plan.inputs.iter().zip(parts).enumerate() {
        inputs.push(input::select(number, input, part, &plan.join_columns, hash)?);
    }
    let mut outputs: Vec<String> =
        (0..plan.join_columns.len()).map(|index| format!("{} AS k{index}", joined.key(index))).collect();
    let mut columns = Vec::new();
    for (index, (number, column)) in plan.expected_columns().into_iter().enumerate() {
        let part = parts.get(number).ok_or("an input is missing")?;
        let stored = find(part, &column.source)?;
        outputs.push(format!("{} AS o{index}", joined.column(number, &column.name, &stored.sql_type)));
        columns.push(StoredColumn { name: column.name.clone(), ..stored.clone() });
    }
    for (index, field) in plan.recipe.fields.iter().enumerate() {
        outputs.push(format!("{} AS f{index}", field_hash(plan, field, hash)?));
    }
    let all: Vec<String> = (0..plan.recipe.fields.len()).map(|index| format!("f{index}")).collect();
    let (all, outputs, from) = (all.join(", '|', "), outputs.join(", "), joined.from(&inputs));
    Ok(Expected { sql: format!("SELECT *, {hash}({all}) AS p FROM (SELECT {outputs} FROM {from})"), columns })
}

/// Returns the hash of a field, of the concatenation of its parts.
fn field_hash(plan: &IncrementPlan, field: &FieldRecipe, hash: &str) -> Result<String, String> {
    let parts = hash_parts(plan, field)?.into_iter().map(|part| match part {
        HashPart::Fixed(fixed) => text(&fixed),
        HashPart::Version(version) => format!("coalesce({version}, '')"),
    });
    Ok(format!("{hash}({})", parts.collect::<Vec<_>>().join(", ")))
}
