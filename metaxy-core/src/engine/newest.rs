//! Keep-latest for tables whose rows do not fit into memory: a first read finds the newest row of each sample, a second
//! one picks it. Only ids and times are held in memory.

use std::sync::{Arc, Mutex, PoisonError};

use ahash::AHashMap;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema};
use arrow::row::{RowConverter, Rows, SortField};
use futures::{StreamExt, TryStreamExt};

use crate::backend::BatchStream;
use crate::blocking;
use crate::error::{Error, Result};

use super::key_type::{comparable, compared_type, key_type};
use super::latest::last_touched;
use super::table::Table;

/// The newest row of each sample, by the sample's encoded ids.
pub(crate) struct Newest {
    ids: Vec<String>,
    types: Vec<DataType>,
    converter: RowConverter,
    found: AHashMap<Box<[u8]>, Found>,
}

/// The time when the newest row of a sample was written or deleted, and the number of rows with that time, of which the
/// last one is picked.
struct Found {
    time: i64,
    rows: u32,
}

impl Newest {
    /// Finds the newest rows in a read of the ids and of the time columns.
    pub(crate) async fn learn(schema: &Schema, ids: &[String], stream: BatchStream) -> Result<Self> {
        let types = ids.iter().map(|id| key_type(schema.field_with_name(id)?.data_type()));
        let types = types.collect::<Result<Vec<_>>>()?;
        let fields = types.iter().map(|data_type| SortField::new(compared_type(data_type))).collect();
        let newest = Self { ids: ids.to_vec(), types, converter: RowConverter::new(fields)?, found: AHashMap::new() };
        stream.try_fold(newest, |newest, batch| in_background(newest, move |newest| newest.note(&batch))).await
    }

    /// Returns the newest rows of a second read, each once.
    pub(crate) fn pick(self, stream: BatchStream) -> BatchStream {
        let newest = Arc::new(Mutex::new(self));
        stream
            .map(move |batch| {
                let batch = batch?;
                let mask = newest.lock().unwrap_or_else(PoisonError::into_inner).admit(&batch)?;
                Ok::<_, Error>(filter_record_batch(&batch, &mask)?)
            })
            .boxed()
    }

    fn note(&mut self, batch: &RecordBatch) -> Result<()> {
        let (keys, times) = self.read(batch)?;
        for (key, time) in keys.iter().zip(times) {
            match self.found.get_mut(key.as_ref()) {
                Some(newest) if newest.time == time => newest.rows += 1,
                Some(newest) if newest.time > time => {}
                Some(newest) => *newest = Found { time, rows: 1 },
                None => {
                    self.found.insert(key.as_ref().into(), Found { time, rows: 1 });
                }
            }
        }
        Ok(())
    }

    fn admit(&mut self, batch: &RecordBatch) -> Result<BooleanArray> {
        let (keys, times) = self.read(batch)?;
        let is_newest = keys.iter().zip(times).map(|(key, time)| {
            let Some(newest) = self.found.get_mut(key.as_ref()).filter(|newest| newest.time == time) else {
                return false;
            };
            newest.rows = newest.rows.saturating_sub(1);
            newest.rows == 0 && self.found.remove(key.as_ref()).is_some()
        });
        Ok(BooleanArray::from(is_newest.collect::<Vec<_>>()))
    }

    fn read(&self, batch: &RecordBatch) -> Result<(Rows, Vec<i64>)> {
        let table = Table::new(batch.schema(), vec![batch.clone()])?;
        let ids = self.ids.iter().zip(&self.types);
        let columns: Vec<ArrayRef> = ids.map(|(id, key)| comparable(&table.column(id)?, key)).collect::<Result<_>>()?;
        Ok((self.converter.convert_columns(&columns)?, last_touched(&table)?.values().to_vec()))
    }
}

async fn in_background(
    mut newest: Newest,
    work: impl FnOnce(&mut Newest) -> Result<()> + Send + 'static,
) -> Result<Newest> {
    blocking::run(move || work(&mut newest).map(|()| newest)).await
}
