//! The files and row groups that a filter can skip, by their statistics.
//!
//! Statistics give the range of the values of a column and the number of its nulls. They determine which of the three
//! results (true, false, unknown) a filter can have for a set of rows: if it cannot be true, the rows need not be read;
//! if it can only be true, they need not be filtered. Anything uncertain counts as possible.

use std::cmp::Ordering;

use metaxy_core::filter::{BoundColumn, CompareOp, InList, Predicate, Scalar};

use crate::table::log::statistics::{Range, RowStatistics};
use crate::types::TableSchema;

/// Longer lists are not compared with the statistics of files.
const LONGEST_LIST: usize = 4096;

/// The result of a filter for a set of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is true for no row.
    None,
    /// It is true for every row.
    All,
    /// The rows have to be read.
    Unknown,
}

/// Returns the result of a filter for rows with these statistics.
pub(crate) fn judge(predicate: &Predicate, schema: &TableSchema, statistics: &impl RowStatistics) -> Verdict {
    if statistics.rows() == Some(0) {
        return Verdict::None;
    }
    let answers = answers(predicate, schema, statistics);
    match (answers.yes, answers.no || answers.unknown) {
        (false, _) => Verdict::None,
        (true, false) => Verdict::All,
        (true, true) => Verdict::Unknown,
    }
}

/// The possible results for a row.
#[derive(Clone, Copy)]
struct Answers {
    yes: bool,
    no: bool,
    unknown: bool,
}

impl Answers {
    const ANY: Self = Self { yes: true, no: true, unknown: true };

    /// Returns the given results for the values of a column, and unknown for its nulls.
    fn of_values(range: &Range, yes: bool, no: bool) -> Self {
        Self { yes: yes && range.some_valid, no: no && range.some_valid, unknown: range.some_null }
    }

    fn constant(value: Option<bool>) -> Self {
        Self { yes: value == Some(true), no: value == Some(false), unknown: value.is_none() }
    }

    fn and(self, other: Self) -> Self {
        Self {
            yes: self.yes && other.yes,
            no: self.no || other.no,
            unknown: self.unknown && (other.unknown || other.yes) || other.unknown && self.yes,
        }
    }

    fn not(self) -> Self {
        Self { yes: self.no, no: self.yes, unknown: self.unknown }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }
}

fn answers(predicate: &Predicate, schema: &TableSchema, statistics: &impl RowStatistics) -> Answers {
    let range = |column: &BoundColumn| match column.path.as_slice() {
        [name] => schema.column(name).map(|column| statistics.range(column)),
        _ => None,
    };
    let of = |column: &BoundColumn, answer: &dyn Fn(&Range) -> Answers| {
        range(column).map_or(Answers::ANY, |range| answer(&range))
    };
    let each = |part: &Predicate| answers(part, schema, statistics);
    match predicate {
        Predicate::Constant(value) => Answers::constant(*value),
        Predicate::Decided { column, result } => of(column, &|range| Answers::of_values(range, *result, !result)),
        Predicate::Column(column) => of(column, &|range| compare(range, CompareOp::Eq, &Scalar::Boolean(true))),
        Predicate::Compare { column, op, value } => of(column, &|range| compare(range, *op, value)),
        Predicate::In { column, list } => of(column, &|range| in_list(range, list)),
        Predicate::IsNull(column) => {
            of(column, &|range| Answers { yes: range.some_null, no: range.some_valid, unknown: false })
        }
        Predicate::CompareColumns { .. } => Answers::ANY,
        Predicate::And(parts) => parts.iter().map(each).fold(Answers::constant(Some(true)), Answers::and),
        Predicate::Or(parts) => parts.iter().map(each).fold(Answers::constant(Some(false)), Answers::or),
        Predicate::Not(inner) => each(inner).not(),
    }
}

fn compare(range: &Range, op: CompareOp, value: &Scalar) -> Answers {
    // The order of the value and both ends of the range.
    let (min, max) = (order(value, range.min.as_ref()), order(value, range.max.as_ref()));
    let (below, above) = (min == Some(Ordering::Less), max == Some(Ordering::Greater));
    let (first, last) = (min == Some(Ordering::Equal), max == Some(Ordering::Equal));
    let (yes, no) = match op {
        CompareOp::Eq => (!below && !above, !(first && last)),
        CompareOp::NotEq => (!(first && last), !below && !above),
        CompareOp::Lt => (!below && !first, !above),
        CompareOp::LtEq => (!below, !above && !last),
        CompareOp::Gt => (!above && !last, !below),
        CompareOp::GtEq => (!above, !below && !first),
    };
    Answers::of_values(range, yes, no)
}

fn in_list(range: &Range, list: &InList) -> Answers {
    let values = list.values();
    if values.len() > LONGEST_LIST {
        return Answers::ANY;
    }
    let none = Answers::of_values(range, false, true);
    let found = values.iter().map(|value| compare(range, CompareOp::Eq, value)).fold(none, Answers::or);
    // For a list with NULL, the result of a value that is not in the list is unknown.
    if list.has_null() { Answers { yes: found.yes, no: false, unknown: found.unknown || found.no } } else { found }
}

/// Compares a value with an end of a range; `None` if the end is not known.
fn order(value: &Scalar, end: Option<&Scalar>) -> Option<Ordering> {
    match (value, end?) {
        (Scalar::Boolean(value), Scalar::Boolean(end)) => Some(value.cmp(end)),
        (Scalar::Int(value), Scalar::Int(end)) => Some(value.cmp(end)),
        (Scalar::UInt(value), Scalar::UInt(end)) => Some(value.cmp(end)),
        (Scalar::Text(value), Scalar::Text(end)) => Some(value.cmp(end)),
        (Scalar::Date(value), Scalar::Date(end)) => Some(value.cmp(end)),
        (Scalar::Timestamp { value, unit, .. }, Scalar::Timestamp { value: end, unit: end_unit, .. })
            if unit == end_unit =>
        {
            Some(value.cmp(end))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::Schema;
    use chrono::DateTime;
    use metaxy_core::Filter;
    use serde_json::json;

    use crate::table::log::statistics::FileStats;

    use super::*;

    /// Returns values on both sides of those in the filters, and nulls.
    fn batches() -> Vec<RecordBatch> {
        let sets: [[Option<i64>; 3]; 8] = [
            [Some(1), Some(2), Some(3)],
            [Some(5), Some(5), Some(5)],
            [Some(4), Some(6), None],
            [Some(7), Some(9), Some(8)],
            [None, None, None],
            [Some(5), None, Some(5)],
            [Some(0), Some(0), Some(5)],
            [Some(9), Some(9), None],
        ];
        sets.iter().map(|values| batch(values)).collect()
    }

    fn batch(values: &[Option<i64>]) -> RecordBatch {
        let text = |value: &Option<i64>| value.map(|value| format!("t{}", value + 10));
        let micros = |value: &Option<i64>| value.map(|value| value * 1_000_000 + 123_456);
        RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from(values.to_vec())) as ArrayRef, true),
            ("text", Arc::new(values.iter().map(text).collect::<StringArray>()), true),
            ("flag", Arc::new(values.iter().map(|value| value.map(|value| value > 4)).collect::<BooleanArray>()), true),
            (
                "at",
                Arc::new(values.iter().map(micros).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
                true,
            ),
        ])
        .unwrap()
    }

    /// Builds the statistics that a log would have.
    fn stats(values: &RecordBatch) -> FileStats {
        let numbers: Vec<i64> =
            values.column(0).as_any().downcast_ref::<Int64Array>().unwrap().iter().flatten().collect();
        let nulls = values.num_rows() - numbers.len();
        let of = |value: Option<&i64>| {
            value.map_or(json!({}), |value| {
                let moment = DateTime::from_timestamp_micros(value * 1_000_000 + 123_456).unwrap();
                let at = moment.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
                json!({"n": value, "text": format!("t{}", value + 10), "flag": *value > 4, "at": at})
            })
        };
        let text = json!({
            "numRecords": values.num_rows(),
            "minValues": of(numbers.iter().min()),
            "maxValues": of(numbers.iter().max()),
            "nullCount": {"n": nulls, "text": nulls, "flag": nulls, "at": nulls},
        });
        FileStats::parse(Some(&text.to_string()))
    }

    fn table(schema: &Schema) -> TableSchema {
        TableSchema::merge(&"t".parse().unwrap(), None, schema).unwrap().0
    }

    const FILTERS: [&str; 24] = [
        "n = 5",
        "n != 5",
        "n < 5",
        "n <= 5",
        "n > 5",
        "n >= 5",
        "n IN (1, 5, 40)",
        "n NOT IN (5, 6)",
        "n IS NULL",
        "n IS NOT NULL",
        "text = 't15'",
        "text < 't15'",
        "text >= 't19'",
        "text IN ('t11', 't12')",
        "flag",
        "NOT flag",
        "flag = false",
        "at > '1970-01-01T00:00:05Z'",
        "at <= '1970-01-01T00:00:09.123456Z'",
        "at > '1970-01-01T00:00:09.123Z'",
        "n > 3 AND n < 8",
        "n < 2 OR n > 8",
        "NOT (n = 5 AND flag)",
        "n IN (5, NULL) OR text = 't19'",
    ];

    /// No skipped row passes, and no row that need not be filtered is refused.
    #[test]
    fn verdicts_agree_with_the_rows() {
        let (mut skipped, mut whole) = (0, 0);
        for rows in batches() {
            let (schema, stats) = (table(&rows.schema()), stats(&rows));
            for text in FILTERS {
                let filter: Filter = text.parse().unwrap();
                let predicate = filter.bind(&rows.schema()).unwrap();
                let passing = predicate.evaluate(&rows).unwrap().true_count();
                match judge(&predicate, &schema, &stats) {
                    Verdict::None => {
                        assert_eq!(passing, 0, "{text} on {rows:?}");
                        skipped += 1;
                    }
                    Verdict::All => {
                        assert_eq!(passing, rows.num_rows(), "{text} on {rows:?}");
                        whole += 1;
                    }
                    Verdict::Unknown => {}
                }
            }
        }
        assert!(skipped > 80 && whole > 30, "only {skipped} sets are skipped, and {whole} need no filter");
    }

    #[test]
    fn truncated_texts_exclude_nothing() {
        let long = "x".repeat(32);
        let text = json!({"numRecords": 2, "minValues": {"text": long}, "maxValues": {"text": long}, "nullCount": {"text": 0}});
        let (rows, stats) = (batch(&[None]), FileStats::parse(Some(&text.to_string())));
        let filter: Filter = format!("text = '{long}y'").parse().unwrap();
        let predicate = filter.bind(&rows.schema()).unwrap();
        assert_eq!(judge(&predicate, &table(&rows.schema()), &stats), Verdict::Unknown);
    }

    #[test]
    fn without_statistics_everything_is_possible() {
        let rows = batch(&[None]);
        for stats in [FileStats::parse(None), FileStats::parse(Some("{")), FileStats::parse(Some("{\"numRecords\":1}"))]
        {
            for text in FILTERS {
                let filter: Filter = text.parse().unwrap();
                let verdict = judge(&filter.bind(&rows.schema()).unwrap(), &table(&rows.schema()), &stats);
                assert_eq!(verdict, Verdict::Unknown, "{text}");
            }
        }
    }
}
