//! Errors of invalid definitions: each names the item and says what to do.

use metaxy_core::{
    Error, FeatureDep, FeatureGraph, FeatureKey, FeatureSpec, FieldKey, FieldSpec, FieldsMapping, Lineage,
};

fn root(key: &str) -> FeatureSpec {
    FeatureSpec::builder(key).id_columns(["id"]).fields(["audio", "frames"]).build().expect("a sound root")
}

/// Returns the message of an error.
fn message<T: std::fmt::Debug, E: std::fmt::Display>(result: std::result::Result<T, E>) -> String {
    result.expect_err("this is an error").to_string()
}

#[test]
fn keys_allow_only_some_characters() {
    for good in ["a", "a/b", "_x/1-2", "raw/video", "a_b-c/0", "metaxy-x/y"] {
        assert_eq!(good.parse::<FeatureKey>().expect(good).to_string(), good);
    }
    for bad in ["", "/", "a//b", "/a", "a/", "A", "a/B", "1a", "-a", "a__b", "a b", "a.b", "ä", "a/é", "a/b__c", "a\n"]
    {
        let error = bad.parse::<FeatureKey>().expect_err(bad);
        assert_eq!(error.kind, "feature", "{bad}: {error}");
        assert!(bad.parse::<FieldKey>().is_err(), "{bad}");
    }
    assert_eq!(
        message("a/B".parse::<FeatureKey>()),
        "`a/B` is not a feature key: the part `B` must start with a lower-case letter, a digit or `_`"
    );
    assert_eq!(
        message("a__b".parse::<FieldKey>()),
        "`a__b` is not a field key: the part `a__b` holds `__`, which separates parts in table names"
    );
    assert_eq!(message(FeatureKey::from_parts(Vec::<String>::new())), "`` is not a feature key: it has no parts");
}

#[test]
fn names_derive_from_keys() {
    let key: FeatureKey = "faces/per-video/v_2".parse().expect("a key");
    assert_eq!(key.table_name(), "faces__per_video__v_2");
    let field: FieldKey = "audio/english".parse().expect("a key");
    assert_eq!(field.struct_key(), "audio_english");
    assert!(field.ends_with(&"english".parse().expect("a key")));
    assert!("a/b".parse::<FeatureKey>().expect("a key") < "a-b".parse().expect("a key"), "parts compare, not text");
}

#[test]
fn a_spec_is_checked_when_it_is_built() {
    let build = || FeatureSpec::builder("raw/video").id_columns(["id"]);
    assert_eq!(
        message(FeatureSpec::builder("raw/Video").id_columns(["id"]).build()),
        "`raw/Video` is not a feature key: the part `Video` must start with a lower-case letter, a digit or `_`"
    );
    assert_eq!(
        message(FeatureSpec::builder("raw/video").build()),
        "feature `raw/video`: the list of id columns is empty; name at least one column that identifies a sample"
    );
    assert_eq!(
        message(build().fields(["a", "b", "a"]).build()),
        "feature `raw/video`: field `a` is defined twice; field keys must be unique"
    );
    assert_eq!(
        message(build().fields(["a/b", "a_b"]).build()),
        "feature `raw/video`: two field keys differ only in `/` and `_` and would have the same struct key; rename one"
    );
    assert_eq!(
        message(build().field("Audio").build()),
        "`Audio` is not a field key: the part `Audio` must start with a lower-case letter or `_`"
    );
    assert_eq!(
        message(build().field(FieldSpec::new("a").depends_on("Up", ["x"])).build()),
        "`Up` is not a feature key: the part `Up` must start with a lower-case letter or `_`"
    );
    assert!(message(build().id_columns(["id"]).build()).contains("named twice"));
    assert!(message(FeatureSpec::builder("a").id_columns(["metaxy_provenance"]).build()).contains("system column"));
    assert!(message(build().dep("up").dep("up").build()).contains("depends on `up` twice"));
}

#[test]
fn system_and_id_columns_are_not_renamed() {
    let rename = |from: &str, to: &str| {
        let dep = FeatureDep::new("raw/video").rename(from, to);
        let leaf = FeatureSpec::builder("leaf").id_columns(["id"]).dep(dep).build()?;
        FeatureGraph::new([root("raw/video"), leaf])
    };
    assert_eq!(
        message(rename("path", "metaxy_provenance")),
        "feature `leaf`: column `path` of `raw/video` cannot be renamed to `metaxy_provenance`: that name belongs to a system column"
    );
    assert_eq!(
        message(rename("metaxy_created_at", "created")),
        "feature `leaf`: column `metaxy_created_at` of `raw/video` cannot be renamed to `created`: system columns keep their names"
    );
    assert_eq!(
        message(rename("path", "id")),
        "feature `leaf`: column `path` of `raw/video` cannot be renamed to `id`: that name belongs to an id column"
    );
    let twice = FeatureDep::new("raw/video").rename("a", "c").rename("b", "c");
    assert!(
        message(FeatureSpec::builder("leaf").id_columns(["id"]).dep(twice).build())
            .contains("another column gets that name too")
    );
}

#[test]
fn invalid_keys_are_reported_when_the_feature_is_built() {
    let leaf = || FeatureSpec::builder("leaf").id_columns(["id"]);
    let invalid = "is not a feature key: the part `Video` must start with a lower-case letter or `_`";
    let dep = FeatureDep::new("Video").rename("path", "file").optional();
    assert_eq!(message(leaf().dep(dep.clone()).build()), format!("`Video` {invalid}"));
    assert_eq!(message(leaf().dep("Video").build()), format!("`Video` {invalid}"));
    let field = FieldSpec::new("text").depends_on("Video", ["audio"]).depends_on_all_of("raw/video");
    assert_eq!(message(leaf().field(field).build()), format!("`Video` {invalid}"));
    assert_eq!(message(FeatureSpec::builder("Video").id_columns(["id"]).build()), format!("`Video` {invalid}"));
    let unbuilt = FeatureSpec { deps: vec![dep], ..leaf().build().expect("a spec") };
    assert_eq!(message(FeatureGraph::new([unbuilt.clone()])), format!("`Video` {invalid}"));
    assert!(unbuilt.to_json().contains("\"feature\": \"Video\""), "{}", unbuilt.to_json());
}

#[test]
fn a_filter_of_a_dependency_is_parsed_immediately() {
    let dep = FeatureDep::new("raw/video").filter("score >");
    let error = FeatureSpec::builder("leaf").id_columns(["id"]).dep(dep).build().expect_err("no filter");
    assert!(matches!(error, Error::FilterSyntax { .. }), "{error}");
}

#[test]
fn a_graph_reports_missing_features() {
    let leaf = FeatureSpec::builder("leaf").id_columns(["id"]).dep("raw/vidoe").build().expect("a spec");
    assert_eq!(
        message(FeatureGraph::new([root("raw/video"), leaf])),
        "feature `leaf` depends on `raw/vidoe`, which the graph does not have; did you mean `raw/video`?"
    );
    assert_eq!(
        message(FeatureGraph::new([root("a"), root("a")])),
        "feature `a` is defined twice; give one of the two another key"
    );
    let graph = FeatureGraph::new([root("raw/video"), root("raw/text")]).expect("a graph");
    assert_eq!(
        message(graph.plan("raw/vide").map(|_| ())),
        "feature `raw/vide` is not in the graph; did you mean `raw/video`?"
    );
    assert_eq!(message(graph.plan("unlike/anything").map(|_| ())), "feature `unlike/anything` is not in the graph");
}

#[test]
fn a_field_dependency_has_to_exist() {
    let leaf = |field: FieldSpec| {
        let spec = FeatureSpec::builder("leaf").id_columns(["id"]).dep("raw/video").field(field).build()?;
        FeatureGraph::new([root("raw/video"), root("raw/other"), spec])
    };
    assert_eq!(
        message(leaf(FieldSpec::new("text").depends_on("raw/video", ["audoi"]))),
        "field `text` of feature `leaf` depends on `raw/video.audoi`, which does not exist; did you mean `raw/video.audio`?"
    );
    assert!(
        message(leaf(FieldSpec::new("text").depends_on("raw/other", ["audio"])))
            .contains("depends on `raw/other`, which does not exist")
    );
    let none = FeatureDep::new("raw/video").fields_mapping(FieldsMapping::None);
    let spec = FeatureSpec::builder("leaf").id_columns(["id"]).dep(none).field("text").build().expect("a spec");
    assert_eq!(
        message(FeatureGraph::new([root("raw/video"), spec])),
        "field `text` of feature `leaf` depends on no upstream field; name its `deps` or give a dependency another fields_mapping"
    );
}

#[test]
fn a_cycle_is_named_in_full() {
    let spec = |key: &str, dep: &str| FeatureSpec::builder(key).id_columns(["id"]).dep(dep).build().expect("a spec");
    let error = FeatureGraph::new([spec("a", "b"), spec("b", "c"), spec("c", "a"), spec("d", "a")]);
    assert_eq!(
        message(error),
        "features depend on each other in a cycle: a -> b -> c -> a; remove one of these dependencies"
    );
    let own = message(FeatureGraph::new([spec("a", "a")]));
    assert_eq!(own, "features depend on each other in a cycle: a -> a; remove one of these dependencies");
}

#[test]
fn versions_have_a_minimum_length() {
    let error = FeatureGraph::builder().features([root("a")]).hash_truncation_length(7).build();
    assert!(message(error).contains("keep at least 8 characters"));
}

#[test]
fn the_json_form_is_read_back_unchanged() {
    let mapping = [("text".parse().expect("a key"), ["audio".parse().expect("a key")].into())].into();
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
        .dep(FeatureDep::new("raw/text").lineage(Lineage::aggregation(["id"])))
        .field(
            FieldSpec::new("text").code_version("2").depends_on("raw/video", ["audio"]).depends_on_all_of("raw/text"),
        )
        .field(FieldSpec::new("all").depends_on_everything())
        .metadata("owner", "vision")
        .description("Ünïcode 🙂")
        .build()
        .expect("a spec");
    assert_eq!(FeatureSpec::from_json(&spec.to_json()).expect("its own JSON"), spec);
    let short =
        FeatureSpec::from_json(r#"{"key": ["raw", "video"], "id_columns": ["id"], "deps": ["up"], "fields": ["a"]}"#);
    assert_eq!(short.expect("short forms").deps, [FeatureDep::new("up")]);
    assert!(message(FeatureSpec::from_json("{")).contains("its JSON cannot be read"));
    assert!(
        message(FeatureSpec::from_json(
            r#"{"key": "a", "id_columns": ["id"], "fields": [{"key": "x", "deps": "all"}]}"#
        ))
        .starts_with("feature `a`")
    );
}

#[test]
fn external_features_do_not_count_in_the_project_version() {
    let own = FeatureGraph::new([root("a")]).expect("a graph");
    let with_external = FeatureGraph::builder().features([root("a")]).external([root("b")]).build().expect("a graph");
    assert_eq!(own.project_version(), with_external.project_version());
    let nothing = FeatureGraph::builder().external([root("b")]).build().expect("a graph");
    assert_eq!(nothing.project_version(), "empty");
}
