//! Rows in memory: the batches as they arrived, addressed by consecutive numbers.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::compute::{concat, filter_record_batch, interleave};
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::schema::{output_runs, plain_array, plain_type, struct_bytes};

/// Stands for "no row" among row numbers.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// Batches of one schema.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// The number of the first row of each batch.
    starts: Vec<usize>,
    rows: usize,
}

impl Table {
    pub(crate) fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Self> {
        let batches: Vec<_> = batches.into_iter().filter(|batch| batch.num_rows() > 0).collect();
        let mut starts = Vec::with_capacity(batches.len());
        let mut rows = 0;
        for batch in &batches {
            starts.push(rows);
            rows += batch.num_rows();
        }
        if rows >= NO_ROW as usize {
            return Err(Error::LimitExceeded {
                what: format!("a resolve over {rows} rows of one feature"),
                limit: format!("{} rows", NO_ROW - 1),
                hint: "narrow it with filters".to_owned(),
            });
        }
        Ok(Self { schema, batches, starts, rows })
    }

    pub(crate) fn num_rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    pub(crate) fn into_batches(self) -> Vec<RecordBatch> {
        self.batches
    }

    /// Returns all values of a column in one array, without dictionary or run-end encoding.
    pub(crate) fn column(&self, name: &str) -> Result<ArrayRef> {
        let index = self.schema.index_of(name)?;
        let chunks = self.chunks(index)?;
        match chunks.as_slice() {
            [] => Ok(arrow::array::new_empty_array(&plain_type(self.schema.field(index).data_type()))),
            [only] => Ok(only.clone()),
            _ => Ok(concat(&chunks.iter().map(AsRef::as_ref).collect::<Vec<_>>())?),
        }
    }

    /// Returns the values of a column batch by batch. Dictionaries of several batches cannot be concatenated if their
    /// keys are short.
    fn chunks(&self, column: usize) -> Result<Vec<ArrayRef>> {
        self.batches.iter().map(|batch| plain_array(batch.column(column))).collect()
    }

    /// Returns the table with only these columns.
    pub(crate) fn project(&self, columns: &[String]) -> Result<Self> {
        let indices = columns.iter().map(|name| self.schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::new(self.schema.project(&indices)?);
        let batches = self.batches.iter().map(|batch| batch.project(&indices)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { schema, batches, starts: self.starts.clone(), rows: self.rows })
    }

    /// Returns the rows with these numbers, in their order.
    pub(crate) fn take(&self, rows: &[u32]) -> Result<Table> {
        if rows.is_empty() {
            return Table::new(plain_schema(&self.schema), Vec::new());
        }
        let bytes = self.row_bytes();
        let chunks = output_chunks(rows, |row| bytes[row as usize]);
        let mut batches = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            batches.push(self.take_in_one(chunk)?);
        }
        Table::new(plain_schema(&self.schema), batches)
    }

    /// Returns the runs of rows in the order in which they are given. No row is copied.
    pub(crate) fn in_runs(&self, runs: &[Range<usize>]) -> Result<Table> {
        let mut batches = Vec::with_capacity(runs.len());
        for run in runs {
            let first = self.starts.partition_point(|start| *start <= run.start).saturating_sub(1);
            for (batch, start) in self.batches.iter().zip(&self.starts).skip(first) {
                if *start >= run.end {
                    break;
                }
                let (from, to) = (run.start.max(*start), run.end.min(start + batch.num_rows()));
                batches.push(batch.slice(from - start, to - from));
            }
        }
        Table::new(self.schema.clone(), batches)
    }

    /// Returns the rows with these numbers in one batch.
    pub(crate) fn take_in_one(&self, rows: &[u32]) -> Result<RecordBatch> {
        let places = self.places(rows.iter().copied());
        let columns =
            (0..self.schema.fields().len()).map(|index| self.gather(index, &places)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(plain_schema(&self.schema), columns, &options)?)
    }

    /// Returns the size in bytes of the values of each row.
    pub(crate) fn row_bytes(&self) -> Vec<usize> {
        self.batches.iter().flat_map(|batch| struct_bytes(batch.num_rows(), batch.columns())).collect()
    }

    /// Returns the batches with only these rows, in any order, and frees the others batch by batch.
    pub(crate) fn retain(self, rows: &[u32]) -> Result<Vec<RecordBatch>> {
        if rows.len() == self.rows {
            return Ok(self.batches);
        }
        let mut kept = BooleanBufferBuilder::new(self.rows);
        kept.append_n(self.rows, false);
        rows.iter().for_each(|row| kept.set_bit(*row as usize, true));
        let kept = BooleanArray::new(kept.finish(), None);
        let batches = self.batches.into_iter().zip(self.starts).filter_map(|(batch, start)| {
            let mask = kept.slice(start, batch.num_rows());
            match mask.true_count() {
                0 => None,
                all if all == batch.num_rows() => Some(Ok(batch)),
                _ => Some(filter_record_batch(&batch, &mask)),
            }
        });
        Ok(batches.collect::<Result<_, _>>()?)
    }

    /// Removes a column, and returns the rest and the column's values batch by batch.
    pub(crate) fn without(self, name: &str) -> Result<(Self, Vec<ArrayRef>)> {
        let index = self.schema.index_of(name)?;
        let (mut batches, mut taken) = (Vec::with_capacity(self.batches.len()), Vec::with_capacity(self.batches.len()));
        for mut batch in self.batches {
            taken.push(batch.remove_column(index));
            batches.push(batch);
        }
        let kept: Vec<usize> = (0..self.schema.fields().len()).filter(|other| *other != index).collect();
        let schema = Arc::new(self.schema.project(&kept)?);
        Ok((Self { schema, batches, starts: self.starts, rows: self.rows }, taken))
    }

    /// Returns the values of a column at these rows; [`NO_ROW`] gives null.
    pub(crate) fn values(&self, name: &str, rows: impl Iterator<Item = u32>) -> Result<ArrayRef> {
        self.gather(self.schema.index_of(name)?, &self.places(rows))
    }

    /// Returns the batch and the row in it for each row number; a null is one past the last batch.
    fn places(&self, rows: impl Iterator<Item = u32>) -> Vec<(usize, usize)> {
        if let [_] = self.batches.as_slice() {
            return rows.map(|row| if row == NO_ROW { (1, 0) } else { (0, row as usize) }).collect();
        }
        rows.map(|row| {
            if row == NO_ROW {
                return (self.batches.len(), 0);
            }
            let batch = self.starts.partition_point(|start| *start <= row as usize) - 1;
            (batch, row as usize - self.starts[batch])
        })
        .collect()
    }

    fn gather(&self, column: usize, places: &[(usize, usize)]) -> Result<ArrayRef> {
        let mut chunks = self.chunks(column)?;
        chunks.push(new_null_array(&plain_type(self.schema.field(column).data_type()), 1));
        Ok(interleave(&chunks.iter().map(AsRef::as_ref).collect::<Vec<_>>(), places)?)
    }
}

/// Divides row numbers into the chunks of output batches; `bytes` returns the size of a row.
pub(crate) fn output_chunks(rows: &[u32], bytes: impl Fn(u32) -> usize) -> Vec<&[u32]> {
    let runs = output_runs(rows.iter().map(|row| (1, bytes(*row))));
    runs.into_iter().map(|run| &rows[run]).collect()
}

/// Returns the schema without encodings.
pub(crate) fn plain_schema(schema: &SchemaRef) -> SchemaRef {
    let plain = |field: &Arc<Field>| Field::clone(field).with_data_type(plain_type(field.data_type()));
    let fields: Vec<Field> = schema.fields().iter().map(plain).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Builds a batch from named columns.
pub(crate) fn batch_of(columns: Vec<(String, ArrayRef)>, rows: usize) -> Result<RecordBatch> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}
