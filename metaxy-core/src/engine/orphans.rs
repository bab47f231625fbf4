//! Current rows that nothing upstream expects: a plan collects only their keys; their columns are read afterwards.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};

use crate::backend::{BatchStream, stream_of};
use crate::error::Result;
use crate::memory::MemoryPool;
use crate::scan::ScanRequest;

use super::Run;
use super::collect::Collector;
use super::keys::{KeyIndex, Keys};
use super::latest::KeepLatest;
use super::lookup::look_up;
use super::scan::{finish, keep_latest, project};
use super::table::{NO_ROW, Table, batch_of};
use super::typed_key::TypedKey;

/// The keys of orphaned rows, collected from the parts of a plan.
#[derive(Default)]
pub(crate) struct OrphanKeys(Option<(TypedKey, Collector)>);

/// Returns the keys of some rows, or `None` if there are none.
pub(crate) fn key_batch(names: &[String], columns: &[ArrayRef], rows: Vec<u32>) -> Result<Option<RecordBatch>> {
    if rows.is_empty() {
        return Ok(None);
    }
    let columns: Vec<(String, ArrayRef)> = names.iter().cloned().zip(columns.iter().cloned()).collect();
    let count = columns.first().map_or(0, |(_, array)| array.len());
    Ok(Some(take_record_batch(&batch_of(columns, count)?, &UInt32Array::from(rows))?))
}

impl OrphanKeys {
    /// Adds the keys of some rows.
    pub(crate) async fn add(&mut self, keys: RecordBatch, names: &[String], pool: &Arc<MemoryPool>) -> Result<()> {
        let (_, collector) = match &mut self.0 {
            Some(keys) => keys,
            none => {
                let key = TypedKey::within(keys.schema_ref(), names)?;
                let collector = Collector::new(keys.schema_ref(), Some(key.clone()), pool);
                none.insert((key, collector))
            }
        };
        collector.push(keys).await
    }

    /// Reads the current rows again, with all their columns, and returns the orphaned ones.
    pub(crate) async fn rows(self, run: &Run) -> Result<BatchStream> {
        let (Some((key, collector)), Some(current)) = (self.0, &run.plan.current) else {
            return Ok(stream_of(Vec::new()));
        };
        let orphaned = collector.finish().await?;
        let request = ScanRequest { columns: None, ..current.request.clone() };
        let rows = finish(run.source.current(&request).await?, &request, &run.pool).await?;
        let schema = rows.0.clone();
        let (of_rows, of_orphaned) = (key.clone(), key.clone());
        let index = move |table: Table| Ok(KeyIndex::with_nulls(of_orphaned.keys_of(&table)?));
        let probe = move |index: &KeyIndex<Keys>, batch: RecordBatch| {
            let keys = of_rows.keys(&batch)?;
            let mut cursor = index.cursor();
            let is_orphaned = (0..keys.len()).map(|row| Some(cursor.find(&keys, row) != NO_ROW));
            Ok(filter_record_batch(&batch, &is_orphaned.collect::<BooleanArray>())?)
        };
        let mut found = look_up(rows, orphaned, &key, &run.pool, index, probe).await?;
        if current.collapse {
            let latest = KeepLatest { ids: run.plan.join_columns.clone(), filter: None, columns: None };
            found = keep_latest(schema.clone(), found, latest, &run.pool).await?;
        }
        Ok(project(schema, found, Some(&current.orphan_columns))?.1)
    }
}
