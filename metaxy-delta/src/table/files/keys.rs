//! The rows with some keys: files and row groups without them are skipped by their statistics. Of the others the key
//! columns are decoded first, and the rest only for the rows that match.

use std::sync::Arc;

use ahash::AHashSet;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and, cast};
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use metaxy_core::backend::ScanKeys;
use metaxy_core::error::Result;
use metaxy_core::filter::Scalar;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, RowFilter};
use parquet::schema::types::SchemaDescriptor;

use crate::table::log::statistics::{Range, RowStatistics};
use crate::types::{Column, FileColumn, TableSchema};

/// The keys of the needed rows, column by column: a row is needed only if each of its key columns has one of the values.
#[derive(Debug)]
pub(crate) struct KeyFilter {
    schema: Arc<TableSchema>,
    columns: Vec<(Column, Values)>,
}

/// The distinct values of a key column, for lookups and in order.
#[derive(Debug)]
enum Values {
    Integers(AHashSet<i64>, Vec<i64>),
    Texts(AHashSet<Box<str>>, Vec<Box<str>>),
}

impl KeyFilter {
    /// Creates the filter of a table; `None` if its files do not have the key columns.
    pub fn new(schema: &Arc<TableSchema>, keys: &ScanKeys) -> Result<Option<Arc<Self>>> {
        let mut columns = Vec::new();
        for (name, array) in keys.columns().zip(keys.rows().columns()) {
            let column = schema.column(name).filter(|column| !column.is_partition);
            if let (Some(column), Some(values)) = (column, Values::of(array)?) {
                columns.push((column.clone(), values));
            }
        }
        Ok((!columns.is_empty()).then(|| Arc::new(Self { schema: schema.clone(), columns })))
    }

    /// Returns whether rows with these statistics may have one of the keys.
    pub fn may_match(&self, statistics: &impl RowStatistics) -> bool {
        self.columns.iter().all(|(column, values)| values.may_be_in(&statistics.range(column)))
    }

    /// Returns the filter for the rows of a file; `None` if the file has none of the key columns.
    pub fn of_file(self: &Arc<Self>, file_schema: &SchemaDescriptor) -> Option<RowFilter> {
        let found = FileColumn::all_in(file_schema);
        let roots: Vec<usize> =
            self.columns.iter().filter_map(|(column, _)| self.schema.find_in_file(column, &found)).collect();
        if roots.is_empty() {
            return None;
        }
        let filter = self.clone();
        let predicate = move |batch: RecordBatch| filter.matches(&batch);
        let mask = ProjectionMask::roots(file_schema, roots);
        Some(RowFilter::new(vec![Box::new(ArrowPredicateFn::new(mask, predicate))]))
    }

    /// Returns for each row of a file whether it may have one of the keys; the batch has only key columns.
    fn matches(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let file_schema = batch.schema();
        let found = FileColumn::all_of(&file_schema);
        let mut matching: Option<BooleanArray> = None;
        for (column, values) in &self.columns {
            let Some(at) = self.schema.find_in_file(column, &found) else { continue };
            let own = values.contain(&column.of_file(batch.column(at))?)?;
            matching = Some(match matching {
                Some(others) => and(&others, &own)?,
                None => own,
            });
        }
        Ok(matching.unwrap_or_else(|| BooleanArray::from(vec![true; batch.num_rows()])))
    }
}

impl Values {
    /// Returns the values of a key column; `None` for types whose values are not looked up.
    fn of(array: &ArrayRef) -> Result<Option<Self>> {
        Ok(match array.data_type() {
            integer if integer.is_integer() && *integer != DataType::UInt64 => {
                let array = cast(array, &DataType::Int64)?;
                let set: AHashSet<i64> = array.as_primitive::<Int64Type>().iter().flatten().collect();
                let mut sorted: Vec<i64> = set.iter().copied().collect();
                sorted.sort_unstable();
                Some(Self::Integers(set, sorted))
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let array = cast(array, &DataType::Utf8)?;
                let set: AHashSet<Box<str>> = array.as_string::<i32>().iter().flatten().map(Box::from).collect();
                let mut sorted: Vec<Box<str>> = set.iter().cloned().collect();
                sorted.sort_unstable();
                Some(Self::Texts(set, sorted))
            }
            _ => None,
        })
    }

    /// Returns whether a value is in a range.
    fn may_be_in(&self, range: &Range) -> bool {
        if !range.some_valid {
            return false;
        }
        match self {
            Self::Integers(_, sorted) => {
                let is_below = |value: &i64| matches!(&range.min, Some(Scalar::Int(min)) if value < min);
                let least = sorted.get(sorted.partition_point(is_below));
                least.is_some_and(|value| !matches!(&range.max, Some(Scalar::Int(max)) if value > max))
            }
            Self::Texts(_, sorted) => {
                let least = sorted.partition_point(|value| match &range.min {
                    Some(Scalar::Text(min)) => value.as_ref() < min.as_str(),
                    _ => false,
                });
                let least = sorted.get(least);
                least.is_some_and(|value| !matches!(&range.max, Some(Scalar::Text(max)) if **value > **max))
            }
        }
    }

    /// Returns for each value of a column of the table whether it is one of these.
    fn contain(&self, array: &ArrayRef) -> Result<BooleanArray, ArrowError> {
        Ok(match self {
            Self::Integers(set, _) => {
                let array = cast(array, &DataType::Int64)?;
                let array = array.as_primitive::<Int64Type>();
                array.iter().map(|value| Some(value.is_some_and(|value| set.contains(&value)))).collect()
            }
            Self::Texts(set, _) => match array.data_type() {
                DataType::Utf8 => {
                    let array = array.as_string::<i32>();
                    array.iter().map(|value| Some(value.is_some_and(|value| set.contains(value)))).collect()
                }
                _ => {
                    let array = cast(array, &DataType::Utf8View)?;
                    let array = array.as_string_view();
                    array.iter().map(|value| Some(value.is_some_and(|value| set.contains(value)))).collect()
                }
            },
        })
    }
}
