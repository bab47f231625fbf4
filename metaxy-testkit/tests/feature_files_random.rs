//! No text makes reading of feature files panic, every problem has a place, and what is read is right.

use metaxy_core::{FeatureFiles, FeatureSpec};
use metaxy_testkit::fuzz::feature_file as read;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;

const TOML: &str = "\
[[feature]]
key = \"raw/video\"
id_columns = [\"id\"]
fields = [\"audio\", { key = \"frames\", code_version = \"2\" }]

[[feature]]
key = 'leaf'
description = '''Ünï
🙂'''
id_columns = ['id', 'chunk']
deps = [{ feature = 'raw/video', lineage = { type = '1:N', on = ['id'] }, filters = ['a > 3'], rename = { p = 'q' } }]
fields = [{ key = 'text', deps = ['raw/video.audio'] }, { key = 'all', deps = 'all' }]
metadata.owner = 'speech'
[feature.metadata.limits]
a = [1, 2.5, true, 1979-05-27]

[[feature]]
key = 'sum'
id_columns = ['id']
[[feature.deps]]
feature = 'leaf'
optional = true
select = []
fields_mapping = { type = 'specific', mapping = { default = ['text'] } }
[feature.deps.lineage]
type = 'N:1'
";

// ---- texts ---------------------------------------------------------------------------------------------------------

/// Replaces a part of a text.
fn edited(text: &str, at: usize, length: usize, by: &str) -> String {
    let start = text.floor_char_boundary(at % (text.len() + 1));
    let end = text.ceil_char_boundary((start + length).min(text.len()));
    format!("{}{by}{}", &text[..start], &text[end..])
}

fn snippet() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[\\[\\]{}\"',.=:\\\\\n0-9a-zA-Z_ü🙂 -]{0,6}",
        prop::sample::select(vec![
            "key",
            "deps",
            "fields",
            "'x'",
            "null",
            "[]",
            "{}",
            "[[feature]]\n",
            "\"\\ud800\"",
            "1e999",
            "-0",
            "inf"
        ])
        .prop_map(str::to_owned),
    ]
}

#[test]
fn edited_files() {
    let definitions: Vec<FeatureSpec> = {
        let text = TOML.replace(", 1979-05-27", "");
        FeatureFiles::parse("f.toml", &text).specs().expect("definitions").into_iter().cloned().collect()
    };
    let json = serde_json::to_string_pretty(&definitions).expect("JSON");
    let edit = || (any::<usize>(), 0..8_usize, snippet());
    let read_well = std::cell::Cell::new(0);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() });
    let tried = runner.run(&(prop::collection::vec(edit(), 1..3), any::<bool>()), |(edits, is_toml)| {
        let (name, text) =
            if is_toml { ("f.toml", TOML.replace(", 1979-05-27", "")) } else { ("f.json", json.clone()) };
        let text = edits.iter().fold(text, |text, (at, length, by)| edited(&text, *at, *length, by));
        read_well.set(read_well.get() + usize::from(read(name, &text)));
        Ok(())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(read_well.get() >= 50, "only {} edited files define a graph", read_well.get());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn texts(text in "(\\PC|\n|\r|\t|[=\\[\\]{}\"'.#$:,]){0,60}") {
        for name in ["f.toml", "f.json", "f.yaml", "f"] {
            read(name, &text);
        }
    }

    #[test]
    fn documents(features in prop::collection::vec(feature(), 0..4)) {
        read("f.json", &Value::Array(features.clone()).to_string());
        if let Ok(text) = toml::to_string(&serde_json::json!({ "feature": features })) {
            read("f.toml", &text);
        }
    }
}

// ---- documents -----------------------------------------------------------------------------------------------------

const WORDS: [&str; 40] = [
    "key",
    "id_columns",
    "deps",
    "fields",
    "metadata",
    "description",
    "feature",
    "select",
    "rename",
    "fields_mapping",
    "filters",
    "sql_filters",
    "lineage",
    "optional",
    "code_version",
    "type",
    "on",
    "mapping",
    "relationship",
    "match_suffix",
    "exclude_fields",
    "id_generation_pattern",
    "N:1",
    "1:N",
    "1:1",
    "specific",
    "all",
    "none",
    "default",
    "a",
    "b",
    "a/b",
    "a.b",
    "A",
    "",
    "a > 1",
    "metaxy_provenance",
    "__METAXY_ALL_DEP__",
    "id",
    "ü\n🙂",
];

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        6 => word().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// A definition that is sound but for some of its parts.
fn feature() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec!["a", "b", "a/b", "c"]);
    let parts = prop::collection::vec((prop::sample::select(WORDS[..6].to_vec()), value()), 0..3);
    (key, parts).prop_map(|(key, parts)| {
        let mut feature = serde_json::json!({ "key": key, "id_columns": ["id"] });
        for (name, value) in parts {
            feature[name] = value;
        }
        feature
    })
}

#[test]
fn deep_files() {
    for depth in [10, 60, 70, 100, 10_000, 100_000] {
        read("f.json", &format!("{}1{}", "[".repeat(depth), "]".repeat(depth)));
        read("f.json", &format!("{}1{}", "{\"key\":".repeat(depth), "}".repeat(depth)));
        read("f.json", &"[".repeat(depth));
        read("f.toml", &format!("feature = {}1{}", "[".repeat(depth), "]".repeat(depth)));
        read("f.toml", &format!("{}x = 1", "a.".repeat(depth)));
        read("f.toml", &format!("key = 'x'\nid_columns = ['id']\nmetadata.{}x = 1", "a.".repeat(depth)));
    }
}
