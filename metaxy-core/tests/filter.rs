//! Filters through the public API: parsing, binding, evaluation, rendering.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, DictionaryArray,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int32Array, Int64Array, LargeStringArray, ListArray,
    NullArray, RecordBatch, RunArray, StringArray, StringViewArray, StructArray, Time32MillisecondArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use metaxy_core::Error;
use metaxy_core::filter::{
    Column, CompareOp, Filter, IntoFilter, Literal, Predicate, Scalar, SqlDialect, StandardSql, col, to_sql,
};
use proptest::prelude::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

const DAY: i64 = 86_400_000_000;
/// 2026-01-01 in days since 1970.
const NEW_YEAR: i32 = 20_454;

/// Returns four rows: small, medium and large values, and nulls.
fn table() -> RecordBatch {
    let new_year = i64::from(NEW_YEAR) * DAY;
    let moments = [Some(new_year), Some(new_year + 43_200_000_000), Some(new_year + DAY), None];
    let scaled = |divisor: i64| moments.iter().map(|moment| moment.map(|moment| moment / divisor)).collect::<Vec<_>>();
    let nanos: Vec<_> = moments.iter().map(|moment| moment.map(|moment| moment * 1000)).collect();
    let members: Fields =
        vec![Field::new("size", DataType::Int64, true), Field::new("kind", DataType::Utf8, true)].into();
    let meta = StructArray::new(
        members,
        vec![
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)])),
            Arc::new(StringArray::from(vec![Some("x"), Some("y"), None, Some("z")])),
        ],
        Some(NullBuffer::from(vec![true, true, true, false])),
    );
    let tags = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)]), None, Some(vec![]), None]);
    batch(vec![
        ("int", Arc::new(Int64Array::from(vec![Some(-2), Some(3), Some(9_007_199_254_740_993), None]))),
        ("tiny", Arc::new(Int8Array::from(vec![Some(-128), Some(3), Some(127), None]))),
        ("big", Arc::new(UInt64Array::from(vec![Some(0), Some(3), Some(u64::MAX), None]))),
        ("float", Arc::new(Float64Array::from(vec![Some(-0.0), Some(2.5), Some(f64::NAN), None]))),
        ("single", Arc::new(Float32Array::from(vec![Some(-1.5), Some(0.1), Some(f32::INFINITY), None]))),
        ("ok", Arc::new(BooleanArray::from(vec![Some(false), Some(true), Some(true), None]))),
        ("text", Arc::new(StringArray::from(vec![Some(""), Some("it's"), Some("zoë"), None]))),
        ("large", Arc::new(LargeStringArray::from(vec![Some(""), Some("it's"), Some("zoë"), None]))),
        ("view", Arc::new(StringViewArray::from(vec![Some(""), Some("it's"), Some("zoë"), None]))),
        (
            "dict",
            Arc::new([Some(""), Some("it's"), Some("zoë"), None].into_iter().collect::<DictionaryArray<Int32Type>>()),
        ),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b""[..]), Some(b"\x00\xff"), Some(b"\xff"), None]))),
        ("fixed", Arc::new(fixed([Some(*b"\x00\x00"), Some(*b"\x00\xff"), Some(*b"\xff\x00"), None]))),
        ("price", Arc::new(decimals(vec![Some(-10), Some(10), Some(99_999_999), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(NEW_YEAR), Some(NEW_YEAR + 1), Some(NEW_YEAR + 2), None]))),
        (
            "day64",
            Arc::new(Date64Array::from(
                scaled(1000).iter().map(|v| v.map(|v| v / 86_400_000 * 86_400_000)).collect::<Vec<_>>(),
            )),
        ),
        ("at_s", Arc::new(TimestampSecondArray::from(scaled(1_000_000)))),
        ("at_ms", Arc::new(TimestampMillisecondArray::from(scaled(1000)).with_timezone("UTC"))),
        ("at_us", Arc::new(TimestampMicrosecondArray::from(scaled(1)).with_timezone("+00:00"))),
        ("at_ns", Arc::new(TimestampNanosecondArray::from(nanos))),
        ("time_ms", Arc::new(Time32MillisecondArray::from(vec![Some(0), Some(43_200_000), Some(86_399_999), None]))),
        (
            "time_us",
            Arc::new(Time64MicrosecondArray::from(vec![Some(0), Some(43_200_000_000), Some(86_399_999_999), None])),
        ),
        ("nothing", Arc::new(NullArray::new(4))),
        ("meta", Arc::new(meta)),
        ("meta.kind", Arc::new(Int32Array::from(vec![1, 2, 3, 4]))),
        ("tags", Arc::new(tags)),
        ("odd \"name\"", Arc::new(Int32Array::from(vec![1, 2, 3, 4]))),
        ("limit", Arc::new(Int32Array::from(vec![0, 5, 7, 8]))),
    ])
}

fn fixed(values: [Option<[u8; 2]>; 4]) -> FixedSizeBinaryArray {
    FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), 2).unwrap()
}

fn decimals(values: Vec<Option<i128>>) -> Decimal128Array {
    Decimal128Array::from(values).with_precision_and_scale(8, 2).unwrap()
}

/// Returns the mask as text: `T`, `F`, and `-` for unknown.
fn mask(filter: &Filter, batch: &RecordBatch) -> String {
    let predicate = filter.bind(&batch.schema()).unwrap_or_else(|error| panic!("{filter}: {error}"));
    let mask = predicate.evaluate(batch).unwrap_or_else(|error| panic!("{filter}: {error}"));
    mask.iter().map(|value| value.map_or('-', |value| if value { 'T' } else { 'F' })).collect()
}

#[test]
fn every_operator_on_every_type() {
    let cases = [
        // integers, also against numbers that they cannot hold
        ("int = 3", "FTF-"),
        ("int != 3", "TFT-"),
        ("int <> 3", "TFT-"),
        ("int < 3", "TFF-"),
        ("int <= 3", "TTF-"),
        ("int > 3", "FFT-"),
        ("int >= 3", "FTT-"),
        ("3 < int", "FFT-"),
        ("(3) >= (int)", "TTF-"),
        ("int > 3.5", "FFT-"),
        ("int > 2.5", "FTT-"),
        ("int < 3.5", "TTF-"),
        ("int >= -2.5", "TTT-"),
        ("int <= -2.5", "FFF-"),
        ("int = 3.5", "FFF-"),
        ("int != 3.5", "TTT-"),
        ("int = 3.0", "FTF-"),
        ("int = 0.3e1", "FTF-"),
        ("int = 9007199254740993", "FFT-"),
        ("int = 9007199254740992", "FFF-"),
        ("int < 9007199254740992.5", "TTF-"),
        ("int > 1e-300", "FTT-"),
        ("int > -1e-300", "FTT-"),
        ("int < 1e300", "TTT-"),
        ("int < FLOAT 'NaN'", "TTT-"),
        ("tiny < 300", "TTT-"),
        ("tiny > 127", "FFF-"),
        ("tiny >= 127.5", "FFF-"),
        ("tiny > -128.5", "TTT-"),
        ("tiny = 1000", "FFF-"),
        ("big = 18446744073709551615", "FFT-"),
        ("big >= -1", "TTT-"),
        ("big IN (18446744073709551615, 0, 3, 4, 5)", "TTT-"),
        ("big NOT IN (18446744073709551615, 1, -3, 4, 5)", "TTF-"),
        // floats
        ("float = 0", "TFF-"),
        ("float >= 0", "TTT-"),
        ("float < 2.5", "TFF-"),
        ("float > 1e308", "FFT-"),
        ("float = FLOAT 'NaN'", "FFT-"),
        ("float < FLOAT 'NaN'", "TTF-"),
        ("float IN (2.5, 0)", "TTF-"),
        ("single = 0.1", "FTF-"),
        ("single < FLOAT 'inf'", "TTF-"),
        ("single BETWEEN -1.5 AND 0.1", "TTF-"),
        // booleans
        ("ok", "FTT-"),
        ("NOT ok", "TFF-"),
        ("NOT NOT ok", "FTT-"),
        ("ok = TRUE", "FTT-"),
        ("ok = false", "TFF-"),
        ("ok != TRUE", "TFF-"),
        ("ok IN (TRUE)", "FTT-"),
        // texts
        ("text = 'it''s'", "FTF-"),
        ("large = 'it''s'", "FTF-"),
        ("view = 'it''s'", "FTF-"),
        ("dict = 'it''s'", "FTF-"),
        ("text > 'it'", "FTT-"),
        ("dict > 'it'", "FTT-"),
        ("text = ''", "TFF-"),
        ("text IN ('', 'zoë')", "TFT-"),
        ("text IN ('', 'zoë', 'a', 'b', 'c')", "TFT-"),
        ("large IN ('', 'zoë', 'a', 'b', 'c')", "TFT-"),
        ("view IN ('', 'zoë', 'a', 'b', 'c')", "TFT-"),
        ("dict IN ('', 'zoë', 'a', 'b', 'c')", "TFT-"),
        ("dict NOT IN ('', 'zoë', 'a', 'b', NULL)", "F-F-"),
        // bytes
        ("bytes = x'00ff'", "FTF-"),
        ("bytes > X'00FF'", "FFT-"),
        ("bytes IN (x'', x'ff', x'01', x'02')", "TFT-"),
        ("fixed = x'00ff'", "FTF-"),
        ("fixed > x'00'", "TTT-"),
        ("fixed IN (x'0000', x'ff00', x'01', x'02')", "TFT-"),
        // decimals
        ("price = 0.1", "FTF-"),
        ("price = 0.10", "FTF-"),
        ("price < 0.105", "TTF-"),
        ("price >= 0.105", "FFT-"),
        ("price = 0.105", "FFF-"),
        ("price > -0.1", "FTT-"),
        ("price < 12345678901234567890.123456789", "TTT-"),
        ("price IN (0.1, 999999.99, 3, 4)", "FTT-"),
        // dates, times and moments
        ("day = '2026-01-01'", "TFF-"),
        ("day > DATE '2026-01-01'", "FTT-"),
        ("day > '2026-01-01 12:00:00'", "FTT-"),
        ("day <= '2026-01-01 12:00:00'", "TFF-"),
        ("day = '2026-01-01 12:00:00'", "FFF-"),
        ("day IN ('2026-01-01', '2026-01-03', '2027-01-01', '2028-01-01')", "TFT-"),
        ("day64 >= '2026-01-02'", "FFT-"),
        ("day64 IN ('2026-01-02', '2026-01-03', '2026-01-04', '2026-01-05')", "FFT-"),
        ("at_s = '2026-01-01'", "TFF-"),
        ("at_s > '2026-01-01 00:00:00.5'", "FTT-"),
        ("at_s <= '2026-01-01 00:00:00.999999999'", "TFF-"),
        ("at_s = '2026-01-01 12:00:00.5'", "FFF-"),
        ("at_s IN ('2026-01-01', '2026-01-02', '2026-01-03', '2026-01-04')", "TFT-"),
        ("at_ms < '2026-01-01T12:00:00Z'", "TFF-"),
        ("at_ms <= '2026-01-01 13:00:00+01:00'", "TTF-"),
        ("at_ms < '2026-01-01 13:00:00+01'", "TFF-"),
        ("at_us = '2026-01-01 12:00'", "FTF-"),
        ("at_us > TIMESTAMP '2026-01-01T11:59:59.999999999Z'", "FTT-"),
        ("at_us IN ('2026-01-01', '2026-01-02', '2026-01-03', '2026-01-04')", "TFT-"),
        ("at_ns BETWEEN '2026-01-01' AND '2026-01-01 12:00:00.000'", "TTF-"),
        ("at_ns < '9999-01-01'", "TTT-"),
        ("at_ns > '0001-01-01'", "TTT-"),
        ("at_s < '9999-01-01'", "TTT-"),
        ("time_ms = '12:00'", "FTF-"),
        ("time_ms > TIME '12:00:00.0001'", "FFT-"),
        ("time_us <= '12:00:00'", "TTF-"),
        // null
        ("int IS NULL", "FFFT"),
        ("int IS NOT NULL", "TTTF"),
        ("NOT int IS NULL", "TTTF"),
        ("int = NULL", "FFFT"),
        ("int != NULL", "TTTF"),
        ("NULL <> int", "TTTF"),
        ("int < NULL", "----"),
        ("tags IS NULL", "FTFT"),
        ("nothing IS NULL", "TTTT"),
        ("nothing = 3", "----"),
        ("nothing", "----"),
        ("int IN (3, NULL)", "-T--"),
        ("int NOT IN (3, NULL)", "-F--"),
        ("int NOT IN (1, NULL)", "----"),
        ("int IN (NULL)", "----"),
        ("int IN (3.5)", "FFF-"),
        ("int NOT IN (3.5)", "TTT-"),
        ("int IN ()", "FFFF"),
        ("int NOT IN ()", "TTTT"),
        ("int IN (3, 3, -2, 5, 6, 7)", "TTF-"),
        ("int NOT IN (3, 3, -2, 5, 6, NULL)", "FF--"),
        // logic
        ("TRUE", "TTTT"),
        ("FALSE", "FFFF"),
        ("NULL", "----"),
        ("ok AND NULL", "F---"),
        ("ok OR NULL", "-TT-"),
        ("int > 0 AND ok OR text = ''", "TTT-"),
        ("int > 0 AND (ok OR text = '')", "FTT-"),
        ("NOT int > 0 AND ok", "FFF-"),
        ("NOT (int > 0 AND ok)", "TFF-"),
        ("int NOT BETWEEN 0 AND 5", "TFT-"),
        ("int BETWEEN 0 AND 5 AND ok", "FTF-"),
        // names
        ("meta.size = 1", "T-F-"),
        ("meta.size IS NULL", "FTFT"),
        ("meta.size >= 3", "F-T-"),
        ("meta.kind = 2", "FTFF"),
        ("meta IS NULL", "FFFT"),
        ("\"odd \"\"name\"\"\" > 2", "FFTT"),
        ("limit > 5 and ok is not null or \"limit\" = 5", "FTTF"),
        // columns with columns
        ("int < limit", "TTF-"),
        ("tiny = int", "FTF-"),
        ("big >= tiny", "TTT-"),
        ("price < int", "FTT-"),
        ("float < int", "FTF-"),
        ("single < float", "TTT-"),
        ("text = dict", "TTT-"),
        ("view = large", "TTT-"),
        ("bytes <= fixed", "TTT-"),
        ("at_ms = at_us", "TTT-"),
        ("at_s < at_ns", "FFF-"),
        ("at_s <> at_s", "FFF-"),
        ("day > day64", "FTT-"),
        ("time_ms = time_us", "TTF-"),
        ("ok = ok", "TTT-"),
        ("nothing = int", "----"),
        // white space, comments
        ("  int\n  >\t2.5 -- why\n", "FTT-"),
    ];
    let table = table();
    for (text, expected) in cases {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(mask(&filter, &table), expected, "{text}");
        assert_eq!(Filter::parse(&filter.to_string()).unwrap(), filter, "{text}");
        let negated = mask(&!filter, &table);
        let opposite: String = expected
            .chars()
            .map(|c| match c {
                'T' => 'F',
                'F' => 'T',
                other => other,
            })
            .collect();
        assert_eq!(negated, opposite, "NOT {text}");
    }
}

#[test]
fn builders_equal_texts() {
    let moment: DateTime<Utc> = "2026-01-01T12:00:00.25Z".parse().unwrap();
    let cases = [
        (col("x").lt(3), "x < 3"),
        (col("x").le(3u64), "x <= 3"),
        (col("x").gt(2.50), "x > 2.5"),
        (col("x").ge(0.1f32), "x >= 0.1"),
        (col("x").eq(-1e-40), "x = -1e-40"),
        (col("x").eq(f64::INFINITY), "x = FLOAT 'inf'"),
        (col("x").ne(i128::MIN), "x <> -170141183460469231731687303715884105728"),
        (col("x").eq("it's"), "x = 'it''s'"),
        (col("x").eq(String::from("a")), "x = 'a'"),
        (col("x").eq(true), "x = TRUE"),
        (col("x").eq(None::<i64>), "x IS NULL"),
        (col("x").ne(None::<i64>), "x IS NOT NULL"),
        (col("x").lt(None::<i64>), "x < NULL"),
        (col("x").eq(Some(5)), "x = 5"),
        (col("x").lt(moment), "x < TIMESTAMP '2026-01-01T12:00:00.250Z'"),
        (col("x").eq(moment.date_naive()), "x = DATE '2026-01-01'"),
        (col("x").eq(moment.time()), "x = TIME '12:00:00.250'"),
        (col("x").eq(vec![0u8, 255]), "x = x'00ff'"),
        (col("a.b").lt(col("c")), "a.b < c"),
        (col("in").eq(1), "\"in\" = 1"),
        (col("select").is_true() & col("date").eq(1), "select AND date = 1"),
        (col("a b").eq(1), "\"a b\" = 1"),
        (col("a..b").eq(1), "\"a..b\" = 1"),
        (col("").eq(1), "\"\" = 1"),
        (col("x").is_in([1, 2]), "x IN (1, 2)"),
        (col("x").is_in([None, Some("a")]), "x IN (NULL, 'a')"),
        (col("x").not_in(["a"]), "x NOT IN ('a')"),
        (!col("x").is_null(), "x IS NOT NULL"),
        (!col("x").is_true(), "NOT x"),
        (!col("x").eq(1), "NOT (x = 1)"),
        (!!col("x").eq(1), "x = 1"),
        (col("a").is_true() & col("b").is_true() & col("c").is_true(), "a AND b AND c"),
        (col("a").is_true() & (col("b").is_true() | col("c").is_true()), "a AND (b OR c)"),
        (col("a").is_true() & col("b").is_true() | col("c").is_true(), "(a AND b) OR c"),
        (!(col("a").is_true() & col("b").is_true()), "NOT (a AND b)"),
        (Filter::all([]), "TRUE"),
        (Filter::all([col("a").is_true()]), "a"),
        (Filter::all([col("a").is_true(), col("b").gt(1)]), "a AND b > 1"),
    ];
    for (filter, text) in cases {
        assert_eq!(filter.to_string(), text);
        assert_eq!(text.parse::<Filter>().unwrap(), filter, "{text}");
    }
    assert_eq!("a AND (b AND c)".into_filter().unwrap().to_string(), "a AND b AND c");
}

#[test]
fn columns_and_renames() {
    let filter = Filter::parse("b = 1 AND (a.x > 2 OR NOT b IN (1)) AND c < \"d.e\" AND NOT f IS NULL AND g").unwrap();
    assert_eq!(filter.columns().into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d.e", "f", "g"]);
    let renames = BTreeMap::from([("a", "A"), ("d.e", "d"), ("g", "g.h")]);
    let renamed = filter.rename(&|name| renames.get(name).map(|name| (*name).to_owned()));
    assert_eq!(renamed.to_string(), "b = 1 AND (A.x > 2 OR b NOT IN (1)) AND c < d AND f IS NOT NULL AND \"g.h\"");
    let back = BTreeMap::from([("g.h", "x")]);
    let back = |name: &str| back.get(name).map(|name| (*name).to_owned());
    assert_eq!(col("g.h").is_true().rename(&back), col("x").is_true());
    let bound =
        Filter::parse("meta.size = 1 AND int < limit AND meta.kind = 1").unwrap().bind(&table().schema()).unwrap();
    assert_eq!(bound.columns().into_iter().collect::<Vec<_>>(), ["int", "limit", "meta", "meta.kind"]);
}

/// Returns the message for a text that does not parse.
fn refusal(text: &str) -> String {
    Filter::parse(text).expect_err(text).to_string()
}

#[test]
fn the_caret_is_under_the_error() {
    let grammar = "a filter has = != < <= > >=, AND, OR, NOT, IN, BETWEEN, IS NULL, parentheses, columns and values";
    let cases = [
        ("", 0, "it is empty; write a condition such as `score > 3`"),
        ("  \n ", 0, "it is empty; write a condition such as `score > 3`"),
        ("score >", 7, "expected a column or a value, but the text ends"),
        ("score > > 3", 8, "expected a column or a value, found `>`; GRAMMAR"),
        ("score == 3", 6, "`==` is not SQL; write `=`"),
        ("(score > 3", 10, "expected `)`, but the text ends"),
        ("score > 3)", 9, "expected AND, OR or the end of the text, found `)`"),
        ("score > 3 ok", 10, "expected AND, OR or the end of the text, found `ok`; GRAMMAR"),
        ("score > 3; DROP TABLE x", 9, "expected AND, OR or the end of the text, found `;`; GRAMMAR"),
        ("name LIKE 'a%'", 5, "expected AND, OR or the end of the text, found `LIKE`; GRAMMAR"),
        ("a = 1 AND lower(name) = 'x'", 10, "`lower(..)`: functions are not supported; GRAMMAR"),
        ("id IN (SELECT id FROM t)", 7, "subqueries are not supported; GRAMMAR"),
        ("id = (SELECT id FROM t)", 6, "subqueries are not supported; GRAMMAR"),
        ("id IN (1, other)", 10, "a list after IN may contain values only"),
        ("id IN 1", 6, "expected a list of values in parentheses, found `1`; GRAMMAR"),
        ("id IN (1,)", 9, "expected a column or a value, found `)`"),
        ("3 IN (1)", 0, "IN needs a column on its left"),
        ("1 = 1", 0, "this compares two values; one side has to be a column"),
        ("a = 1 AND 5", 10, "5 is a value, not a condition; compare a column with it"),
        ("'x'", 0, "'x' is a value, not a condition; compare a column with it"),
        ("(a AND b) = TRUE", 0, "a condition cannot be compared; expected a column or a value"),
        ("(a = 1) IS NULL", 0, "IS NULL needs a column on its left"),
        ("a IS 3", 5, "expected NULL or NOT NULL, found `3`; GRAMMAR"),
        ("a IS NOT TRUE", 9, "expected NULL, found `TRUE`; GRAMMAR"),
        ("a BETWEEN 1", 11, "expected AND and the upper end, but the text ends"),
        ("a < b < c", 6, "expected AND, OR or the end of the text, found `<`; GRAMMAR"),
        ("a + 1 > 2", 2, "expected AND, OR or the end of the text, found `+`; GRAMMAR"),
        ("a = -b", 5, "expected a number after `-`, found `b`; GRAMMAR"),
        ("a = AND", 4, "expected a column or a value, found `AND`; GRAMMAR"),
        ("a = 0xff", 4, "expected a column or a value, found `0xff`; GRAMMAR"),
        ("a = x'0'", 4, "x'..' needs pairs of hex digits"),
        ("a. = 1", 3, "expected the name of a struct's member after `.`, found `=`; GRAMMAR"),
        ("a = DATE '2026-02-30'", 9, "DATE needs a text such as '2026-01-31'"),
        ("a = 123456789012345678901234567890123456789012", 4, "a number has at most 38 digits"),
        ("a = 1e99999999999", 4, "the exponent is too large"),
        ("name = 'zoë' AND name = 'open", 24, "unterminated string literal"),
        ("größe = 'ü' !", 12, "expected AND, OR or the end of the text, found `!`; GRAMMAR"),
    ];
    for (text, column, message) in cases {
        let message = message.replace("GRAMMAR", grammar);
        let shown = text.replace(['\n', '\t'], " ");
        let caret = " ".repeat(column);
        let shown = shown.trim_end();
        assert_eq!(refusal(text), format!("the filter does not parse: {message}\n  {shown}\n  {caret}^"), "{text}");
    }
    let text = "score > 3\n\tAND name ~ 'x'\n";
    assert_eq!(
        refusal(text).lines().skip(1).collect::<Vec<_>>(),
        ["  score > 3  AND name ~ 'x'", "                      ^"]
    );
}

#[test]
fn deep_and_long_texts() {
    let nested = |depth: usize| format!("{}a = 1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(Filter::parse(&nested(100)).unwrap(), col("a").eq(1));
    assert!(refusal(&nested(101)).contains("nested deeper than 100"));
    assert!(refusal(&"(".repeat(100_000)).contains("nested deeper than 100"));
    assert_eq!(Filter::parse(&format!("{} a", "NOT ".repeat(100_000))).unwrap(), col("a").is_true());
    for word in [" AND ", " OR "] {
        let text = vec!["a = 1"; 50_000].join(word);
        let filter = Filter::parse(&text).unwrap();
        assert_eq!(filter.to_string(), text);
        assert!(Filter::parse(&format!("{text}{word}")).is_err());
    }
}

#[test]
fn errors_of_binding_say_what_to_do() {
    let cases = [
        (
            "imt = 3",
            "the filter `imt = 3` names the column `imt`, which does not exist; did you mean `int`?; columns: int, ",
        ),
        (
            "meta.sise = 3",
            "names the column `meta.sise`, which does not exist; did you mean `meta.size`?; columns: meta.size, meta.kind",
        ),
        ("int.x = 3", "names the column `int.x`, which does not exist"),
        ("\"meta.size\" = 3", "names the column `meta.size`, which does not exist"),
        (
            "int = 'a'",
            "the filter `int = 'a'` cannot be evaluated: `int` is Int64 and cannot be compared with 'a'; compare it with a number such as 3 or 2.5",
        ),
        ("int = '3'", "cannot be compared with '3'"),
        ("text = 3", "`text` is Utf8 and cannot be compared with 3; compare it with a text such as 'abc'"),
        ("dict = 3", "`dict` is Utf8 and cannot be compared with 3"),
        ("ok = 1", "`ok` is Boolean and cannot be compared with 1; compare it with TRUE or FALSE"),
        ("ok IN (TRUE, 'x')", "`ok` is Boolean and cannot be compared with 'x'"),
        ("float = TRUE", "compare it with a number"),
        ("bytes = 'a'", "compare it with bytes such as x'00ff'"),
        ("day = 3", "compare it with a date such as '2026-01-31'"),
        ("day = '2026-13-01'", "cannot be compared with '2026-13-01'; compare it with a date"),
        ("at_us = 'yesterday'", "compare it with a moment such as '2026-01-31' or '2026-01-31 12:30:00'"),
        ("at_us = '2026-01-01 00:00:00.1234567891'", "compare it with a moment"),
        ("time_us = '2026-01-01'", "compare it with a time such as '12:30:00'"),
        ("tags = 3", "`tags` is List(Int32), which only IS NULL and IS NOT NULL can test"),
        (
            "int",
            "`int` is Int64, not a condition of its own; compare it with a number such as 3 or 2.5, or use IS NULL",
        ),
        ("int = text", "`int` is Int64 and `text` is Utf8; only columns of one kind can be compared"),
        ("at_s = at_us", "only columns of one kind can be compared"),
        ("a = 1 AND b = 2", "the filter `a = 1 AND b = 2` names the column `a`"),
    ];
    for (text, part) in cases {
        let error = Filter::parse(text).unwrap().bind(&table().schema()).expect_err(text);
        assert!(matches!(error, Error::FilterColumn { .. } | Error::FilterType { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{text}\n{error}\n{part}");
    }
}

#[test]
fn batches_may_have_related_types() {
    let bound = Filter::parse("name IN ('a', 'b', 'c', 'd') AND name > 'a' AND at > '2026-01-01' AND n = 3").unwrap();
    let schema = Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("n", DataType::Int64, true),
    ]);
    let predicate = bound.bind(&schema).unwrap();
    let moment = i64::from(NEW_YEAR) * DAY + 1;
    let names: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec!["b", "a"])),
        Arc::new(LargeStringArray::from(vec!["b", "a"])),
        Arc::new(["b", "a"].into_iter().collect::<DictionaryArray<Int32Type>>()),
        Arc::new(["b", "a"].into_iter().collect::<RunArray<Int32Type>>()),
    ];
    for name in names {
        let batch = batch(vec![
            ("n", Arc::new(Int32Array::from(vec![3, 3]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![moment; 2]).with_timezone("+00:00"))),
            ("name", name),
        ]);
        assert_eq!(predicate.evaluate(&batch).unwrap(), BooleanArray::from(vec![true, false]));
        assert_eq!(predicate.evaluate(&batch.slice(1, 1)).unwrap(), BooleanArray::from(vec![false]));
        assert_eq!(predicate.evaluate(&batch.slice(0, 0)).unwrap().len(), 0);
    }
    let lacking = batch(vec![("nam", Arc::new(StringArray::from(vec!["b"])))]);
    let error = predicate.evaluate(&lacking).unwrap_err();
    assert!(
        error.to_string().contains("names the column `name`, which does not exist; did you mean `nam`?"),
        "{error}"
    );
}

#[test]
fn predicates_are_combined() {
    let schema = table().schema();
    let bind = |text: &str| Filter::parse(text).unwrap().bind(&schema).unwrap();
    assert_eq!(bind("ok").and(bind("int = 3")), bind("ok AND int = 3"));
    assert_eq!(bind("ok AND int = 3").and(bind("tiny = 3")), bind("ok AND int = 3 AND tiny = 3"));
    assert_eq!(bind("ok").and(bind("int = 3 AND tiny = 3")), bind("ok AND int = 3 AND tiny = 3"));
    assert_eq!(bind("TRUE").and(bind("ok")), bind("ok"));
    let Predicate::Compare { column, op, value } = bind("at_s > '2026-01-01 12:00:00.5'") else { panic!() };
    assert_eq!((column.path, op), (vec!["at_s".to_owned()], CompareOp::Gt));
    assert_eq!(value.to_datetime(), Some("2026-01-01T12:00:00Z".parse().unwrap()));
    assert_eq!(value.to_string(), "2026-01-01 12:00:00");
}

/// A dialect with numbered parameters, like that of PostgreSQL.
struct Numbered(Vec<String>);

impl SqlDialect for Numbered {
    fn identifier(&self, path: &[String], _: &DataType) -> metaxy_core::Result<String> {
        Ok(format!("\"{}\"", path.join("\".\"")))
    }

    fn literal(&mut self, scalar: &Scalar, _: &DataType) -> metaxy_core::Result<String> {
        self.0.push(scalar.to_string());
        Ok(format!("${}", self.0.len()))
    }
}

#[test]
fn rendering_for_databases() {
    let cases = [
        ("int > 3.5 AND NOT ok", "((int > 3) AND (NOT (ok)))"),
        ("int = 3.5 OR text = 'it''s'", "((CASE WHEN int IS NOT NULL THEN (1 = 0) END) OR (text = 'it''s'))"),
        (
            "NOT (ok OR int IS NULL) AND meta.size IS NOT NULL",
            "((NOT ((ok) OR (int IS NULL))) AND (meta.size IS NOT NULL))",
        ),
        ("int NOT IN (1, NULL, 2.5)", "(NOT (int IN (1, NULL)))"),
        ("TRUE", "(1 = 1)"),
        ("FALSE", "(1 = 0)"),
        ("NULL", "(1 = NULL)"),
        ("int < limit", "(int < limit)"),
        ("price <= 1.5 AND float > 1e300", "((price <= 1.50) AND (float > 1e300))"),
        ("float < FLOAT 'nan'", "(float < FLOAT 'NaN')"),
        (
            "day = '2026-01-01' AND at_us > '2026-01-01'",
            "((day = DATE '2026-01-01') AND (at_us > TIMESTAMP '2026-01-01 00:00:00Z'))",
        ),
        ("time_us < '12:00:00.5' AND bytes = x'00ff'", "((time_us < TIME '12:00:00.500') AND (bytes = x'00ff'))"),
    ];
    for (text, sql) in cases {
        let predicate = Filter::parse(text).unwrap().bind(&table().schema()).unwrap();
        assert_eq!(to_sql(&predicate, &mut StandardSql).unwrap(), sql);
        assert_eq!(predicate.to_string(), sql);
    }
    let mut dialect = Numbered(Vec::new());
    let predicate = Filter::parse("int IN (1, 2) AND meta.size != -0.5 AND text <> 'a'").unwrap();
    let sql = to_sql(&predicate.bind(&table().schema()).unwrap(), &mut dialect).unwrap();
    assert_eq!(
        sql,
        "((\"int\" IN ($1, $2)) AND (CASE WHEN \"meta\".\"size\" IS NOT NULL THEN (1 = 1) END) AND (\"text\" <> $3))"
    );
    assert_eq!(dialect.0, ["1", "2", "a"]);
}

/// Recorded results of the reference, from the scenarios filters_0 to filters_2. Rows are id, score, ok, name, f (`-`
/// is null); then filters and the ids of the rows that pass.
const RECORDED: [(&str, &str); 3] = [
    (
        "\
         s0000 32 true p/0 0.344;\
         s0001 31 false p/1 -0.107;\
         s0002 31 true p/2 -0.698;\
         s0003 - true p/3 -0.497;\
         s0004 -2 false p/4 -0.831;\
         s0005 1 true p/5 0.436;\
         s0006 40 false p/6 -0.379;\
         s0007 42 false p/7 0.852;\
         s0008 4 false p/8 0.941;\
         s0009 13 - p/9 0.394;\
         s0010 47 true p/10 -0.966;\
         s0011 8 false p/11 -0.839;\
         s0012 13 false p/12 -0.093;\
         s0013 28 - p/13 0.812;\
         s0014 22 true p/14 0.587;\
         s0015 7 true p/15 -0.09;\
        ",
        "\
         score > 3 => s0000 s0001 s0002 s0006 s0007 s0008 s0009 s0010 s0011 s0012 s0013 s0014 s0015;\
         score <= 3 AND ok => s0005;\
         NOT ok => s0001 s0004 s0006 s0007 s0008 s0011 s0012;\
         name IS NULL => ;\
         name IS NOT NULL AND f < 0.25 => s0001 s0002 s0003 s0004 s0006 s0010 s0011 s0012 s0015;\
         name = 'p/5' OR name = 'p/6' => s0005 s0006;\
         id IN ('s0001','s0002') => s0001 s0002;\
         id NOT IN ('s0001','s0002') => s0000 s0003 s0004 s0005 s0006 s0007 s0008 s0009 s0010 s0011 s0012 s0013 s0014 s0015;\
         score != -1 => s0000 s0001 s0002 s0004 s0005 s0006 s0007 s0008 s0009 s0010 s0011 s0012 s0013 s0014 s0015;\
         f >= -0.5 AND (score = 7 OR ok = FALSE) => s0001 s0006 s0007 s0008 s0012 s0015;\
         name = NULL => ;\
         score = -3 => ;\
         score > 3 && ok = TRUE => s0000 s0002 s0010 s0014 s0015;\
        ",
    ),
    (
        "\
         s0000 3 false p/0 0.8;\
         s0001 18 true p/1 0.51;\
         s0002 42 - p/2 0.628;\
         s0003 - false p/3 0.386;\
         s0004 2 true p/4 0.85;\
         s0005 7 true p/5 0.554;\
         s0006 24 false p/6 0.096;\
         s0007 5 - p/7 -0.369;\
         s0008 24 true p/8 -0.698;\
         s0009 2 false p/9 0.997;\
         s0010 25 true p/10 -0.787;\
         s0011 -3 false p/11 -0.05;\
         s0012 14 - p/12 -0.757;\
         s0013 32 true p/13 -0.088;\
         s0014 23 true p/14 -0.862;\
         s0015 7 false - -0.85;\
        ",
        "\
         score > 3 => s0001 s0002 s0005 s0006 s0007 s0008 s0010 s0012 s0013 s0014 s0015;\
         score <= 3 AND ok => s0004;\
         NOT ok => s0000 s0003 s0006 s0009 s0011 s0015;\
         name IS NULL => s0015;\
         name IS NOT NULL AND f < 0.25 => s0006 s0007 s0008 s0010 s0011 s0012 s0013 s0014;\
         name = 'p/5' OR name = 'p/6' => s0005 s0006;\
         id IN ('s0001','s0002') => s0001 s0002;\
         id NOT IN ('s0001','s0002') => s0000 s0003 s0004 s0005 s0006 s0007 s0008 s0009 s0010 s0011 s0012 s0013 s0014 s0015;\
         score != -1 => s0000 s0001 s0002 s0004 s0005 s0006 s0007 s0008 s0009 s0010 s0011 s0012 s0013 s0014 s0015;\
         f >= -0.5 AND (score = 7 OR ok = FALSE) => s0000 s0003 s0005 s0006 s0009 s0011;\
         name = NULL => s0015;\
         score = -3 => s0011;\
         score > 3 && ok = TRUE => s0001 s0005 s0008 s0010 s0013 s0014;\
        ",
    ),
    (
        "\
         s0000 46 false - -;\
         s0001 30 true - 0.813;\
         s0002 2 true p/2 -0.824;\
         s0003 9 true - -0.16;\
         s0004 1 false p/4 -0.129;\
         s0005 48 - p/5 -0.664;\
         s0006 50 false p/6 0.67;\
         s0007 -5 true p/7 0.643;\
         s0008 44 false p/8 -0.143;\
         s0009 - - - 0.432;\
         s0010 28 true p/10 -0.335;\
         s0011 43 false p/11 0.703;\
         s0012 - true p/12 -0.349;\
         s0013 - false p/13 -0.92;\
         s0014 34 false - -0.046;\
         s0015 34 - p/15 0.255;\
        ",
        "\
         score > 3 => s0000 s0001 s0003 s0005 s0006 s0008 s0010 s0011 s0014 s0015;\
         score <= 3 AND ok => s0002 s0007;\
         NOT ok => s0000 s0004 s0006 s0008 s0011 s0013 s0014;\
         name IS NULL => s0000 s0001 s0003 s0009 s0014;\
         name IS NOT NULL AND f < 0.25 => s0002 s0004 s0005 s0008 s0010 s0012 s0013;\
         name = 'p/5' OR name = 'p/6' => s0005 s0006;\
         id IN ('s0001','s0002') => s0001 s0002;\
         id NOT IN ('s0001','s0002') => s0000 s0003 s0004 s0005 s0006 s0007 s0008 s0009 s0010 s0011 s0012 s0013 s0014 s0015;\
         score != -1 => s0000 s0001 s0002 s0003 s0004 s0005 s0006 s0007 s0008 s0010 s0011 s0014 s0015;\
         f >= -0.5 AND (score = 7 OR ok = FALSE) => s0004 s0006 s0008 s0011 s0014;\
         name = NULL => s0000 s0001 s0003 s0009 s0014;\
         score = -3 => ;\
         score > 3 && ok = TRUE => s0001 s0003 s0010;\
        ",
    ),
];

fn recorded_batch(rows: &str) -> RecordBatch {
    let rows: Vec<Vec<Option<&str>>> = rows
        .split_terminator(';')
        .map(|row| row.split_whitespace().map(|cell| (cell != "-").then_some(cell)).collect())
        .collect();
    let cells = |column: usize| rows.iter().map(move |row| row[column]);
    batch(vec![
        ("id", Arc::new(cells(0).collect::<StringArray>())),
        ("score", Arc::new(cells(1).map(|cell| cell.map(|cell| cell.parse::<i64>().unwrap())).collect::<Int64Array>())),
        ("ok", Arc::new(cells(2).map(|cell| cell.map(|cell| cell == "true")).collect::<BooleanArray>())),
        ("name", Arc::new(cells(3).collect::<StringArray>())),
        ("f", Arc::new(cells(4).map(|cell| cell.map(|cell| cell.parse::<f64>().unwrap())).collect::<Float64Array>())),
    ])
}

#[test]
fn the_same_rows_pass_as_in_the_reference() {
    for (rows, reads) in RECORDED {
        let batch = recorded_batch(rows);
        let ids = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap();
        for read in reads.split_terminator(';') {
            let (filters, expected) = read.split_once("=>").unwrap();
            let filter = Filter::all(filters.split("&&").map(|text| text.into_filter().unwrap()));
            let mask = filter.bind(&batch.schema()).unwrap().evaluate(&batch).unwrap();
            let passed: Vec<&str> =
                mask.iter().zip(ids).filter(|(pass, _)| *pass == Some(true)).filter_map(|(_, id)| id).collect();
            assert_eq!(passed, expected.split_whitespace().collect::<Vec<_>>(), "{filters}");
        }
    }
}

// ---- properties ----

#[derive(Clone, Debug)]
struct Row {
    i: Option<i64>,
    f: Option<f64>,
    s: Option<String>,
    b: Option<bool>,
}

/// A condition of the test, for its own evaluator.
#[derive(Clone, Debug)]
enum Condition {
    Number(&'static str, CompareOp, f64),
    Text(CompareOp, String),
    Bool(CompareOp, bool),
    Columns(CompareOp),
    InNumbers(&'static str, Vec<Option<f64>>),
    InTexts(Vec<Option<String>>),
    Bare,
    Null(&'static str),
    Constant(Option<bool>),
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
}

fn compare(column: Column, op: CompareOp, literal: impl Into<Literal>) -> Filter {
    let literal: Literal = literal.into();
    match op {
        CompareOp::Eq => column.eq(literal),
        CompareOp::NotEq => column.ne(literal),
        CompareOp::Lt => column.lt(literal),
        CompareOp::LtEq => column.le(literal),
        CompareOp::Gt => column.gt(literal),
        CompareOp::GtEq => column.ge(literal),
    }
}

fn ordered<T: PartialOrd>(op: CompareOp, left: T, right: T) -> bool {
    match op {
        CompareOp::Eq => left == right,
        CompareOp::NotEq => left != right,
        CompareOp::Lt => left < right,
        CompareOp::LtEq => left <= right,
        CompareOp::Gt => left > right,
        CompareOp::GtEq => left >= right,
    }
}

impl Condition {
    fn filter(&self) -> Filter {
        match self {
            Self::Number(name, op, value) => compare(col(name), *op, *value),
            Self::Text(op, value) => compare(col("s"), *op, value.as_str()),
            Self::Bool(op, value) => compare(col("b"), *op, *value),
            Self::Columns(op) => match op {
                CompareOp::Eq => col("i").eq(col("f")),
                CompareOp::NotEq => col("i").ne(col("f")),
                CompareOp::Lt => col("i").lt(col("f")),
                CompareOp::LtEq => col("i").le(col("f")),
                CompareOp::Gt => col("i").gt(col("f")),
                CompareOp::GtEq => col("i").ge(col("f")),
            },
            Self::InNumbers(name, values) => col(name).is_in(values.iter().copied()),
            Self::InTexts(values) => col("s").is_in(values.iter().map(|value| value.as_deref())),
            Self::Bare => col("b").is_true(),
            Self::Null(name) => col(name).is_null(),
            Self::Constant(value) => Filter::parse(match value {
                Some(true) => "TRUE",
                Some(false) => "FALSE",
                None => "NULL",
            })
            .unwrap(),
            Self::And(parts) => Filter::all(parts.iter().map(Self::filter)),
            Self::Or(parts) => parts.iter().map(Self::filter).reduce(|a, b| a | b).unwrap(),
            Self::Not(inner) => !inner.filter(),
        }
    }

    fn naive(&self, row: &Row) -> Option<bool> {
        let number = |name: &str| if name == "i" { row.i.map(|i| i as f64) } else { row.f };
        match self {
            Self::Number(name, op, value) => number(name).map(|left| ordered(*op, left, *value)),
            Self::Text(op, value) => row.s.as_ref().map(|left| ordered(*op, left.as_bytes(), value.as_bytes())),
            Self::Bool(op, value) => row.b.map(|left| ordered(*op, left, *value)),
            Self::Columns(op) => Some(ordered(*op, number("i")?, number("f")?)),
            Self::InNumbers(name, values) => member(number(name), values),
            Self::InTexts(values) => member(row.s.clone(), values),
            Self::Bare => row.b,
            Self::Null("i") => Some(row.i.is_none()),
            Self::Null("f") => Some(row.f.is_none()),
            Self::Null(_) => Some(row.s.is_none()),
            Self::Constant(value) => *value,
            Self::And(parts) => settle(parts.iter().map(|part| part.naive(row)), false),
            Self::Or(parts) => settle(parts.iter().map(|part| part.naive(row)), true),
            Self::Not(inner) => inner.naive(row).map(|value| !value),
        }
    }
}

fn member<T: PartialEq>(value: Option<T>, list: &[Option<T>]) -> Option<bool> {
    if list.is_empty() {
        return Some(false);
    }
    let value = Some(value?);
    match list.contains(&value) {
        true => Some(true),
        false if list.iter().any(Option::is_none) => None,
        false => Some(false),
    }
}

/// Combines by AND (`absorbing` false) or OR (`absorbing` true).
fn settle(parts: impl Iterator<Item = Option<bool>>, absorbing: bool) -> Option<bool> {
    let parts: Vec<_> = parts.collect();
    if parts.contains(&Some(absorbing)) {
        Some(absorbing)
    } else if parts.contains(&None) {
        None
    } else {
        Some(!absorbing)
    }
}

fn operators() -> impl Strategy<Value = CompareOp> {
    prop::sample::select(vec![
        CompareOp::Eq,
        CompareOp::NotEq,
        CompareOp::Lt,
        CompareOp::LtEq,
        CompareOp::Gt,
        CompareOp::GtEq,
    ])
}

fn numbers() -> impl Strategy<Value = f64> {
    prop_oneof![(-6..6i32).prop_map(|half| f64::from(half) / 2.0), prop::sample::select(vec![0.1, -1e30, 1e30, 4e-7])]
}

fn texts() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "b", "ab", "ö", "it's", "\"q\""]).prop_map(str::to_owned)
}

fn conditions() -> impl Strategy<Value = Condition> {
    let names = || prop::sample::select(vec!["i", "f"]);
    let leaf = prop_oneof![
        (names(), operators(), numbers()).prop_map(|(name, op, value)| Condition::Number(name, op, value)),
        (operators(), texts()).prop_map(|(op, value)| Condition::Text(op, value)),
        (operators(), any::<bool>()).prop_map(|(op, value)| Condition::Bool(op, value)),
        operators().prop_map(Condition::Columns),
        (names(), prop::collection::vec(prop::option::weighted(0.9, numbers()), 0..7))
            .prop_map(|(name, values)| Condition::InNumbers(name, values)),
        prop::collection::vec(prop::option::weighted(0.9, texts()), 0..7).prop_map(Condition::InTexts),
        Just(Condition::Bare),
        prop::sample::select(vec!["i", "f", "s"]).prop_map(Condition::Null),
        any::<Option<bool>>().prop_map(Condition::Constant),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Condition::And),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Condition::Or),
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
        ]
    })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        prop::option::weighted(0.8, -4..4i64),
        prop::option::weighted(0.8, numbers()),
        prop::option::weighted(0.8, texts()),
        any::<Option<bool>>(),
    );
    prop::collection::vec(row.prop_map(|(i, f, s, b)| Row { i, f, s, b }), 0..40)
}

fn rows_batch(rows: &[Row]) -> RecordBatch {
    batch(vec![
        ("i", Arc::new(rows.iter().map(|row| row.i).collect::<Int64Array>())),
        ("f", Arc::new(rows.iter().map(|row| row.f).collect::<Float64Array>())),
        ("s", Arc::new(rows.iter().map(|row| row.s.as_deref()).collect::<StringArray>())),
        ("b", Arc::new(rows.iter().map(|row| row.b).collect::<BooleanArray>())),
    ])
}

fn literals() -> impl Strategy<Value = Literal> {
    let moments = (-62_135_596_800i64..253_402_300_800, 0..1_000_000_000u32)
        .prop_map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos).unwrap());
    prop_oneof![
        Just(Literal::Null),
        any::<bool>().prop_map(Literal::from),
        any::<i64>().prop_map(Literal::from),
        any::<u64>().prop_map(Literal::from),
        prop::num::f64::NORMAL.prop_map(Literal::from),
        prop::num::f64::SUBNORMAL.prop_map(Literal::from),
        prop::sample::select(vec![f64::NEG_INFINITY, f64::INFINITY, f64::NAN, -0.0]).prop_map(Literal::from),
        ".*".prop_map(Literal::from),
        any::<Vec<u8>>().prop_map(Literal::from),
        moments.clone().prop_map(Literal::from),
        moments.clone().prop_map(|moment| Literal::from(moment.date_naive())),
        moments.prop_map(|moment| Literal::from(moment.time())),
        Just(Literal::from(NaiveDate::MAX)),
        Just(Literal::from(NaiveTime::MIN)),
    ]
}

proptest! {
    #[test]
    fn evaluation_equals_that_of_single_rows(condition in conditions(), rows in rows()) {
        let batch = rows_batch(&rows);
        let filter = condition.filter();
        let mask = filter.bind(&batch.schema()).unwrap().evaluate(&batch).unwrap();
        let expected: Vec<Option<bool>> = rows.iter().map(|row| condition.naive(row)).collect();
        prop_assert_eq!(mask.iter().collect::<Vec<_>>(), expected, "{}", filter);
    }

    #[test]
    fn texts_are_parsed_back(condition in conditions()) {
        let filter = condition.filter();
        prop_assert_eq!(Filter::parse(&filter.to_string()).unwrap(), filter);
    }

    #[test]
    fn values_and_names_are_parsed_back(name in ".*", literal in literals(), more in prop::collection::vec(literals(), 0..5)) {
        let filter = compare(col(&name), CompareOp::LtEq, literal.clone()) | !col(&name).is_in(more) & col(name).eq(literal);
        prop_assert_eq!(Filter::parse(&filter.to_string()).unwrap(), filter);
    }

    #[test]
    fn floats_keep_their_value(value in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO) {
        let batch = batch(vec![("f", Arc::new(Float64Array::from(vec![value])))]);
        prop_assert_eq!(mask(&col("f").eq(value), &batch), "T");
    }

    #[test]
    fn no_text_panics(text in ".*") {
        let _ = Filter::parse(&text).map(|filter| filter.bind(&table().schema()));
    }

    #[test]
    fn no_likely_text_panics(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "int", "text", "at_us", "meta.size", "\"", "'", "x'", "''", "'a'", "3", "-", "1e5", ".", "..", "5.", "(", ")",
                ",", "=", "<", "!=", "AND", "OR", "NOT", "IN", "IS", "NULL", "TRUE", "BETWEEN", "DATE", "TIMESTAMP",
                "'2026-01-01'", "\n", "--", "/*", "*/", "ë", "e'", "U&'", "$$", "0x", ";", "SELECT", "\\", "`",
            ]),
            0..14,
        ),
        glue in prop::sample::select(vec!["", " "]),
    ) {
        let text = words.join(glue);
        match Filter::parse(&text) {
            Ok(filter) => {
                prop_assert_eq!(Filter::parse(&filter.to_string()).unwrap(), filter.clone());
                let bound = filter.bind(&table().schema());
                let _ = bound.map(|predicate| predicate.evaluate(&table()).unwrap());
            }
            Err(Error::FilterSyntax { column, .. }) => prop_assert!(column <= text.chars().count()),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

/// Alternating levels of conditions, built through the API: none of them may overflow the stack.
#[test]
fn filters_of_many_levels_are_refused() {
    let deep = |levels: usize| {
        (0..levels).fold(col("a").eq(0), |filter, level| match level % 3 {
            0 => filter & col("a").gt(level as i64),
            1 => filter | col("b").is_null(),
            _ => !filter,
        })
    };
    let schema = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]);
    deep(120).bind(&schema).expect("80 levels are taken");
    assert_eq!(Filter::parse(&deep(120).to_string()).expect("the text parses"), deep(120));
    for levels in [2_000, 100_000] {
        let filter = deep(levels);
        let (text, copy) = (format!("{filter} {filter:?}"), filter.clone());
        assert!(text.len() < 10_000 && copy == filter);
        let refused = [filter.bind(&schema).map(drop), (!copy & col("a").eq(1)).bind(&schema).map(drop)];
        assert!(refused.iter().all(|answer| matches!(answer, Err(Error::LimitExceeded { .. }))), "{refused:?}");
    }
}

/// A position far to the right must not make the message panic.
#[test]
fn an_error_in_a_long_text_can_be_shown() {
    let text = format!("a = '{}' AND", "x".repeat(70_000));
    let error = Filter::parse(&text).expect_err("it ends too early");
    assert!(error.to_string().len() > 140_000);
}
