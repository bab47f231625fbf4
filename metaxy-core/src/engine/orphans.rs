//! Current rows that nothing asks for: only their keys are held while a plan runs, for their columns are read afterwards.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::DataType;
use futures::TryStreamExt;

use crate::error::Result;
use crate::plan::IncrementPlan;
use crate::scan::ScanRequest;

use super::keys::{KeyIndex, Keys};
use super::latest::latest_rows;
use super::scan::finish;
use super::source::PlanSource;
use super::table::{NO_ROW, Table};

/// The keys of orphaned rows.
pub(crate) struct OrphanKeys {
    keys: Keys,
    types: Vec<DataType>,
}

impl OrphanKeys {
    pub(crate) fn new(columns: &[ArrayRef], rows: Vec<u32>, types: &[DataType]) -> Result<Self> {
        let rows = UInt32Array::from(rows);
        let columns = columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<Vec<ArrayRef>>>()?;
        let typed: Vec<_> = columns.into_iter().zip(types.iter().cloned()).collect();
        Ok(Self { keys: Keys::new(&typed)?, types: types.to_vec() })
    }

    /// Reads the current rows once more, with all their columns, and returns the orphaned ones among them.
    pub(crate) async fn select(self, plan: &IncrementPlan, source: &impl PlanSource) -> Result<Vec<RecordBatch>> {
        let Some(current) = &plan.current else { return Ok(Vec::new()) };
        let request = ScanRequest { columns: None, ..current.request.clone() };
        let (schema, mut stream) = finish(source.current(&request).await?, &request).await?;
        let index = KeyIndex::with_nulls(&self.keys);
        let mut found = Vec::new();
        while let Some(batch) = stream.try_next().await? {
            let mask = self.mask(&index, plan, &batch)?;
            found.push(filter_record_batch(&batch, &mask)?);
        }
        let mut table = Table::new(schema, found)?;
        if current.collapse {
            table = table.take(&latest_rows(&table, &plan.join_columns)?)?;
        }
        Ok(table.project(&current.orphan_columns)?.into_batches())
    }

    fn mask(&self, index: &KeyIndex<'_>, plan: &IncrementPlan, batch: &RecordBatch) -> Result<BooleanArray> {
        let mut columns = Vec::with_capacity(plan.join_columns.len());
        for (name, data_type) in plan.join_columns.iter().zip(&self.types) {
            columns.push((batch.column(batch.schema().index_of(name)?).clone(), data_type.clone()));
        }
        let keys = Keys::new(&columns)?;
        Ok((0..keys.len()).map(|row| Some(index.find(&keys, row) != NO_ROW)).collect())
    }
}
