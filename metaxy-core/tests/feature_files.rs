//! Feature files: every form of every part, and every problem with its place.

use std::path::Path;

use expect_test::{Expect, expect};
use metaxy_core::config::{Environment, MetaxyConfig};
use metaxy_core::spec::{FieldDep, FieldDeps};
use metaxy_core::{
    Error, FeatureDep, FeatureFiles, FeatureGraph, FeatureSpec, FieldSelection, FieldSpec, FieldsMapping, Lineage,
};

fn toml(text: &str) -> FeatureFiles {
    FeatureFiles::parse("f.toml", text)
}

fn json(text: &str) -> FeatureFiles {
    FeatureFiles::parse("f.json", text)
}

fn graph(files: &FeatureFiles) -> metaxy_core::Result<FeatureGraph> {
    files.graph(FeatureGraph::builder())
}

/// Returns the only definition of a file.
fn one(files: &FeatureFiles) -> FeatureSpec {
    let specs = files.specs().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(specs.len(), 1);
    specs[0].clone()
}

/// Returns the definition of a feature `x` with further lines.
fn with(lines: &str) -> FeatureSpec {
    one(&toml(&format!("[[feature]]\nkey = 'x'\nid_columns = ['id']\n{lines}")))
}

fn dep(settings: &str) -> FeatureDep {
    with(&format!("deps = [{{ feature = 'up', {settings} }}]")).deps[0].clone()
}

fn field(settings: &str) -> FieldSpec {
    with(&format!("deps = ['up']\nfields = [{{ key = 'f', {settings} }}]")).fields[0].clone()
}

// ---- forms ---------------------------------------------------------------------------------------------------------

#[test]
fn features_are_lists_single_tables_or_whole_files() {
    let body = "key = 'x'\nid_columns = ['id']\n";
    let expected = FeatureSpec::builder("x").id_columns(["id"]).build().unwrap();
    for text in [
        body.to_owned(),
        format!("[[feature]]\n{body}"),
        format!("[[features]]\n{body}"),
        format!("[feature]\n{body}"),
        "feature = [{ key = ['x'], id_columns = ['id'], fields = ['default'], deps = [] }]".to_owned(),
    ] {
        assert_eq!(one(&toml(&text)), expected, "{text}");
    }
    let body = r#"{"key": "x", "id_columns": ["id"], "description": null}"#;
    for text in [
        body.to_owned(),
        format!("[{body}]"),
        format!(r#"{{"feature": [{body}]}}"#),
        format!(r#"{{"features": {body}}}"#),
        expected.to_json(),
    ] {
        assert_eq!(one(&json(&text)), expected, "{text}");
    }
    for empty in [toml(""), toml("# later\n"), json("[]"), json("{}"), json(r#"{"features": []}"#)] {
        assert!(empty.specs().unwrap().is_empty());
    }
}

#[test]
fn keys_are_texts_or_lists_of_parts() {
    let expected = FeatureSpec::builder("a/b").id_columns(["id"]).dep("c/d").field("e/f").build().unwrap();
    for keys in [["'a/b'", "'c/d'", "'e/f'"], ["['a', 'b']", "['c', 'd']", "['e', 'f']"]] {
        let [key, dep, field] = keys;
        let short = format!("key = {key}\nid_columns = ['id']\ndeps = [{dep}]\nfields = [{field}]");
        let long = format!("key = {key}\nid_columns = ['id']\n[[deps]]\nfeature = {dep}\n[[fields]]\nkey = {field}\n");
        assert_eq!(one(&toml(&short)), expected);
        assert_eq!(one(&toml(&long)), expected);
    }
}

#[test]
fn settings_of_dependencies() {
    let up = || FeatureDep::new("up");
    assert_eq!(with("deps = ['up', { feature = 'b' }]").deps, [up(), FeatureDep::new("b")]);
    assert_eq!(dep("optional = true"), up().optional());
    assert_eq!(dep("select = ['a', 'b']"), up().select(["a", "b"]));
    assert_eq!(dep("select = []").select, Some(Vec::new()));
    assert_eq!(dep("rename = { a = 'b', c = 'd' }"), up().rename("a", "b").rename("c", "d"));
    assert_eq!(dep("filters = ['a > 1', 'b IS NULL']"), up().filter("a > 1").filter("b IS NULL"));
    assert_eq!(dep("sql_filters = ['a > 1']"), up().filter("a > 1"));
}

#[test]
fn lineages() {
    let aggregation = |on: Option<&[&str]>| Lineage::Aggregation {
        on: on.map(|on| on.iter().map(|&column| column.to_owned()).collect()),
    };
    let patterned =
        Lineage::Expansion { on: vec!["id".to_owned()], id_generation_pattern: Some("{id}-{n}".to_owned()) };
    for (text, expected) in [
        ("'1:1'", Lineage::Identity),
        ("'identity'", Lineage::Identity),
        ("{ type = '1:1' }", Lineage::Identity),
        ("'N:1'", aggregation(None)),
        ("'aggregation'", aggregation(None)),
        ("{ type = 'N:1' }", aggregation(None)),
        ("{ type = 'N:1', on = ['a', 'b'] }", aggregation(Some(&["a", "b"]))),
        ("{ type = 'aggregation', on = ['a'] }", aggregation(Some(&["a"]))),
        ("{ relationship = { type = 'N:1', on = ['a'] } }", aggregation(Some(&["a"]))),
        ("{ type = '1:N', on = ['id'] }", Lineage::expansion(["id"])),
        ("{ type = 'expansion', on = ['id'] }", Lineage::expansion(["id"])),
        ("{ type = '1:N', on = ['id'], id_generation_pattern = '{id}-{n}' }", patterned),
    ] {
        assert_eq!(dep(&format!("lineage = {text}")).lineage, expected, "{text}");
    }
}

#[test]
fn mappings() {
    let key = |text: &str| text.parse().unwrap();
    let specific = || FieldsMapping::Specific([(key("f/g"), [key("a"), key("b/c")].into())].into());
    let suffix = |exclude_fields| FieldsMapping::Default { match_suffix: true, exclude_fields };
    for (text, expected) in [
        ("'default'", FieldsMapping::default()),
        ("'all'", FieldsMapping::All),
        ("'none'", FieldsMapping::None),
        ("{ type = 'none' }", FieldsMapping::None),
        ("{ mapping = { type = 'all' } }", FieldsMapping::All),
        ("{ type = 'default', match_suffix = true }", suffix(Vec::new())),
        (
            "{ type = 'default', match_suffix = true, exclude_fields = ['a', ['b', 'c']] }",
            suffix(vec![key("a"), key("b/c")]),
        ),
        ("{ type = 'specific', mapping = { 'f/g' = ['a', 'b/c'] } }", specific()),
        ("{ mapping = { type = 'specific', mapping = { 'f/g' = [['a'], ['b', 'c']] } } }", specific()),
    ] {
        assert_eq!(dep(&format!("fields_mapping = {text}")).fields_mapping, expected, "{text}");
    }
}

#[test]
fn fields() {
    assert_eq!(with("").fields, [FieldSpec::new("default")]);
    assert_eq!(with("fields = ['a', { key = 'b' }]").fields, [FieldSpec::new("a"), FieldSpec::new("b")]);
    assert_eq!(field("code_version = '2'"), FieldSpec::new("f").code_version("2"));
    let f = || FieldSpec::new("f");
    for (text, expected) in [
        ("[]", f()),
        ("'all'", f().depends_on_everything()),
        ("'__METAXY_ALL_DEP__'", f().depends_on_everything()),
        ("['up']", f().depends_on_all_of("up")),
        ("['up.a']", f().depends_on("up", ["a"])),
        ("['up/x.a/b', 'up']", f().depends_on("up/x", ["a/b"]).depends_on_all_of("up")),
        ("[{ feature = 'up' }]", f().depends_on_all_of("up")),
        ("[{ feature = 'up', fields = 'all' }]", f().depends_on_all_of("up")),
        ("[{ feature = 'up', fields = '__METAXY_ALL_DEP__' }]", f().depends_on_all_of("up")),
        ("[{ feature = ['up', 'x'], fields = ['a', ['b', 'c']] }]", f().depends_on("up/x", ["a", "b/c"])),
    ] {
        assert_eq!(field(&format!("deps = {text}")), expected, "{text}");
    }
    let empty = FieldDep { feature: "up".parse().unwrap(), fields: FieldSelection::Only(Vec::new()) };
    assert_eq!(field("deps = [{ feature = 'up', fields = [] }]").deps, FieldDeps::Listed(vec![empty]));
}

#[test]
fn metadata_and_description() {
    let spec = with("description = 'Ünï 🙂'\n[feature.metadata]\nowner = 'vision'\nn = [1, 1.5, true, { a = 'b' }]");
    assert_eq!(spec.description.as_deref(), Some("Ünï 🙂"));
    let expected = FeatureSpec::builder("x").id_columns(["id"]).description("Ünï 🙂").metadata("owner", "vision");
    let numbers = serde_json::json!([1, 1.5, true, { "a": "b" }]);
    assert_eq!(spec.to_json(), expected.metadata("n", numbers).build().unwrap().to_json());
    let spec = one(&json(
        r#"{"key": "x", "id_columns": ["id"], "metadata": {"a": null, "b": [-1, 2.0, 1e3, "\ud83d\ude42\n"]}}"#,
    ));
    assert!(
        spec.to_json().contains(r#""metadata": {"a": null, "b": [-1, 2.0, 1000.0, "\ud83d\ude42\n"]}"#),
        "{}",
        spec.to_json()
    );
}

#[test]
fn what_to_json_writes_is_read() {
    let mapping = [("text".parse().unwrap(), ["audio".parse().unwrap()].into())].into();
    let spec = FeatureSpec::builder("leaf/one")
        .id_columns(["id", "chunk"])
        .dep(
            FeatureDep::new("raw/video")
                .select(["path"])
                .rename("p", "path")
                .filter("path IS NOT NULL")
                .fields_mapping(FieldsMapping::Specific(mapping))
                .lineage(Lineage::expansion(["id"]))
                .optional(),
        )
        .dep(FeatureDep::new("raw/text").lineage(Lineage::aggregation(["id"])).fields_mapping(FieldsMapping::All))
        .field(
            FieldSpec::new("text").code_version("2").depends_on("raw/video", ["audio"]).depends_on_all_of("raw/text"),
        )
        .field(FieldSpec::new("all").depends_on_everything())
        .metadata("owner", "vision")
        .description("Ünïcode 🙂 \" \\")
        .build()
        .unwrap();
    assert_eq!(one(&json(&spec.to_json())), spec);
    assert_eq!(one(&json(&serde_json::to_string_pretty(&spec).unwrap())), spec);
}

// ---- problems ------------------------------------------------------------------------------------------------------

/// Returns the message of the problems of a graph.
fn problems(files: &FeatureFiles) -> String {
    let error = graph(files).expect_err("this is an error");
    let Error::FeatureFiles { problems } = &error else { panic!("{error}") };
    assert_eq!(error.to_string().lines().count(), problems.len());
    error.to_string() + "\n"
}

#[track_caller]
fn check(files: FeatureFiles, expected: Expect) {
    expected.assert_eq(&problems(&files));
}

#[test]
fn texts_that_are_not_toml() {
    check(
        toml("[[feature]]\nkey = 'a'\nid_columns = ['id'\nfields = ['x']\n\n[[feature]]\nkey = 'b'\n"),
        expect![[r#"
            f.toml:4:1: this is not TOML: missing comma between array elements, expected `,`
        "#]],
    );
    check(
        toml("[[feature]]\nkey = 'a'\ndeps = [{ feature = 'x', optional = true]\nfields = ['x']\n"),
        expect![[r#"
            f.toml:3:41: this is not TOML: invalid inline table element, expected `,`
        "#]],
    );
    check(
        toml("[[feature]]\nkey = 'a'\nfields = ['x' 'y']\ndescription = yes\n[feature]\n"),
        expect![[r#"
            f.toml:3:15: this is not TOML: missing comma between array elements, expected `,`
            f.toml:5:2: this is not TOML: duplicate key
        "#]],
    );
    check(
        toml("[[feature]]\nkey = 'x\n"),
        expect![[r#"
        f.toml:2:9: this is not TOML: invalid literal string, expected `'`
    "#]],
    );
    check(
        toml("[[feature]]\nkey = x\nid_columns = ['id']\n\n[[feature]\n"),
        expect![[r#"
        f.toml:2:7: this is not TOML: string values must be quoted, expected literal string
        f.toml:5:11: this is not TOML: unclosed array table, expected `]`
    "#]],
    );
    check(
        toml("[[feature]]\nkey = 'a'\nkey = 'b'\n"),
        expect![[r#"
        f.toml:3:1: this is not TOML: duplicate key
    "#]],
    );
    check(
        toml("{\"key\": 1}"),
        expect![[r#"
        f.toml:1:1: this is not TOML: invalid key-value pair, expected key
    "#]],
    );
}

#[test]
fn texts_that_are_not_json() {
    check(
        json(""),
        expect![[r#"
        f.json:1:1: this is not JSON: EOF while parsing a value
    "#]],
    );
    check(
        json("{\n  \"key\": \"x\",\n  \"id_columns\": [\"id\"\n}"),
        expect![[r#"
        f.json:4:1: this is not JSON: expected `,` or `]`
    "#]],
    );
    check(
        json("[{\"key\": 'x'}]"),
        expect![[r#"
        f.json:1:10: this is not JSON: expected value
    "#]],
    );
    check(
        json("[\n {\"key\": \"ü\", \"key\": \"b\"}]"),
        expect![[r#"
        f.json:2:15: the key `key` is given twice
    "#]],
    );
    check(
        json("[\"\\ud800\"]"),
        expect![[r#"
        f.json:1:2: this is not JSON: unexpected end of hex escape
    "#]],
    );
    check(
        json("{\"key\": \"x\", \"id_columns\": [\"id\"], \"metadata\": {\"n\": 123456789012345678901}}"),
        expect![[r#"
            f.json:1:54: metadata is kept as JSON, which cannot hold a number that does not fit into 64 bits; write a string
        "#]],
    );
    check(
        json("{\"key\": \"x\", \"id_columns\": [\"id\"], \"metadata\": {\"n\": 1e999}}"),
        expect![[r#"
        f.json:1:54: this is not JSON: number out of range
    "#]],
    );
    check(
        json(&format!("{}{}", "[".repeat(200), "]".repeat(200))),
        expect![[r#"
        f.json:1:102: this is nested deeper than 100 levels
    "#]],
    );
}

#[test]
fn wrong_kinds_of_values() {
    check(
        toml(
            "\
[[feature]]
key = 1
id_columns = 'id'
deps = { feature = 'up' }
fields = 'a'
metadata = []
description = 2

[[feature]]
key = 'x'
id_columns = ['id', 3, true]
deps = [1, ['a', 2], { feature = 3, select = 'a', rename = ['a'], filters = 'a > 1', optional = 'yes' }]
fields = [2024-01-01, { key = 4, code_version = 2, deps = 'up' }, { key = 'f', deps = [1] }]
metadata = { a = 2024-01-01, b = inf }

[[feature]]
key = 'y'
id_columns = ['id']
deps = [{ feature = 'x', lineage = 1, fields_mapping = 2 }, { feature = 'x', rename = { a = 1 } }]
",
        ),
        expect![[r#"
            f.toml:2:7: expected a key, found a whole number
            f.toml:3:14: expected an array of strings, found a string
            f.toml:4:8: expected an array of dependencies, found a table
            f.toml:5:10: expected an array of fields, found a string
            f.toml:6:12: expected a table, found an array
            f.toml:7:15: expected a string, found a whole number; write "2"
            f.toml:11:21: expected a string, found a whole number; write "3"
            f.toml:11:24: expected a string, found a truth value
            f.toml:12:9: expected a key, found a whole number
            f.toml:12:18: expected a string, found a whole number; write "2"
            f.toml:12:34: expected a key, found a whole number
            f.toml:12:46: expected an array of strings, found a string
            f.toml:12:60: expected a table of new names by old ones, found an array
            f.toml:12:77: expected an array of strings, found a string
            f.toml:12:97: expected `true` or `false`, found a string
            f.toml:13:11: expected a key, found a date
            f.toml:13:31: expected a key, found a whole number
            f.toml:13:49: expected a string, found a whole number; write "2"
            f.toml:13:59: expected an array of upstream fields, or "all", found a string
            f.toml:13:88: expected "feature.field", "feature", or a table with `feature` and `fields`, found a whole number
            f.toml:14:18: metadata is kept as JSON, which cannot hold a date; write a string
            f.toml:19:36: expected a lineage: "1:1", "N:1", "1:N", or a table with `type` and `on`, found a whole number
            f.toml:19:56: expected a mapping: "default", "all", "none", or a table with `type`, found a whole number
            f.toml:19:73: feature `y`: it depends on `x` twice; join both into one dependency
            f.toml:19:93: expected a string, found a whole number; write "1"
        "#]],
    );
    check(
        toml("feature = 1"),
        expect![[r#"
        f.toml:1:11: expected a table that defines a feature, found a whole number
    "#]],
    );
    check(
        json("1"),
        expect![[r#"
        f.json:1:1: expected a table that defines a feature, found a whole number
    "#]],
    );
    check(
        json(r#"{"key": null, "id_columns": null}"#),
        expect![[r#"
            f.json:1:1: the feature has no `key`; add one
            f.json:1:29: feature `unnamed`: the list of id columns is empty; name at least one column that identifies a sample
        "#]],
    );
}

#[test]
fn unknown_keys_and_words() {
    check(
        toml(
            "\
[[features]]
kye = 'x'
id_column = ['id']
[[features.dep]]
feature = 'up'

[[features]]
key = 'x'
id_columns = ['id']
colour = 'red'
deps = [{ featur = 'up' }, { feature = 'up', filter = [], renames = {}, option = true, lineage = 'n:1' }]
fields = [{ key = 'a', version = '1', code_verison = '2', deps = [{ feature = 'up', field = ['a'] }] }]

[[features]]
key = 'y'
id_columns = ['id']
deps = [
  { feature = 'x', lineage = '1:N' },
  { feature = 'x', lineage = { typ = 'N:1' } },
  { feature = 'x', lineage = { type = '1:1', on = ['id'] } },
  { feature = 'x', lineage = { relationship = { type = 'many' }, on = ['id'] } },
  { feature = 'x', fields_mapping = 'everything' },
  { feature = 'x', fields_mapping = { type = 'specific' } },
  { feature = 'x', fields_mapping = { type = 'all', match_suffix = true } },
  { feature = 'x', fields_mapping = { type = 'specific', mapping = { A = ['b'], c = ['D', 1] } } },
  { feature = 'x', filters = [], sql_filters = [] },
]
",
        ),
        expect![[r#"
            f.toml:2:1: unknown key `kye`; did you mean `key`?
            f.toml:3:1: unknown key `id_column`; did you mean `id_columns`?
            f.toml:4:12: unknown key `dep`; did you mean `deps`?
            f.toml:10:1: unknown key `colour`; known keys: `key`, `id_columns`, `deps`, `fields`, `metadata`, `description`, `external`
            f.toml:11:11: unknown key `featur`; did you mean `feature`?
            f.toml:11:46: unknown key `filter`; did you mean `filters`?
            f.toml:11:59: unknown key `renames`; did you mean `rename`?
            f.toml:11:73: unknown key `option`; did you mean `optional`?
            f.toml:11:98: unknown lineage `n:1`; did you mean `N:1`?
            f.toml:12:24: unknown key `version`; did you mean `code_version`?
            f.toml:12:39: unknown key `code_verison`; did you mean `code_version`?
            f.toml:12:85: unknown key `field`; did you mean `fields`?
            f.toml:18:30: a lineage of type `1:N` names the columns of the parent: { type = "1:N", on = [...] }
            f.toml:19:15: feature `y`: it depends on `x` twice; join both into one dependency
            f.toml:19:32: unknown key `typ`; did you mean `type`?
            f.toml:20:15: feature `y`: it depends on `x` twice; join both into one dependency
            f.toml:20:51: a lineage of type `1:1` has no `on`; leave it out
            f.toml:21:15: feature `y`: it depends on `x` twice; join both into one dependency
            f.toml:21:56: unknown lineage `many`; use one of `1:1`, `N:1`, `1:N`, `identity`, `aggregation`, `expansion`
            f.toml:21:66: unknown key `on`; known keys: `relationship`
            f.toml:22:15: feature `y`: it depends on `x` twice; join both into one dependency
            f.toml:22:37: unknown mapping `everything`; use one of `default`, `specific`, `all`, `none`
            f.toml:23:15: feature `y`: it depends on `x` twice; join both into one dependency
            f.toml:23:46: a mapping of type `specific` lists upstream fields by field; add `mapping`
            f.toml:24:15: feature `y`: it depends on `x` twice; join both into one dependency
            f.toml:24:68: a mapping of type `all` has no `match_suffix`; leave it out
            f.toml:25:15: feature `y`: it depends on `x` twice; join both into one dependency
            f.toml:25:70: `A` is not a field key: the part `A` must start with a lower-case letter or `_`
            f.toml:25:86: `D` is not a field key: the part `D` must start with a lower-case letter or `_`
            f.toml:25:91: expected a key, found a whole number
            f.toml:26:15: feature `y`: it depends on `x` twice; join both into one dependency
            f.toml:26:48: both `filters` and `sql_filters` are given; write all filters under one of them
        "#]],
    );
    check(
        toml("[[featur]]\nkey = 'x'\n"),
        expect![[r#"
        f.toml:1:3: unknown key `featur`; did you mean `feature`?
    "#]],
    );
    check(
        toml("[[feature]]\nkey = 'x'\nid_columns = ['id']\n[[features]]\nkey = 'y'\nid_columns = ['id']\n"),
        expect![[r#"
            f.toml:4:3: both `feature` and `features` are given; write all features under one of them
        "#]],
    );
    check(
        json("[\n  {\"key\": \"x\", \"id_columns\": [\"id\"], \"Fields\": []},\n  {}\n]"),
        expect![[r#"
            f.json:2:38: unknown key `Fields`; did you mean `fields`?
            f.json:3:3: the feature has no `key`; add one
            f.json:3:3: feature `unnamed`: the list of id columns is empty; name at least one column that identifies a sample
        "#]],
    );
}

#[test]
fn rules_of_one_definition() {
    check(
        toml(
            "\
[[feature]]
key = 'Raw'
id_columns = ['id']

[[feature]]
key = 'a'

[[feature]]
key = 'b'
id_columns = []
fields = []

[[feature]]
key = 'c'
id_columns = ['id', 'id', 'metaxy_provenance', '']
fields = ['x', 'X', { key = 'x' }, 'y/z', 'y_z', { key = 'f', deps = ['a.B', 'A', 'a'] }]
deps = [
  'Up',
  { feature = 'a', rename = { p = 'metaxy_x', q = 'metaxy_created_at', r = 's', t = 's' } },
  'a',
  { feature = 'b', filters = ['x >', 'y = 1', 'AND'], lineage = { type = 'N:1', on = [] } },
]
",
        ),
        expect![[r#"
            f.toml:2:7: `Raw` is not a feature key: the part `Raw` must start with a lower-case letter or `_`
            f.toml:5:1: feature `a`: the list of id columns is empty; name at least one column that identifies a sample
            f.toml:10:14: feature `b`: the list of id columns is empty; name at least one column that identifies a sample
            f.toml:11:10: feature `b`: it has no fields; leave `fields` out for one field `default`
            f.toml:15:21: feature `c`: the id column `id` is empty or named twice
            f.toml:15:27: feature `c`: `metaxy_provenance` is a system column and cannot be an id column
            f.toml:15:48: feature `c`: the id column `` is empty or named twice
            f.toml:16:16: `X` is not a field key: the part `X` must start with a lower-case letter or `_`
            f.toml:16:29: feature `c`: field `x` is defined twice; field keys must be unique
            f.toml:16:43: feature `c`: two field keys differ only in `/` and `_` and would have the same struct key; rename one
            f.toml:16:71: `B` is not a field key: the part `B` must start with a lower-case letter or `_`
            f.toml:16:78: `A` is not a feature key: the part `A` must start with a lower-case letter or `_`
            f.toml:18:3: `Up` is not a feature key: the part `Up` must start with a lower-case letter or `_`
            f.toml:19:51: feature `c`: column `q` of `a` cannot be renamed to `metaxy_created_at`: that name belongs to a system column
            f.toml:19:85: feature `c`: column `t` of `a` cannot be renamed to `s`: another column gets that name too
            f.toml:20:3: feature `c`: it depends on `a` twice; join both into one dependency
            f.toml:21:31: the filter does not parse at its character 4: expected a column or a value, but the text ends
            f.toml:21:47: the filter does not parse at its character 1: expected a column or a value, found `AND`; a filter has = != < <= > >=, AND, OR, NOT, IN, BETWEEN, IS NULL, parentheses, columns and values
            f.toml:21:86: feature `c`: the lineage of its dependency `b` has an empty list `on`
        "#]],
    );
}

#[test]
fn rules_of_the_graph() {
    check(
        toml(
            "\
[[feature]]
key = 'raw/video'
id_columns = ['id']
fields = ['audio', 'frames']

[[feature]]
key = 'leaf'
id_columns = ['id']
deps = [
  'raw/vidoe',
  { feature = 'raw/video', rename = { path = 'id' } },
]

[[feature]]
key = 'text'
id_columns = ['id']
deps = [
  { feature = 'raw/video', fields_mapping = 'none' },
]
fields = [
  'none',
  { key = 'listed', deps = ['raw/video.audoi', 'raw/other', { feature = 'raw/video', fields = ['frames', 'frame'] }] },
]

[[feature]]
key = 'renamed'
id_columns = ['id']
deps = [{ feature = 'raw/video', rename = { path = 'id' }, lineage = { type = 'N:1', on = ['day'] } }]

[[feature]]
key = 'one'
id_columns = ['id']
deps = ['raw/video', 'two']

[[feature]]
key = 'two'
id_columns = ['id']
deps = [{ optional = true, feature = 'one' }]

[[feature]]
key = 'self'
id_columns = ['id']
deps = ['self']

[[feature]]
key = 'raw/video'
id_columns = ['id']
",
        ),
        expect![[r#"
            f.toml:10:3: feature `leaf` depends on `raw/vidoe`, which the graph does not have; did you mean `raw/video`?
            f.toml:21:3: field `none` of feature `text` depends on no upstream field; name its `deps` or give a dependency another fields_mapping
            f.toml:22:29: field `listed` of feature `text` depends on `raw/video.audoi`, which does not exist; did you mean `raw/video.audio`?
            f.toml:22:48: field `listed` of feature `text` depends on `raw/other`, which does not exist
            f.toml:22:106: field `listed` of feature `text` depends on `raw/video.frame`, which does not exist; did you mean `raw/video.frames`?
            f.toml:28:52: feature `renamed`: column `path` of `raw/video` cannot be renamed to `id`: that name belongs to an id column
            f.toml:33:22: features depend on each other in a cycle: one -> two -> one; remove one of these dependencies
            f.toml:43:9: features depend on each other in a cycle: self -> self; remove one of these dependencies
            f.toml:46:7: feature `raw/video` is defined twice, the first time in f.toml:2:7; give one of the two another key
        "#]],
    );
}

/// A feature that cannot be read is not missing, and what depends on it is not checked against it.
#[test]
fn problems_do_not_cause_others() {
    let leaf =
        "[[feature]]\nkey = 'leaf'\nid_columns = ['id']\ndeps = ['up']\nfields = [{ key = 'f', deps = ['up.a'] }]\n";
    check(
        toml(&format!("{leaf}[[feature]]\nkey = 'up'\nid_columns = 1\n")),
        expect![[r#"
        f.toml:8:14: expected an array of strings, found a whole number
    "#]],
    );
    check(
        toml(&format!("{leaf}[[feature]]\nkey = 'up'\nid_columns = ['id']\nfield = ['a']\n")),
        expect![[r#"
        f.toml:9:1: unknown key `field`; did you mean `fields`?
    "#]],
    );
    check(
        toml(leaf).and(json("[")),
        expect![[r#"
        f.json:1:1: this is not JSON: EOF while parsing a list
    "#]],
    );
}

/// One feature can have problems of every kind at once.
#[test]
fn a_feature_with_problems_of_every_kind() {
    check(
        toml("key = 'X'\nfields = []\ndeps = ['gone', { feature = 'y', filters = ['a >'] }]\n"),
        expect![[r#"
        f.toml:1:1: feature `unnamed`: the list of id columns is empty; name at least one column that identifies a sample
        f.toml:1:7: `X` is not a feature key: the part `X` must start with a lower-case letter or `_`
        f.toml:2:10: feature `unnamed`: it has no fields; leave `fields` out for one field `default`
        f.toml:3:45: the filter does not parse at its character 4: expected a column or a value, but the text ends
    "#]],
    );
    check(
        toml(
            "key = 'x'\nid_columns = []\ndescription = 1\nflieds = []\ndeps = ['gone', { feature = 'Y' }]\nfields = ['a', 'a']\n",
        ),
        expect![[r#"
            f.toml:2:14: feature `x`: the list of id columns is empty; name at least one column that identifies a sample
            f.toml:3:15: expected a string, found a whole number; write "1"
            f.toml:4:1: unknown key `flieds`; did you mean `fields`?
            f.toml:5:9: feature `x` depends on `gone`, which the graph does not have
            f.toml:5:29: `Y` is not a feature key: the part `Y` must start with a lower-case letter or `_`
            f.toml:6:16: feature `x`: field `a` is defined twice; field keys must be unique
        "#]],
    );
}

// ---- files ---------------------------------------------------------------------------------------------------------

fn write(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

const VIDEO: &str = "[[feature]]\nkey = 'raw/video'\nid_columns = ['id']\nfields = ['audio', 'frames']\n";
const TEXT: &str = r#"{"key": "text", "id_columns": ["id"], "deps": ["raw/video"]}"#;

fn load(directory: &Path, variables: &[(&str, &str)]) -> metaxy_core::Result<MetaxyConfig> {
    let environment = Environment::from_iter(variables.iter().copied());
    MetaxyConfig::loader().directory(directory).environment(environment).load()
}

fn keys(config: &MetaxyConfig) -> Vec<String> {
    let graph = config.graph().unwrap_or_else(|error| panic!("{error}"));
    graph.features().map(|plan| plan.spec.key.to_string()).collect()
}

/// Returns the message of an error without the directory.
fn message<T: std::fmt::Debug>(result: metaxy_core::Result<T>, directory: &Path) -> String {
    result.expect_err("this is an error").to_string().replace(&format!("{}/", directory.display()), "") + "\n"
}

#[test]
fn the_configuration_names_files() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "features/video.toml", VIDEO);
    write(at, "features/more/text.json", TEXT);
    write(at, "features/more/.#hidden.json", "an editor's");
    write(at, "features/notes.md", "# Notes");
    for patterns in [
        "features = ['features/*.toml', 'features/more/*.json']",
        "features = ['features/**/*.toml', './features/../features/*.toml', 'features/more/*', '${WHERE}/**/*.json']",
        "ext.rust.features = ['features/video.toml', 'features/m?re/[t]ext.json']",
        "[ext.rust]\nfeatures = ['features/video.toml', 'features/more/*.json']",
    ] {
        write(at, "metaxy.toml", patterns);
        let config = load(at, &[("WHERE", "features")]).unwrap_or_else(|error| panic!("{patterns}: {error}"));
        assert_eq!(keys(&config), ["raw/video", "text"], "{patterns}");
        let files = config.feature_files();
        let paths: Vec<_> = files.paths().map(|path| path.strip_prefix(at).unwrap().to_owned()).collect();
        assert_eq!(paths.len(), 2, "each file is read once: {paths:?}");
        let (file, line, column) = files.place(&"raw/video".parse().unwrap()).unwrap();
        assert_eq!((file.file_name().unwrap().to_str(), line, column), (Some("video.toml"), 2, 7));
        assert_eq!(files.specs().unwrap().len(), 2);
    }
    write(at, "metaxy.toml", "hash_truncation_length = 12\nfeatures = ['features/video.toml']");
    assert_eq!(load(at, &[]).unwrap().graph().unwrap().feature_version("raw/video").unwrap().len(), 12);
    std::fs::remove_file(at.join("metaxy.toml")).unwrap();
    write(at, "pyproject.toml", "[tool.metaxy]\next.rust.features = ['features/*.toml']");
    assert_eq!(keys(&load(at, &[]).unwrap()), ["raw/video"]);
}

#[test]
fn patterns_are_relative_to_the_file_that_names_them() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "shared/base.toml", "[ext.rust]\nfeatures = ['*.features.toml']\n[ext.other]\nenable = false");
    write(at, "shared/raw.features.toml", VIDEO);
    write(at, "project [1]/metaxy.toml", "extend = '../shared/base.toml'\nfeatures = ['text.json']");
    write(at, "project [1]/text.json", TEXT);
    let project = at.join("project [1]");
    let config = load(&project, &[]).unwrap();
    assert_eq!(keys(&config), ["raw/video", "text"]);
    // The printed form means the same elsewhere.
    let printed = config.to_toml().unwrap();
    let again = MetaxyConfig::loader().environment(Environment::empty()).directory("/").load_text(&printed).unwrap();
    assert_eq!(keys(&again), ["raw/video", "text"], "{printed}");
    assert_eq!(again.to_toml().unwrap(), printed);
    // A relative path of the configuration.
    let relative = pathdiff(&project.join("metaxy.toml"));
    assert_eq!(keys(&MetaxyConfig::load_from(relative).unwrap()), ["raw/video", "text"]);
}

/// Returns a path relative to the working directory.
fn pathdiff(path: &Path) -> std::path::PathBuf {
    let depth = std::env::current_dir().unwrap().components().count() - 1;
    let up: std::path::PathBuf = std::iter::repeat_n("..", depth).collect();
    up.join(path.strip_prefix("/").unwrap())
}

#[test]
fn variables_override_the_patterns() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "metaxy.toml", "features = ['video.toml']");
    write(at, "video.toml", VIDEO);
    write(at, "other/audio.toml", "key = 'audio'\nid_columns = ['id']");
    for variable in ["METAXY_FEATURES", "metaxy_features", "METAXY_EXT__RUST__FEATURES"] {
        let config = load(at, &[(variable, "[\"other/*.toml\"]")]).unwrap();
        assert_eq!(keys(&config), ["audio"], "{variable}");
    }
    let nothing = load(at, &[("METAXY_FEATURES", "[\"none/*.toml\"]")]).unwrap();
    expect![[r#"
        `features[0]`: no file matches `none/*.toml`; name files that exist (set by the environment variable METAXY_FEATURES)
    "#]].assert_eq(&message(nothing.graph(), at));
    expect![[r#"
        `features`: expected an array, found a string (set by the environment variable METAXY_FEATURES)
    "#]]
    .assert_eq(&message(load(at, &[("METAXY_FEATURES", "other/*.toml")]), at));
    std::fs::remove_file(at.join("metaxy.toml")).unwrap();
    assert_eq!(keys(&load(at, &[("METAXY_FEATURES", "[\"video.toml\"]")]).unwrap()), ["raw/video"]);
}

#[test]
fn patterns_that_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "video.toml", VIDEO);
    write(at, "empty/notes.md", "");
    write(at, "bad.toml", "[[feature]]\nkey = 'bad'\n");
    write(
        at,
        "metaxy.toml",
        "features = [\n  'video.toml',\n  'features/*.toml',\n  'a**b',\n  'empt*',\n  '*/notes.md',\n  'bad.toml',\n]",
    );
    expect![[r#"
        bad.toml:1:1: feature `bad`: the list of id columns is empty; name at least one column that identifies a sample
        empty/notes.md:1:1: the name of a feature file ends in `.toml` or `.json`; rename it
        metaxy.toml:3: `features[1]`: no file matches `features/*.toml`; name files that exist
        metaxy.toml:4: `features[2]`: `a**b` is not a pattern of paths: recursive wildcards must form a single path component
        metaxy.toml:5: `features[3]`: `empt*` matches directories only; name files, as in `features/*.toml`
    "#]].assert_eq(&message(load(at, &[]).unwrap().graph(), at));
    for (text, expected) in [
        (
            "",
            expect![[r#"
            metaxy.toml: `features`: the configuration names no feature files; add `features = ["features/*.toml"]`
        "#]],
        ),
        (
            "features = 'video.toml'",
            expect![[r#"
            metaxy.toml:1: `features`: expected an array, found a string
        "#]],
        ),
        (
            "features = ['video.toml', 1]",
            expect![[r#"
            metaxy.toml:1: `features[1]`: expected a string, found 1
        "#]],
        ),
        (
            "features = ['${NOWHERE}/*.toml']",
            expect![[r#"
            metaxy.toml:1: `features[0]`: the environment variable NOWHERE is not set; set it, or write ${NOWHERE:-default}
        "#]],
        ),
        (
            "feature = ['video.toml']",
            expect![[r#"
            metaxy.toml:1: `feature`: unknown key; did you mean `features`?
        "#]],
        ),
        (
            "features = ['video.toml']\n[ext.rust]\nfeatures = []",
            expect![[r#"
            metaxy.toml:3: `ext.rust.features`: `features` is given twice, here and at the top; write all files there or here
        "#]],
        ),
        (
            "[ext.rust]\nfeature = []",
            expect![[r#"
            metaxy.toml:2: `ext.rust.feature`: unknown key; did you mean `features`?
        "#]],
        ),
        (
            "[ext.rust]\nenable = true",
            expect![[r#"
            metaxy.toml:2: `ext.rust.enable`: unknown key; known keys: `features`
        "#]],
        ),
        (
            "[ext]\nrust = 1",
            expect![[r#"
            metaxy.toml:2: `ext.rust`: expected a table, found a whole number
        "#]],
        ),
    ] {
        write(at, "metaxy.toml", text);
        expected.assert_eq(&message(load(at, &[]).and_then(|config| config.graph()), at));
    }
    write(at, "metaxy.toml", "features = []");
    assert_eq!(keys(&load(at, &[]).unwrap()), Vec::<String>::new());
}

#[test]
fn patterns_in_code() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "video.toml", VIDEO);
    write(directory.path(), "text.json", TEXT);
    let pattern = |name: &str| directory.path().join(name).display().to_string();
    let config = MetaxyConfig::builder().features(pattern("*.toml")).features(pattern("*.json")).build().unwrap();
    assert_eq!(config.feature_patterns(), Some(vec![pattern("*.toml").as_str(), pattern("*.json").as_str()]));
    assert_eq!(keys(&config), ["raw/video", "text"]);
    assert_eq!(MetaxyConfig::builder().build().unwrap().feature_patterns(), None);
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join(std::ffi::OsStr::from_bytes(b"od\xffd"));
    std::fs::create_dir(&odd).unwrap();
    write(&odd, "metaxy.toml", "features = ['*.json']");
    write(&odd, "text.json", TEXT);
    expect![[r#"
        od�d/metaxy.toml:1: `features[0]`: `*.json` is relative to od�d, whose name is not UTF-8 text
    "#]]
    .assert_eq(&message(load(&odd, &[]).unwrap().graph(), directory.path()));
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("binary.toml"), [0xff, 0xfe]).unwrap();
    write(at, "bom.toml", "\u{feff}[[feature]]\nkey = 'x'\n");
    write(at, "text.json", TEXT);
    let paths = ["binary.toml", "bom.toml", "missing.toml", "text.json"].map(|name| at.join(name));
    expect![[r#"
        binary.toml: the file cannot be read: it is not UTF-8 text
        bom.toml:1:1: feature `x`: the list of id columns is empty; name at least one column that identifies a sample
        missing.toml: the file cannot be read: No such file or directory (os error 2)
    "#]]
    .assert_eq(&message(graph(&FeatureFiles::read(paths)), at));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/dev/zero", at.join("endless.toml")).unwrap();
        expect![[r#"
            endless.toml: the file cannot be read: it is not a regular file
        "#]]
        .assert_eq(&message(graph(&FeatureFiles::read([at.join("endless.toml")])), at));
    }
}

#[test]
fn all_problems_of_all_files_are_reported_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "metaxy.toml", "features = ['features/*']");
    write(
        at,
        "features/a.toml",
        "[[feature]]\nkey = 'raw/video'\nid_columns = ['id']\nfeilds = ['audio']\n\n\
         [[feature]]\nkey = 'text'\nid_columns = ['id']\n\
         deps = ['raw/audio', { feature = 'raw/video', select = 'a' }]\n",
    );
    write(
        at,
        "features/b.json",
        r#"[
  {"key": "text", "id_columns": ["id"]},
  {"key": "faces", "id_columns": [],
   "fields": [{"key": "face", "code_version": 3}]}
]"#,
    );
    let expected = expect![[r#"
        features/a.toml:4:1: unknown key `feilds`; did you mean `fields`?
        features/a.toml:9:9: feature `text` depends on `raw/audio`, which the graph does not have; did you mean `raw/video`?
        features/a.toml:9:56: expected an array of strings, found a string
        features/b.json:2:11: feature `text` is defined twice, the first time in features/a.toml:7:7; give one of the two another key
        features/b.json:3:34: feature `faces`: the list of id columns is empty; name at least one column that identifies a sample
        features/b.json:4:47: expected a string, found a whole number; write "3"
    "#]];
    expected.assert_eq(&message(load(at, &[]).unwrap().graph(), at));
    let Err(Error::FeatureFiles { problems }) = load(at, &[]).unwrap().graph() else { panic!("no error") };
    let places: Vec<_> = problems.iter().map(|problem| (problem.line.unwrap(), problem.column.unwrap())).collect();
    assert_eq!(places.len(), 6);
    let error = load(at, &[]).unwrap().feature_files().specs().map(drop).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 5, "the graph is not checked: {error}");
}

#[test]
fn features_of_files_and_of_the_program() {
    let video = toml(VIDEO);
    let text = FeatureSpec::builder("text").id_columns(["id"]).dep("raw/video").build().unwrap();
    let both = video.graph(FeatureGraph::builder().features([text.clone()])).unwrap();
    assert_eq!(both.features().count(), 2);
    let from_file = json(TEXT).graph(both_builder()).unwrap();
    assert_eq!(from_file.features().count(), 2);
    assert_eq!(from_file.feature_version("text").unwrap(), both.feature_version("text").unwrap());
    let twice = json(TEXT).graph(both_builder().features([text])).unwrap_err().to_string();
    expect!["f.json:1:9: feature `text` is defined in the program too; give one of the two another key"]
        .assert_eq(&twice);
}

fn both_builder() -> metaxy_core::graph::FeatureGraphBuilder {
    let video = FeatureSpec::builder("raw/video").id_columns(["id"]).fields(["audio", "frames"]).build().unwrap();
    FeatureGraph::builder().features([video])
}

/// The examples in the documentation define graphs.
#[test]
fn the_documented_examples() {
    for document in ["src/feature_files/mod.rs", "README.md"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
        let text = std::fs::read_to_string(file).unwrap().replace("//! ", "").replace("//!", "");
        let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let examples: Vec<_> = blocks.filter(|block| block.contains("[[feature]]")).collect();
        assert_eq!(examples.len(), 1, "{document}");
        let graph = graph(&toml(examples[0])).unwrap_or_else(|error| panic!("{document}: {error}"));
        assert_eq!(graph.features().count(), 3);
        assert_eq!(graph.plan("processed/transcript").unwrap().parents[0][0].to_string(), "raw/video.audio");
    }
}
