//! Current rows that nothing upstream expects: a plan collects only their keys; their columns are read afterwards.

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat, filter_record_batch, take};
use arrow::datatypes::DataType;
use futures::{StreamExt, TryStreamExt, stream};

use crate::backend::{BatchStream, stream_of};
use crate::error::{Error, Result};
use crate::scan::ScanRequest;

use super::Run;
use super::keys::{KeyIndex, Keys};
use super::latest::latest_rows;
use super::parallel::cores;
use super::scan::finish;
use super::table::{NO_ROW, Table};

/// The keys of orphaned rows, collected from the parts of a plan.
#[derive(Default)]
pub(crate) struct OrphanKeys {
    parts: Vec<Vec<ArrayRef>>,
    types: Vec<DataType>,
}

impl OrphanKeys {
    /// Adds the keys of some rows, with the types in which they are compared.
    pub(crate) fn add(&mut self, columns: &[ArrayRef], rows: Vec<u32>, types: &[DataType]) -> Result<()> {
        if !rows.is_empty() {
            let rows = UInt32Array::from(rows);
            self.parts.push(columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<_>>()?);
            self.types = types.to_vec();
        }
        Ok(())
    }

    pub(crate) fn append(&mut self, other: Self) {
        if !other.parts.is_empty() {
            self.parts.extend(other.parts);
            self.types = other.types;
        }
    }

    /// Reads the current rows again, with all their columns, and returns the orphaned ones. Looks for as many keys at a
    /// time as fit into the memory limit.
    pub(crate) fn select(self, run: &Run) -> BatchStream {
        let Self { parts, types } = self;
        let limit = run.pool.share(cores());
        let mut readings: Vec<(Vec<Vec<ArrayRef>>, usize)> = Vec::new();
        for part in parts {
            let bytes: usize = part.iter().map(|column| column.get_array_memory_size()).sum();
            match readings.last_mut().filter(|(_, held)| held + bytes <= limit) {
                Some((parts, held)) => {
                    parts.push(part);
                    *held += bytes;
                }
                None => readings.push((vec![part], bytes)),
            }
        }
        let run = run.clone();
        stream::iter(readings)
            .then(move |(parts, _)| read_orphans(run.clone(), parts, types.clone()))
            .try_flatten()
            .boxed()
    }
}

async fn read_orphans(run: Run, parts: Vec<Vec<ArrayRef>>, types: Vec<DataType>) -> Result<BatchStream> {
    let Some(current) = &run.plan.current else { return Ok(stream_of(Vec::new())) };
    let mut columns = Vec::with_capacity(types.len());
    for (index, data_type) in types.iter().enumerate() {
        let parts: Vec<&dyn Array> = parts.iter().map(|part| part[index].as_ref()).collect();
        columns.push((concat(&parts)?, data_type.clone()));
    }
    let index = KeyIndex::with_nulls(Keys::new(&columns)?);
    let request = ScanRequest { columns: None, ..current.request.clone() };
    let (schema, stream) = finish(run.source.current(&request).await?, &request, &run.pool).await?;
    let plan = run.plan.clone();
    let found = stream.map(move |batch| {
        let batch = batch?;
        let mask = mask(&index, &plan.join_columns, &types, &batch)?;
        Ok::<_, Error>(filter_record_batch(&batch, &mask)?)
    });
    if !current.collapse {
        let kept = current.orphan_columns.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        return Ok(found.map(move |batch| Ok(batch?.project(&kept)?)).boxed());
    }
    let found = found.try_collect().await?;
    let table = Table::new(schema, found)?;
    let table = table.take(&latest_rows(&table, &run.plan.join_columns)?)?;
    Ok(stream_of(table.project(&current.orphan_columns)?.into_batches()))
}

/// Returns which rows have one of the keys.
fn mask(index: &KeyIndex<Keys>, names: &[String], types: &[DataType], batch: &RecordBatch) -> Result<BooleanArray> {
    let mut columns = Vec::with_capacity(names.len());
    for (name, data_type) in names.iter().zip(types) {
        columns.push((batch.column(batch.schema_ref().index_of(name)?).clone(), data_type.clone()));
    }
    let keys = Keys::new(&columns)?;
    Ok((0..keys.len()).map(|row| Some(index.find(&keys, row) != NO_ROW)).collect())
}
