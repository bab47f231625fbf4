//! Filters, definitions and configurations made of pieces of valid ones: each is accepted or refused by a typed error,
//! none panics, and accepted texts have the intended meaning.
//!
//! `METAXY_FUZZ_ROUNDS=140000 cargo test -p metaxy-core --release --test hostile_texts` runs longer.

use std::sync::Arc;

use fastrand::Rng;
use metaxy_core::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use metaxy_core::filter::{Filter, StandardSql, to_sql};
use metaxy_core::{Error, FeatureGraph, FeatureSpec, MetaxyConfig};

const FILTERS: [&str; 12] = [
    "id = 7 AND name != 'it''s'",
    "NOT (score >= 0.5 OR flag) AND id IN (1, -2, 3e2)",
    "name NOT IN ('a', NULL, 'ü') OR name IS NOT NULL",
    "\"strange \"\" name\" = TRUE",
    "box.inner.x BETWEEN 1 AND 9223372036854775807",
    "at > TIMESTAMP '2024-02-29 12:00:00.123456+01:00'",
    "day = DATE '1970-01-01' AND bytes = x'00ff'",
    "flag = NULL AND id != NULL",
    "1 < id AND id < 18446744073709551615.5",
    "((((((id = 1))))))",
    "name = 'a' AND name = 'b' OR name = 'c' AND NOT NOT flag",
    "id <> -0.0 AND TRUE AND FALSE AND NULL",
];

const SPECS: [&str; 4] = [
    r#"{"key": "raw/video", "id_columns": ["id"], "fields": ["audio", {"key": "frames", "code_version": "2"}]}"#,
    r#"{"key": ["a", "b"], "id_columns": ["id"], "deps": ["raw/video"], "metadata": {"é": [1, 2.5, null]}}"#,
    r#"{"key": "c", "id_columns": ["id"], "deps": [{"feature": "raw/video", "select": ["x"], "rename": {"x": "y"},
        "lineage": {"relationship": {"type": "N:1", "on": ["id"]}}, "sql_filters": ["x > 3"], "optional": false}]}"#,
    r#"{"key": "d", "id_columns": ["id", "part"], "deps": [{"feature": "raw/video",
        "lineage": {"relationship": {"type": "1:N", "on": ["id"]}}}],
        "fields": [{"key": "t/x", "deps": [{"feature": "raw/video", "fields": ["audio"]}]}]}"#,
];

const CONFIGS: [&str; 3] = [
    "store = \"dev\"\n[stores.dev]\ntype = \"sqlite\"\ndatabase = \"${HOME:-/x}/a.db\"\nfallback_stores = [\"prod\"]\n",
    "[stores.prod]\ntype = \"delta\"\n[stores.prod.config]\nroot_path = 's3://b/p?x#y'\nstorage_options = { k = \"v\" }\n",
    "hash_truncation_length = 12\nproject = \"p\"\nextra_features = [{ project = \"q\" }]\n[ext.x]\ny = 1979-05-27T07:32:00Z\n",
];

/// Pieces that are difficult for parsers: ends, quotes, nesting, extreme numbers, other alphabets.
const PIECES: [&str; 24] = [
    "",
    "(",
    ")",
    "'",
    "\"",
    "\\",
    "\0",
    "\n",
    "NOT ",
    " AND ",
    " OR ",
    ".",
    "..",
    "-",
    "9999999999999999999999",
    "1e400",
    "NaN",
    "🎬",
    "ß\u{301}",
    "{",
    "}",
    "[",
    "]",
    "${",
];

fn rounds() -> usize {
    std::env::var("METAXY_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_000)
}

/// Returns a text of the corpus with a few changes.
fn mutated(corpus: &[&str], random: &mut Rng) -> String {
    let any = |random: &mut Rng| corpus[random.usize(0..corpus.len())];
    let mut text: Vec<char> = any(random).chars().collect();
    for _ in 0..random.usize(1..5) {
        let from = random.usize(0..=text.len());
        let to = random.usize(from..=text.len().min(from + 12));
        let piece: Vec<char> = match random.u8(0..4) {
            0 => Vec::new(),
            1 => PIECES[random.usize(0..PIECES.len())].chars().collect(),
            2 => text[from..to].repeat(random.usize(1..40)),
            _ => {
                let other: Vec<char> = any(random).chars().collect();
                let start = random.usize(0..=other.len());
                other[start..random.usize(start..=other.len())].to_vec()
            }
        };
        text.splice(from..to, piece);
    }
    text.into_iter().collect()
}

fn rows() -> RecordBatch {
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![Some(7), None, Some(i64::MAX)])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec![Some("it's"), Some(""), None]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("score", Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(0), Some(-1), None]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(i64::MAX), None]).with_timezone("UTC"))),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), Some(&b""[..]), None]))),
    ])
    .unwrap()
}

/// Checks that an error concerns the text itself, and can be displayed.
fn assert_typed(error: &Error, text: &str) {
    assert!(!error.to_string().is_empty() && !matches!(error, Error::Task(_)), "{text}: {error:?}");
}

#[test]
fn filters() {
    let (random, rows, mut taken) = (&mut Rng::with_seed(1), rows(), 0);
    for _ in 0..rounds() {
        let text = mutated(&FILTERS, random);
        let filter = match Filter::parse(&text) {
            Ok(filter) => filter,
            Err(error) => {
                assert_typed(&error, &text);
                continue;
            }
        };
        let shown = filter.to_string();
        assert_eq!(
            Filter::parse(&shown).unwrap_or_else(|error| panic!("{text} -> {shown}: {error}")),
            filter,
            "{text}"
        );
        match filter.bind(&rows.schema()) {
            Ok(predicate) => {
                taken += 1;
                let passes = predicate.evaluate(&rows).unwrap_or_else(|error| panic!("{text}: {error}"));
                assert_eq!(passes.len(), rows.num_rows());
                let _ = to_sql(&predicate, &mut StandardSql).map_err(|error| assert_typed(&error, &text));
            }
            Err(error) => assert_typed(&error, &text),
        }
    }
    assert!(taken > rounds() / 50, "{taken} filters were evaluated: too few to show anything");
}

#[test]
fn definitions() {
    let (random, mut taken) = (&mut Rng::with_seed(2), 0);
    let video = FeatureSpec::from_json(SPECS[0]).unwrap();
    for _ in 0..rounds() {
        let text = mutated(&SPECS, random);
        let spec = match FeatureSpec::from_json(&text) {
            Ok(spec) => spec,
            Err(error) => {
                assert_typed(&error, &text);
                continue;
            }
        };
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(FeatureSpec::from_json(&json).unwrap_or_else(|error| panic!("{json}: {error}")), spec, "{text}");
        match FeatureGraph::new([video.clone(), spec]) {
            Ok(graph) => taken += usize::from(!graph.project_version().is_empty()),
            Err(error) => assert_typed(&error, &text),
        }
    }
    assert!(taken > rounds() / 100, "{taken} definitions were taken: too few to show anything");
}

#[test]
fn configurations() {
    let (random, mut taken) = (&mut Rng::with_seed(3), 0);
    for _ in 0..rounds() {
        let text = mutated(&CONFIGS, random);
        match MetaxyConfig::from_toml_str(&text) {
            Ok(config) => {
                taken += 1;
                let printed = config.to_toml().unwrap_or_else(|error| panic!("{text}: {error}"));
                let _ = (config.check().map_err(|error| assert_typed(&error, &text)), format!("{config:?}"), printed);
            }
            Err(error) => assert_typed(&error, &text),
        }
    }
    assert!(taken > rounds() / 50, "{taken} configurations were taken: too few to show anything");
}
