//! Statistics of a row group, from its file.

use arrow::datatypes::{DataType, TimeUnit};
use metaxy_core::filter::Scalar;
use parquet::basic::{LogicalType, TimeUnit as ParquetTimeUnit};
use parquet::data_type::ByteArray;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use crate::table::log::statistics::{LONGEST_TEXT, Range, RowStatistics, integer};
use crate::types::Column;

impl RowStatistics for RowGroupMetaData {
    fn rows(&self) -> Option<u64> {
        u64::try_from(self.num_rows()).ok()
    }

    fn range(&self, column: &Column) -> Range {
        if column.is_partition {
            return Range::unknown();
        }
        let top = |path: &[String]| path == [column.in_file.name().as_str()];
        let found = self.columns().iter().find(|chunk| top(chunk.column_path().parts()));
        let usable = found.filter(|chunk| counts_as(chunk, column.logical.data_type()));
        let Some(statistics) = usable.and_then(|chunk| chunk.statistics()) else { return Range::unknown() };
        let data_type = column.logical.data_type();
        let (min, max) = match statistics {
            Statistics::Boolean(values) => {
                (values.min_opt().copied().map(Scalar::Boolean), values.max_opt().copied().map(Scalar::Boolean))
            }
            Statistics::Int32(values) => {
                let of = |value: &i32| integer(i64::from(*value), data_type);
                (values.min_opt().and_then(of), values.max_opt().and_then(of))
            }
            Statistics::Int64(values) => {
                let of = |value: &i64| integer(*value, data_type);
                (values.min_opt().and_then(of), values.max_opt().and_then(of))
            }
            Statistics::ByteArray(values) if *data_type == DataType::Utf8 => {
                let of = |value: &ByteArray| value.as_utf8().ok().map(|text| Scalar::Text(text.to_owned()));
                let max = values.max_opt().filter(|value| values.max_is_exact() || value.len() <= LONGEST_TEXT);
                (values.min_opt().and_then(of), max.and_then(of))
            }
            _ => (None, None),
        };
        Range::new(min, max, self.rows(), statistics.null_count_opt())
    }
}

/// Returns whether numbers in a file have the same meaning as in the table: another program may use another unit of
/// time.
fn counts_as(chunk: &ColumnChunkMetaData, data_type: &DataType) -> bool {
    match (data_type, chunk.column_descr().logical_type_ref()) {
        (DataType::Timestamp(TimeUnit::Microsecond, _), Some(LogicalType::Timestamp(stored))) => {
            stored.unit == ParquetTimeUnit::MICROS
        }
        (DataType::Timestamp(TimeUnit::Microsecond, _), _) => false,
        _ => true,
    }
}
