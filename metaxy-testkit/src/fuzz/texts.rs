//! Texts that users write: filters, definitions, feature files, configurations.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use metaxy_core::filter::{Filter, StandardSql, to_sql};
use metaxy_core::{Error, FeatureFiles, FeatureGraph, FeatureSpec, MetaxyConfig};

use super::assert_typed;

static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![Some(7), None, Some(i64::MAX)])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec![Some("it's"), Some(""), None]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("score", Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(0), Some(-1), None]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(i64::MAX), None]).with_timezone("UTC"))),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), Some(&b""[..]), None]))),
    ])
    .expect("columns of one length")
});

/// Parses a filter, and evaluates it on rows of every type. Returns whether it can be evaluated.
///
/// # Panics
/// If it is displayed as another filter, or an error has no type.
pub fn filter(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let filter = match Filter::parse(text) {
        Ok(filter) => filter,
        Err(error) => return refused(&error),
    };
    let shown = filter.to_string();
    assert_eq!(Filter::parse(&shown).unwrap_or_else(|error| panic!("{text} -> {shown}: {error}")), filter, "{text}");
    match filter.bind(&ROWS.schema()) {
        Ok(predicate) => {
            let passes = predicate.evaluate(&ROWS).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(passes.len(), ROWS.num_rows());
            let _ = to_sql(&predicate, &mut StandardSql).map_err(|error| refused(&error));
            true
        }
        Err(error) => refused(&error),
    }
}

/// Reads the JSON form of a definition, and makes a graph of it. Returns whether there is one.
///
/// # Panics
/// If its own JSON is another definition, or an error has no type.
pub fn spec(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let spec = match FeatureSpec::from_json(text) {
        Ok(spec) => spec,
        Err(error) => return refused(&error),
    };
    is_kept(&spec);
    let video = FeatureSpec::builder("raw/video").id_columns(["id"]).fields(["audio", "frames"]).build();
    match FeatureGraph::new([video.expect("a definition"), spec]) {
        Ok(graph) => !graph.project_version().is_empty(),
        Err(error) => refused(&error),
    }
}

/// Reads a text as a feature file in TOML and in JSON. Returns whether one of them defines a graph.
///
/// # Panics
/// If a problem has no place in the text, or a definition is not read again from its own JSON.
pub fn features(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    ["f.toml", "f.json"].map(|name| feature_file(name, text)).contains(&true)
}

/// Reads a text as a feature file of this name. Returns whether it defines a graph.
///
/// # Panics
/// As [`features`].
pub fn feature_file(name: &str, text: &str) -> bool {
    let files = FeatureFiles::parse(name, text);
    let specs: Option<Vec<FeatureSpec>> = files.specs().ok().map(|specs| specs.into_iter().cloned().collect());
    match files.graph(FeatureGraph::builder()) {
        Ok(graph) => {
            let specs = specs.expect("a graph of files that can be read");
            assert_eq!(graph.features().count(), specs.len());
            specs.iter().for_each(is_kept);
            true
        }
        Err(Error::FeatureFiles { problems }) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                let (line, column) = (problem.line.expect("a line"), problem.column.expect("a column"));
                let length = text.split('\n').nth(line - 1).expect("a line of the text").chars().count();
                assert!((1..=length + 1).contains(&column), "{problem}");
                assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{problem}");
            }
            false
        }
        Err(other) => panic!("{other}\n{text}"),
    }
}

/// Checks that the JSON form of a definition is read as the same definition, by both readers.
fn is_kept(spec: &FeatureSpec) {
    let json = spec.to_json();
    assert_eq!(FeatureSpec::from_json(&json).expect("its own JSON"), *spec);
    assert_eq!(FeatureFiles::parse("again.json", &json).specs().expect("its own JSON"), [spec]);
}

/// Reads a configuration, and prints it. Returns whether it can be read.
///
/// # Panics
/// If it cannot be printed, or an error has no type.
pub fn configuration(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    match MetaxyConfig::from_toml_str(text) {
        Ok(config) => {
            let printed = config.to_toml().unwrap_or_else(|error| panic!("{text}: {error}"));
            let _ = (config.check().map_err(|error| refused(&error)), format!("{config:?}"), printed);
            true
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) -> bool {
    assert_typed(error);
    false
}
