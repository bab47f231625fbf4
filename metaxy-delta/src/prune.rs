//! Which files and row groups a filter can leave out, by what is known of them without reading them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use metaxy_core::filter::Predicate;
use serde_json::Value;

use crate::types::TableSchema;

/// Longer texts may have been cut when they became a statistic.
const LONGEST_TEXT: usize = 31;

/// What the log says about the rows of a file.
#[derive(Debug, Default)]
pub(crate) struct FileStats {
    /// How many there are.
    pub rows: Option<u64>,
    min: Value,
    max: Value,
    nulls: Value,
}

impl FileStats {
    /// Statistics as the log has them. What cannot be understood is as good as nothing.
    pub fn parse(text: Option<&str>) -> Self {
        let Some(Ok(mut stats)) = text.map(serde_json::from_str::<Value>) else { return Self::default() };
        Self {
            rows: stats.get("numRecords").and_then(Value::as_u64),
            min: stats.get_mut("minValues").map(Value::take).unwrap_or_default(),
            max: stats.get_mut("maxValues").map(Value::take).unwrap_or_default(),
            nulls: stats.get_mut("nullCount").map(Value::take).unwrap_or_default(),
        }
    }

    /// The one value that a column has in all rows, as an array of one.
    fn constant(&self, stored_name: &str, data_type: &DataType) -> Option<ArrayRef> {
        let nulls = self.nulls.get(stored_name)?.as_u64()?;
        if nulls == self.rows? {
            return Some(new_null_array(data_type, 1));
        }
        let (min, max) = (self.min.get(stored_name)?, self.max.get(stored_name)?);
        if nulls > 0 || min != max {
            return None;
        }
        match (data_type, min) {
            (DataType::Utf8, Value::String(text)) if text.len() <= LONGEST_TEXT => {
                Some(Arc::new(StringArray::from(vec![text.as_str()])))
            }
            (DataType::Boolean, Value::Bool(value)) => Some(Arc::new(BooleanArray::from(vec![*value]))),
            (integer, Value::Number(number)) if integer.is_integer() => {
                cast(&Int64Array::from(vec![number.as_i64()?]), integer).ok().filter(|array| array.null_count() == 0)
            }
            _ => None,
        }
    }
}

/// What a filter makes of a set of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It refuses every row.
    None,
    /// It lets every row pass.
    All,
    /// Only a look at the rows can tell.
    Unknown,
}

/// What a filter makes of the rows of a file.
pub(crate) fn judge(predicate: &Predicate, schema: &TableSchema, stats: &FileStats) -> Verdict {
    if stats.rows == Some(0) {
        return Verdict::None;
    }
    judge_constants(predicate, schema, stats).unwrap_or(Verdict::Unknown)
}

/// Where all columns of a filter have one value throughout, one row stands for all.
fn judge_constants(predicate: &Predicate, schema: &TableSchema, stats: &FileStats) -> Option<Verdict> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for name in predicate.columns() {
        let column = schema.column(&name)?;
        arrays.push(stats.constant(&column.stored_name, column.logical.data_type())?);
        fields.push(Field::new(name, column.logical.data_type().clone(), true));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).ok()?;
    let passes = predicate.evaluate(&row).ok()?;
    Some(if passes.true_count() == 1 { Verdict::All } else { Verdict::None })
}
