//! The expected rows in SQL: the joined inputs with their provenance.

use arrow::datatypes::DataType;
use metaxy_core::plan::sql::{HashPart, JoinedInputs, hash_parts};
use metaxy_core::plan::{FieldRecipe, IncrementPlan};

use super::input::{self, find};
use super::{ONCE, Source, hash};
use crate::sql::literal;
use crate::types::{Storage, Wire};

/// The expected rows.
pub(super) struct Expected {
    /// A `SELECT` of the keys (`k0`, …), the columns (`o0`, …), the hashes of the fields (`f0`, …) and the one over all
    /// (`p`).
    pub(super) sql: String,
    /// The names and the storage of the columns.
    pub(super) columns: Vec<(String, Storage)>,
}

pub(super) fn expected(plan: &IncrementPlan, sources: &[Source]) -> Result<Expected, String> {
    let hasher = plan.recipe.hasher;
    let joined = JoinedInputs::new(plan)?;
    let mut inputs = Vec::with_capacity(sources.len());
    for (number, (input, source)) in plan.inputs.iter().zip(sources).enumerate() {
        inputs.push(input::select(number, input, source, &plan.join_columns, hasher)?);
    }
    let mut outputs: Vec<String> =
        (0..plan.join_columns.len()).map(|index| format!("{} AS k{index}", joined.key(index))).collect();
    let mut columns = Vec::new();
    for (index, (number, column)) in plan.expected_columns().into_iter().enumerate() {
        let source = sources.get(number).ok_or("an input is missing")?;
        let storage = sent(&find(source, &column.source)?.storage);
        outputs.push(format!("{} AS o{index}", joined.column(number, &column.name, &storage.sql)));
        columns.push((column.name.clone(), storage));
    }
    for (index, field) in plan.recipe.fields.iter().enumerate() {
        outputs.push(format!("{} AS f{index}", hash(hasher, &field_text(plan, field)?)?));
    }
    let all: Vec<String> = (0..plan.recipe.fields.len()).map(|index| format!("x.f{index}")).collect();
    let provenance = hash(hasher, &all.join(" || '|' || "))?;
    let (outputs, from) = (outputs.join(", "), joined.from(&inputs));
    let sql = format!("SELECT x.*, {provenance} AS p FROM (SELECT {outputs} FROM {from} {ONCE}) AS x {ONCE}");
    Ok(Expected { sql, columns })
}

/// Returns the form in which a column is sent: a type that is unknown here is sent as text.
pub(super) fn sent(storage: &Storage) -> Storage {
    match storage.wire {
        Wire::Other => Storage { sql: "text".to_owned(), ..storage.clone() },
        _ => storage.clone(),
    }
}

/// Returns the text that is hashed for a field.
fn field_text(plan: &IncrementPlan, field: &FieldRecipe) -> Result<String, String> {
    let parts = hash_parts(plan, field)?.into_iter().map(|part| match part {
        HashPart::Fixed(fixed) => format!("{}::text", literal(&fixed)),
        HashPart::Version(version) => format!("coalesce({version}, '')"),
    });
    Ok(parts.collect::<Vec<_>>().join(" || "))
}

/// Returns whether values of two key columns can be compared: integers with integers, others only if they are stored in
/// the same way.
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
