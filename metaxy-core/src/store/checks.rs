//! Checks rows before they are accepted.

use std::collections::HashSet;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};

use crate::engine;
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;

/// Checks that the id of every row identifies its sample in every storage system.
pub(super) fn check_ids(plan: &FeaturePlan, batch: &RecordBatch) -> Result<()> {
    engine::check_ids(&plan.spec.key, &plan.spec.id_columns, batch)
}

/// The greatest depth of nested types that every storage system can read back.
const MAX_NESTING: usize = 32;

fn check_nesting(plan: &FeaturePlan, schema: &Schema) -> Result<()> {
    match schema.fields().iter().find(|field| is_nested_beyond(field.data_type(), MAX_NESTING)) {
        None => Ok(()),
        Some(field) => Err(Error::LimitExceeded {
            what: format!("feature `{}`, column `{}`: the nesting of its type", plan.spec.key, field.name()),
            limit: format!("{MAX_NESTING} levels"),
            hint: "store the value as JSON text, or its parts in separate columns".to_owned(),
        }),
    }
}

/// Returns whether lists, structs and maps are nested deeper than `levels`, and stops at that depth.
fn is_nested_beyond(data_type: &DataType, levels: usize) -> bool {
    let item = |item: &FieldRef| levels == 0 || is_nested_beyond(item.data_type(), levels - 1);
    match data_type {
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::ListView(inner)
        | DataType::LargeListView(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::Map(inner, _) => item(inner),
        DataType::Struct(members) => members.iter().any(item),
        DataType::Union(members, _) => members.iter().any(|(_, member)| item(member)),
        DataType::RunEndEncoded(_, values) => item(values),
        DataType::Dictionary(_, values) => levels == 0 || is_nested_beyond(values, levels - 1),
        _ => false,
    }
}

/// Checks that column names are unique and not empty, and that types are not nested too deep.
pub(super) fn check_names(plan: &FeaturePlan, batch: &RecordBatch) -> Result<()> {
    let mut seen = HashSet::new();
    let schema = batch.schema_ref();
    check_nesting(plan, schema)?;
    match schema.fields().iter().find(|field| field.name().is_empty() || !seen.insert(field.name().as_str())) {
        None => Ok(()),
        Some(field) => Err(Error::InvalidColumn {
            feature: plan.spec.key.clone(),
            column: field.name().clone(),
            reason: "the batch has two columns of this name, or a column without a name".to_owned(),
        }),
    }
}
