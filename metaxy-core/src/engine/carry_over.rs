//! Rows of an old definition under the current one.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{nullif, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};

use crate::backend::BatchStream;
use crate::columns;
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::memory::MemoryPool;

use super::by_field;
use super::collect::collect;
use super::keys::{KeyIndex, Keys};
use super::lookup::look_up;
use super::table::{NO_ROW, Table, batch_of};
use super::typed_key::TypedKey;

/// Expected rows, found by their ids.
struct ExpectedRows {
    table: Table,
    index: KeyIndex<Keys>,
}

/// Returns rows of an old definition with the provenance that the current one expects. User columns are kept, and so
/// are data versions that the user gave; rows that nothing upstream expects are left out.
pub(crate) async fn carry_over(
    plan: &FeaturePlan,
    old: (SchemaRef, BatchStream),
    expected: (SchemaRef, BatchStream),
    pool: &Arc<MemoryPool>,
) -> Result<BatchStream> {
    let key = shared_ids(plan, &old.0, &expected.0)?;
    let expected = collect(expected.0, expected.1, Some(&key), pool).await?;
    let (of_expected, of_old, plan) = (key.clone(), key.clone(), plan.clone());
    let index = move |table: Table| {
        let index = KeyIndex::new(of_expected.keys_of(&table)?);
        Ok(ExpectedRows { table, index })
    };
    let probe = move |expected: &ExpectedRows, batch: RecordBatch| {
        let keys = of_old.keys(&batch)?;
        let mut cursor = expected.index.cursor();
        let found = (0..keys.len()).map(|row| (row as u32, cursor.find(&keys, row)));
        let (rows, sources): (Vec<u32>, Vec<u32>) = found.filter(|(_, source)| *source != NO_ROW).unzip();
        let provenance = expected.table.values(columns::PROVENANCE_BY_FIELD, sources.into_iter())?;
        with_provenance(&plan, &take_record_batch(&batch, &UInt32Array::from(rows))?, provenance)
    };
    look_up(old, expected, &key, pool, index, probe).await
}

/// Returns the id columns that come from upstream, by which old rows are matched.
fn shared_ids(plan: &FeaturePlan, old: &Schema, expected: &Schema) -> Result<TypedKey> {
    let ids = plan.spec.id_columns.iter().filter(|id| expected.column_with_name(id).is_some());
    let ids: Vec<String> = ids.cloned().collect();
    if ids.is_empty() {
        return Err(Error::NotApplicable {
            feature: plan.spec.key.clone(),
            operation: "rebase",
            reason: "none of its id columns come from upstream",
            hint: "process its samples again",
        });
    }
    for id in &ids {
        if TypedKey::between(std::slice::from_ref(id), old, expected)?.is_none() {
            let type_of = |schema: &Schema| schema.field_with_name(id).map(|field| field.data_type().to_string());
            return Err(Error::InvalidColumn {
                feature: plan.spec.key.clone(),
                column: id.clone(),
                reason: format!(
                    "rows are matched by it, but it is {} in the table and {} upstream; store one type",
                    type_of(old)?,
                    type_of(expected)?
                ),
            });
        }
    }
    TypedKey::between(&ids, old, expected)?.ok_or_else(|| Error::Task("ids cannot be compared".to_owned()))
}

/// Returns a batch of old rows with new provenance. If a row's data version differs from its provenance, the user has
/// given it, and all of its data versions are kept.
fn with_provenance(plan: &FeaturePlan, batch: &RecordBatch, provenance: ArrayRef) -> Result<RecordBatch> {
    let struct_keys = plan.spec.struct_keys();
    let column = |name: &str| Ok::<_, Error>(batch.column(batch.schema_ref().index_of(name)?).clone());
    let rows = batch.num_rows();
    let derived = not_distinct(
        &by_field::text(&column(columns::DATA_VERSION)?)?,
        &by_field::text(&column(columns::PROVENANCE)?)?,
    )?;
    let old_versions = column(columns::DATA_VERSION_BY_FIELD)?;
    let mut data_versions = Vec::with_capacity(struct_keys.len());
    for key in &struct_keys {
        data_versions.push(by_field::text(&nullif(&by_field::member(&old_versions, key)?, &derived)?)?);
    }
    let schema = batch.schema();
    let own = schema.fields().iter().zip(batch.columns());
    let own = own.filter(|(field, _)| !columns::is_system(field.name()) || field.name() == columns::CREATED_AT);
    let mut all: Vec<(String, ArrayRef)> = own.map(|(field, array)| (field.name().clone(), array.clone())).collect();
    all.push((columns::PROVENANCE_BY_FIELD.to_owned(), provenance));
    all.push((columns::DATA_VERSION_BY_FIELD.to_owned(), by_field::build(&struct_keys, data_versions, rows)?));
    batch_of(all, rows)
}
