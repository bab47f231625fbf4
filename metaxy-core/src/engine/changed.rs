//! The fields of stale samples whose provenance differs from that of their stored rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::SchemaRef;

use crate::backend::BatchStream;
use crate::columns;
use crate::error::Result;
use crate::memory::MemoryPool;
use crate::plan::{CurrentPlan, IncrementPlan};
use crate::spec::FeatureSpec;

use super::by_field;
use super::collect::collect;
use super::compare::{Forced, StoredRows};
use super::keys::{KeyIndex, Keys};
use super::lookup::look_up;
use super::table::Table;
use super::typed_key::TypedKey;

/// The fields of a feature, by their struct keys and by the names that the list has.
#[derive(Clone)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn new(spec: &FeatureSpec) -> Self {
        Self(spec.fields.iter().map(|field| (field.key().struct_key(), field.key().to_string())).collect())
    }

    /// Returns the values of each field in a by-field column.
    fn values(&self, array: &ArrayRef) -> Result<Vec<StringArray>> {
        self.0.iter().map(|(struct_key, _)| by_field::member(array, struct_key)).collect()
    }
}

/// Stored rows, found by the columns with which they are matched.
struct Stored {
    index: KeyIndex<Keys>,
    values: Vec<StringArray>,
    forced: Forced,
}

impl Stored {
    fn new(table: Table, key: &TypedKey, join: &[String], current: &CurrentPlan, fields: &Fields) -> Result<Self> {
        let StoredRows { table, forced } = StoredRows::new(current, join, table)?;
        Ok(Self {
            index: KeyIndex::new(key.keys_of(&table)?),
            values: fields.values(&table.column(columns::PROVENANCE_BY_FIELD)?)?,
            forced,
        })
    }

    fn differs(&self, field: usize, row: usize, expected: &StringArray, at: usize) -> bool {
        let stored = &self.values[field];
        stored.is_null(row) || expected.is_null(at) || stored.value(row) != expected.value(at)
    }
}

/// Returns stale rows with the list of their changed fields. All fields are listed of a row for which a staleness
/// predicate is true, or of which no stored field differs: something else has made it stale, so all of it is outdated.
pub(crate) async fn with_changed_fields(
    spec: &FeatureSpec,
    plan: &IncrementPlan,
    current: &CurrentPlan,
    stale: (SchemaRef, BatchStream),
    stored: (SchemaRef, BatchStream),
    pool: &Arc<MemoryPool>,
) -> Result<BatchStream> {
    let join = plan.join_columns.clone();
    let Some(key) = TypedKey::between(&join, &stale.0, &stored.0)? else { return Ok(all_changed(spec, stale.1)) };
    let stored = collect(stored.0, stored.1, Some(&key), pool).await?;
    let (of_stored, of_stale, current) = (key.clone(), key.clone(), current.clone());
    let (fields, of_row) = (Fields::new(spec), Fields::new(spec));
    let index = move |table: Table| Stored::new(table, &of_stored, &join, &current, &fields);
    let probe = move |stored: &Stored, batch: RecordBatch| {
        let keys = of_stale.keys(&batch)?;
        let provenance = batch.column(batch.schema_ref().index_of(columns::PROVENANCE_BY_FIELD)?);
        let expected = of_row.values(provenance)?;
        let mut cursor = stored.index.cursor();
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in 0..batch.num_rows() {
            let found: Vec<usize> = cursor.find_all(&keys, row).map(|found| found as usize).collect();
            let differs = |field: usize| found.iter().any(|one| stored.differs(field, *one, &expected[field], row));
            let mut changed: Vec<usize> = (0..expected.len()).filter(|field| differs(*field)).collect();
            if changed.is_empty() || found.iter().any(|one| stored.forced.has(*one)) {
                changed = (0..expected.len()).collect();
            }
            changed.into_iter().for_each(|field| lists.values().append_value(&of_row.0[field].1));
            lists.append(true);
        }
        columns::with_column(&batch, columns::CHANGED_FIELDS, Arc::new(lists.finish()))
    };
    look_up(stale, stored, &key, pool, index, probe).await
}

/// Returns a batch with the list of all fields in each row.
pub(crate) fn with_all_fields(spec: &FeatureSpec, batch: &RecordBatch) -> Result<RecordBatch> {
    let fields = Fields::new(spec);
    let mut lists = ListBuilder::new(StringBuilder::new());
    for _ in 0..batch.num_rows() {
        fields.0.iter().for_each(|(_, name)| lists.values().append_value(name));
        lists.append(true);
    }
    columns::with_column(batch, columns::CHANGED_FIELDS, Arc::new(lists.finish()))
}

fn all_changed(spec: &FeatureSpec, stale: BatchStream) -> BatchStream {
    use futures::{StreamExt, TryStreamExt};
    let spec = spec.clone();
    stale.and_then(move |batch| std::future::ready(with_all_fields(&spec, &batch))).boxed()
}
