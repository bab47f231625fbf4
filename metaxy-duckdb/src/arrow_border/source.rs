//! Provides batches through a DuckDB table function, so that `INSERT … SELECT` can read them.
//!
//! The binding's own table function returns one batch, in one thread, and copies every list of the batch for each part
//! of it. This one returns several batches, in as many threads as DuckDB uses, and copies each value once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use duckdb::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use duckdb::arrow::compute::take;
use duckdb::arrow::datatypes::{DataType, Fields};
use duckdb::arrow::error::ArrowError;
use duckdb::core::{
    ArrayVector, DataChunkHandle, FlatVector, ListVector, LogicalTypeHandle, LogicalTypeId, StructVector,
};
use duckdb::vtab::arrow::{WritableVector, to_duckdb_logical_type_for_field, write_arrow_array_to_vector};
use duckdb::vtab::{BindInfo, InitInfo, TableFunctionInfo, VTab};
use metaxy_core::blocking;

use super::texts::NewTexts;
use crate::KIND;
use crate::arrow_border::{DuckBatch, vector_size};

/// The name of the table function.
pub(crate) const FUNCTION: &str = "metaxy_batches";

static SOURCES: LazyLock<Mutex<HashMap<u64, Arc<[DuckBatch]>>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(1);

fn sources() -> MutexGuard<'static, HashMap<u64, Arc<[DuckBatch]>>> {
    SOURCES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Batches that SQL can read as `metaxy_batches(number)` while this exists.
#[derive(Debug)]
pub(crate) struct Source(u64);

impl Source {
    /// Makes batches of one schema readable. There must be at least one.
    pub(crate) fn new(batches: Vec<DuckBatch>) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        sources().insert(number, batches.into());
        Self(number)
    }

    /// Returns the call of the table function.
    pub(crate) fn call(&self) -> String {
        format!("{FUNCTION}({}::UBIGINT)", self.0)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let removed = sources().remove(&self.0);
        drop(removed);
    }
}

/// Provides values with their row numbers, as the columns `row` and `value`.
pub(crate) fn numbered(values: &ArrayRef) -> metaxy_core::Result<DuckBatch> {
    let rows: ArrayRef = Arc::new(Int64Array::from_iter_values((0..values.len()).map(|row| row as i64)));
    RecordBatch::try_from_iter_with_nullable([("row", rows, false), ("value", values.clone(), true)])
        .map_err(|error| metaxy_core::Error::backend(KIND, "write", error))
}

type BoxError = Box<dyn std::error::Error>;

/// The table function.
pub(crate) struct BatchSource;

/// Batches, divided into parts of at most one vector.
pub(crate) struct Parts {
    batches: Arc<[DuckBatch]>,
    /// For each batch the number of its first part; then the number of all parts.
    firsts: Vec<usize>,
    size: usize,
}

impl Parts {
    fn new(batches: Arc<[DuckBatch]>, size: usize) -> Self {
        let mut firsts = vec![0];
        let mut count = 0;
        for batch in batches.iter() {
            count += batch.num_rows().div_ceil(size);
            firsts.push(count);
        }
        Self { batches, firsts, size }
    }

    /// Returns the rows of a part; `None` beyond the last one.
    fn get(&self, part: usize) -> Result<Option<RecordBatch>, ArrowError> {
        let Some(index) = self.firsts.partition_point(|first| *first <= part).checked_sub(1) else { return Ok(None) };
        let (Some(batch), Some(first)) = (self.batches.get(index), self.firsts.get(index)) else { return Ok(None) };
        let offset = (part - first) * self.size;
        compact_lists(&batch.slice(offset, self.size.min(batch.num_rows() - offset))).map(Some)
    }
}

impl VTab for BatchSource {
    type BindData = Parts;
    type InitData = AtomicUsize;

    fn bind(bind: &BindInfo) -> Result<Self::BindData, BoxError> {
        let number = bind.get_parameter(0).to_uint64();
        let batches = sources().get(&number).cloned().ok_or("these batches no longer exist")?;
        let first = batches.first().ok_or("there are no batches")?;
        for field in first.schema().fields() {
            bind.add_result_column(field.name(), to_duckdb_logical_type_for_field(field)?);
        }
        let rows: usize = batches.iter().map(DuckBatch::num_rows).sum();
        bind.set_cardinality(rows as u64, true);
        Ok(Parts::new(batches, vector_size()))
    }

    fn init(init: &InitInfo) -> Result<Self::InitData, BoxError> {
        init.set_max_threads(blocking::cores() as u64);
        Ok(AtomicUsize::new(0))
    }

    fn func(call: &TableFunctionInfo<Self>, output: &mut DataChunkHandle) -> Result<(), BoxError> {
        let part = call.get_init_data().fetch_add(1, Ordering::Relaxed);
        match call.get_bind_data().get(part)? {
            Some(rows) => {
                for (index, column) in rows.columns().iter().enumerate() {
                    Column { chunk: output, index }.fill(column)?;
                }
                output.set_len(rows.num_rows());
            }
            None => output.set_len(0),
        }
        Ok(())
    }

    fn parameters() -> Option<Vec<LogicalTypeHandle>> {
        Some(vec![LogicalTypeHandle::from(LogicalTypeId::UBigint)])
    }
}

/// A column of a chunk that is filled.
struct Column<'a> {
    chunk: &'a mut DataChunkHandle,
    index: usize,
}

impl Column<'_> {
    /// Copies texts and structs of texts, the most frequent columns; the binding would call DuckDB for each of their
    /// values.
    fn fill(&mut self, array: &ArrayRef) -> Result<(), BoxError> {
        match array.data_type() {
            DataType::Utf8 => NewTexts::new(self.flat_vector()).set_all(array.as_string()),
            DataType::Struct(members) if members.iter().all(|member| *member.data_type() == DataType::Utf8) => {
                let mut vector = self.struct_vector();
                for (index, member) in array.as_struct().columns().iter().enumerate() {
                    NewTexts::new(vector.child(index, array.len())).set_all(member.as_string());
                }
                (0..array.len()).filter(|row| array.is_null(*row)).for_each(|row| vector.set_null(row));
            }
            _ => write_arrow_array_to_vector(array, self)?,
        }
        Ok(())
    }
}

impl WritableVector for Column<'_> {
    fn flat_vector(&mut self) -> FlatVector<'_> {
        self.chunk.flat_vector(self.index)
    }

    fn list_vector(&mut self) -> ListVector<'_> {
        self.chunk.list_vector(self.index)
    }

    fn array_vector(&mut self) -> ArrayVector<'_> {
        self.chunk.array_vector(self.index)
    }

    fn struct_vector(&mut self) -> StructVector<'_> {
        self.chunk.struct_vector(self.index)
    }
}

/// Trims a slice of a list array, which still has all values of the list: the binding would copy them all.
fn compact_lists(slice: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if !has_lists(slice.schema().fields()) {
        return Ok(slice.clone());
    }
    let all = UInt32Array::from_iter_values(0..u32::try_from(slice.num_rows()).unwrap_or(u32::MAX));
    let compact = |column: &ArrayRef| -> Result<ArrayRef, ArrowError> {
        if is_list(column.data_type()) { take(column, &all, None) } else { Ok(column.clone()) }
    };
    let columns = slice.columns().iter().map(compact).collect::<Result<_, _>>()?;
    RecordBatch::try_new(slice.schema(), columns)
}

fn has_lists(fields: &Fields) -> bool {
    fields.iter().any(|field| is_list(field.data_type()))
}

fn is_list(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(_) | DataType::LargeList(_) | DataType::Map(_, _) => true,
        DataType::Struct(members) => has_lists(members),
        DataType::FixedSizeList(child, _) => is_list(child.data_type()),
        _ => false,
    }
}
