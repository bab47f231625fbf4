//! Pushed definitions: what a push records, what is read back, and the graph from a store.

mod support;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, TimestampMicrosecondType};
use futures::TryStreamExt;
use metaxy_core::definitions::{PushedDefinition, PushedDefinitions};
use metaxy_core::{
    AccessMode, Error, FeatureDep, FeatureGraph, FeatureKey, FeatureSpec, FieldSpec, HashAlgorithm, MetadataStore,
    MetaxyConfig, ScanRequest,
};
use serde_json::{Value, json};
use support::films::{graph, next_graph};

const TABLE: &str = "metaxy-system/feature_versions";

async fn open(name: &str, graph: FeatureGraph, project: &str) -> MetadataStore {
    let memory = support::Memory::at(format!("pushes/{name}"), HashAlgorithm::Xxhash32);
    MetadataStore::builder(memory, graph).name(name).project(project).open(AccessMode::ReadWrite).await.unwrap()
}

fn spec(key: &str, version: &str, deps: &[&str]) -> FeatureSpec {
    let field = FieldSpec::new("a").code_version(version);
    FeatureSpec::builder(key).id_columns(["id"]).deps(deps.iter().copied()).field(field).build().unwrap()
}

fn graph_of(specs: impl IntoIterator<Item = FeatureSpec>) -> FeatureGraph {
    FeatureGraph::new(specs).unwrap()
}

fn keys(definitions: &[PushedDefinition]) -> Vec<String> {
    definitions.iter().map(|definition| definition.feature.to_string()).collect()
}

fn versions(graph: &FeatureGraph) -> Vec<(String, String, String, bool)> {
    let version = |plan: &metaxy_core::FeaturePlan| {
        (plan.spec.key.to_string(), plan.feature_version.clone(), plan.definition_version.clone(), plan.external)
    };
    graph.features().map(version).collect()
}

async fn table(store: &MetadataStore) -> RecordBatch {
    let key: FeatureKey = TABLE.parse().unwrap();
    let scan = store.backend().scan(&key, &ScanRequest::default()).await.unwrap();
    let batches: Vec<RecordBatch> = scan.stream.try_collect().await.unwrap();
    arrow::compute::concat_batches(&scan.schema, &batches).unwrap()
}

/// Appends a row of a feature again, an hour later than all others, with other values in some columns.
async fn again(store: &MetadataStore, feature: &str, changed: &[(&str, Option<&str>)]) {
    let rows = table(store).await;
    let at = rows.column_by_name("recorded_at").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
    let later = at.values().iter().max().unwrap() + 3_600_000_000;
    let features = rows.column_by_name("feature_key").unwrap().as_string::<i32>().clone();
    let row = (0..rows.num_rows()).rfind(|row| features.value(*row) == feature).unwrap();
    let rows = rows.slice(row, 1);
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, array)| -> ArrayRef {
        match changed.iter().find(|(name, _)| name == field.name()) {
            Some((_, value)) => Arc::new(StringArray::from(vec![*value])),
            None if field.name() == "recorded_at" => Arc::new(TimestampMicrosecondArray::from(vec![later])),
            None => array.clone(),
        }
    });
    let batch = RecordBatch::try_new(rows.schema(), columns.collect()).unwrap();
    store.backend().append(&TABLE.parse().unwrap(), rows.schema(), vec![batch]).await.unwrap();
}

#[tokio::test]
async fn a_push_records_each_feature_once() {
    let store = open("once", graph(), "films").await;
    let pushed = store.push([("git_commit", "4f2a91c")]).await.unwrap();
    assert_eq!((pushed.project.as_str(), pushed.already_pushed), ("films", false));
    assert_eq!(pushed.project_version, store.graph().project_version());
    assert_eq!(
        pushed.features.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["raw/video", "made/clip", "made/text"]
    );
    let again = store.push([("git_commit", "another")]).await.unwrap();
    assert!(again.already_pushed && again.features.is_empty(), "{again:?}");
    let history = store.definitions().history().await.unwrap();
    assert_eq!(keys(&history), ["made/text", "made/clip", "raw/video"], "the newest first");
    for definition in &history {
        let plan = store.graph().plan(&definition.feature).unwrap();
        assert_eq!(definition.spec().unwrap(), *plan.spec);
        assert_eq!(definition.feature_version, plan.feature_version);
        assert_eq!(definition.definition_version, plan.definition_version);
        assert_eq!(definition.project_version, pushed.project_version);
        assert_eq!(definition.tags().unwrap()["git_commit"], "4f2a91c");
    }
}

#[tokio::test]
async fn the_table_is_that_of_the_python_package() {
    let metadata =
        |builder: metaxy_core::spec::FeatureSpecBuilder| builder.metadata("owner", "é").metadata("gpu", true);
    let one = metadata(FeatureSpec::builder("raw/video").id_columns(["id"])).field("audio").build().unwrap();
    let store = open("columns", graph_of([one]), "films").await;
    store.push([("z", json!(1)), ("a", json!({"y": [1.0, null]}))]).await.unwrap();
    let rows = table(&store).await;
    let types: Vec<String> =
        rows.schema().fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    let expected = [
        "project Utf8",
        "feature_key Utf8",
        "metaxy_feature_version Utf8",
        "metaxy_definition_version Utf8",
        "recorded_at Timestamp(µs)",
        "feature_spec Utf8",
        "feature_schema Utf8",
        "feature_class_path Utf8",
        "metaxy_project_version Utf8",
        "tags Utf8",
        "deleted_at Timestamp(µs)",
    ];
    assert_eq!(types, expected);
    let text = |name: &str| rows.column_by_name(name).unwrap().as_string::<i32>().value(0).to_owned();
    assert_eq!(
        text("feature_spec"),
        concat!(
            r#"{"key": "raw/video", "id_columns": ["id"], "deps": [], "fields": [{"key": "audio", "code_version": "#,
            r#""__metaxy_initial__", "deps": []}], "metadata": {"owner": "\u00e9", "gpu": true}, "description": null}"#
        )
    );
    assert_eq!(text("feature_schema"), "{}");
    let program = format!(r#"{{\"version\": \"{}\", \"implementation\": \"rust\"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(text("tags"), format!(r#"{{"z": 1, "a": {{"y": [1.0, null]}}, "metaxy": "{program}"}}"#));
}

#[tokio::test]
async fn a_changed_definition_is_pushed_with_its_whole_project() {
    let store = open("changed", graph(), "films").await;
    store.push(()).await.unwrap();
    let next = store.with_graph(next_graph()).unwrap();
    assert_eq!(next.push(()).await.unwrap().features.len(), 3);
    let described = FeatureGraph::new(next_graph().features().map(|plan| {
        let mut spec = plan.spec.as_ref().clone();
        spec.description = Some(format!("About {}", spec.key));
        spec
    }));
    let described = store.with_graph(described.unwrap()).unwrap();
    assert_eq!(described.push(()).await.unwrap().features.len(), 3, "metadata counts too");
    assert_eq!(store.push(()).await.unwrap().features.len(), 3, "an earlier version is pushed again");
    let history = store.definitions().feature("raw/video").history().await.unwrap();
    let found: Vec<&str> = history.iter().map(|definition| definition.feature_version.as_str()).collect();
    let [first, second] = [&store, &next].map(|store| store.graph().feature_version("raw/video").unwrap());
    assert_eq!(found, [first, second, second, first]);
    assert!(history.is_sorted_by(|one, other| one.recorded_at > other.recorded_at));
    let pushes = store.definitions().pushes().await.unwrap();
    let found: Vec<&str> = pushes.iter().map(|push| push.project_version.as_str()).collect();
    let [a, b, c] = [&store, &next, &described].map(|store| store.graph().project_version());
    assert_eq!(found, [a, c, b, a]);
    assert!(pushes.iter().all(|push| keys(&push.definitions) == ["made/clip", "made/text", "raw/video"]));
    for (version, expected) in [(a, store.graph()), (b, next.graph()), (c, described.graph())] {
        let loaded = store.definitions().project_version(version).graph().await.unwrap();
        assert_eq!(versions(&loaded), versions(expected));
        assert_eq!(loaded.project_version(), version);
    }
}

#[tokio::test]
async fn a_feature_that_a_push_lacks_is_recorded() {
    let store = open("repaired", graph(), "films").await;
    store.push(()).await.unwrap();
    again(&store, "made/clip", &[("metaxy_definition_version", Some("deadbeef"))]).await;
    let pushed = store.push(()).await.unwrap();
    assert!(pushed.already_pushed);
    assert_eq!(pushed.features, ["made/clip".parse().unwrap()], "its newest row has another definition");
    assert!(store.push(()).await.unwrap().features.is_empty(), "its stamp is later than the row's");
    // The first row of another version, as if the push had ended early.
    let next = store.with_graph(next_graph()).unwrap();
    let version = next.graph().project_version();
    let plan = next.graph().plan("made/text").unwrap();
    let changed =
        [("metaxy_project_version", Some(version)), ("metaxy_definition_version", Some(&*plan.definition_version))];
    again(&store, "made/text", &changed).await;
    let pushed = next.push(()).await.unwrap();
    assert!(pushed.already_pushed);
    assert_eq!(pushed.features, ["raw/video".parse().unwrap(), "made/clip".parse().unwrap()]);
}

#[tokio::test]
async fn projects_are_kept_apart() {
    let lake = open("projects", graph_of([spec("raw/a", "1", &[]), spec("raw/b", "1", &["raw/a"])]), "lake").await;
    lake.push(()).await.unwrap();
    let mine = FeatureGraph::builder()
        .external([spec("raw/a", "1", &[]), spec("raw/b", "1", &["raw/a"])])
        .features([spec("made/c", "1", &["raw/b"])]);
    let mine = open("projects", mine.build().unwrap(), "films").await;
    let pushed = mine.push(()).await.unwrap();
    assert_eq!(pushed.features, ["made/c".parse().unwrap()], "features of other projects are left out");
    assert!(lake.push(()).await.unwrap().already_pushed, "a push of another project changes nothing for this one");
    let all = mine.definitions();
    assert_eq!(keys(&all.latest().await.unwrap()), ["made/c", "raw/a", "raw/b"]);
    assert_eq!(keys(&all.clone().project("lake").latest().await.unwrap()), ["raw/a", "raw/b"]);
    assert_eq!(keys(&all.clone().project("films").history().await.unwrap()), ["made/c"]);
    assert_eq!(keys(&all.clone().feature("raw/b").feature("made/c").latest().await.unwrap()), ["made/c", "raw/b"]);
    let loaded = all.clone().graph().await.unwrap();
    assert_eq!(versions(&loaded), versions(mine.graph()), "the features of other projects are external");
    assert_eq!(loaded.project_version(), mine.graph().project_version());
    let loaded = all.clone().project("films").graph().await.unwrap();
    assert_eq!(versions(&loaded), versions(mine.graph()), "with what is upstream in other projects");
    let loaded = all.clone().project("lake").graph().await.unwrap();
    assert_eq!(versions(&loaded), versions(lake.graph()));
    let loaded = all.feature("raw/b").project("lake").graph().await.unwrap();
    assert_eq!(loaded.features().count(), 2, "with what is upstream");
}

#[tokio::test]
async fn a_feature_belongs_to_the_project_that_pushed_it_last() {
    let lake = open("moved", graph_of([spec("raw/a", "1", &[]), spec("raw/b", "1", &[])]), "lake").await;
    lake.push(()).await.unwrap();
    let mine = open("moved", graph_of([spec("raw/a", "2", &[])]), "films").await;
    mine.push(()).await.unwrap();
    let latest = mine.definitions().latest().await.unwrap();
    let projects: Vec<&str> = latest.iter().map(|definition| definition.project.as_str()).collect();
    assert_eq!((keys(&latest), projects), (vec!["raw/a".to_owned(), "raw/b".to_owned()], vec!["films", "lake"]));
    assert_eq!(keys(&mine.definitions().project("lake").latest().await.unwrap()), ["raw/b"]);
    let of_lake = mine.definitions().project("lake").graph().await.unwrap();
    assert_eq!(versions(&of_lake), versions(lake.graph()), "a version of a project stays whole");
}

#[tokio::test]
async fn a_removed_feature_is_left_out_unless_others_need_it() {
    let both = graph_of([spec("raw/a", "1", &[]), spec("raw/b", "1", &[])]);
    let store = open("removed", both, "lake").await;
    store.push(()).await.unwrap();
    let mine = FeatureGraph::builder().external([spec("raw/b", "1", &[])]).features([spec("made/c", "1", &["raw/b"])]);
    open("removed", mine.build().unwrap(), "films").await.push(()).await.unwrap();
    let store = store.with_graph(graph_of([spec("raw/a", "1", &[])])).unwrap();
    store.push(()).await.unwrap();
    assert_eq!(versions(&store.definitions().project("lake").graph().await.unwrap()), versions(store.graph()));
    assert_eq!(keys(&store.definitions().project("lake").latest().await.unwrap()), ["raw/a", "raw/b"]);
    let films = store.definitions().project("films").graph().await.unwrap();
    assert_eq!(films.features().map(|plan| plan.spec.key.to_string()).collect::<Vec<_>>(), ["made/c", "raw/b"]);
}

#[tokio::test]
async fn deleted_at_is_not_heeded_like_in_python() {
    let store = open("deleted", graph(), "films").await;
    store.push(()).await.unwrap();
    let rows = table(&store).await;
    let at = rows.num_columns() - 1;
    let mut columns = rows.columns().to_vec();
    columns[at] = Arc::new(TimestampMicrosecondArray::from(vec![1; rows.num_rows()]));
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    store.backend().append(&TABLE.parse().unwrap(), rows.schema(), vec![rows]).await.unwrap();
    assert!(store.push(()).await.unwrap().already_pushed);
    assert_eq!(store.definitions().latest().await.unwrap().len(), 3);
    assert_eq!(versions(&store.definitions().graph().await.unwrap()), versions(store.graph()));
    let deleted = store.definitions().history().await.unwrap();
    assert_eq!(deleted.iter().filter(|definition| definition.deleted_at == Some(1)).count(), 3);
}

#[tokio::test]
async fn unusable_rows_are_listed_but_make_no_graph() {
    let cases: [(&str, &str, &str); 7] = [
        ("feature_spec", r#"{"key": "made/clip""#, "its `feature_spec` is not a definition"),
        ("feature_spec", r#"{"key": "made/clip", "id_columns": []}"#, "the list of id columns is empty"),
        ("feature_spec", r#"{"key": "made/other", "id_columns": ["id"]}"#, "defines `made/other`"),
        ("feature_spec", r#"{"key": "made/clip", "id_columns": ["id"]}"#, "but its JSON is version"),
        ("feature_schema", "{", "its `feature_schema` is not JSON"),
        ("feature_schema", r#"{"title": "Clip"}"#, "it has something that this version of the library does not know"),
        ("metaxy_definition_version", "0123456789abcdef", "its versions have 16 characters"),
    ];
    for (number, (column, value, message)) in cases.into_iter().enumerate() {
        let store = open(&format!("unusable-{number}"), graph(), "films").await;
        store.push(()).await.unwrap();
        again(&store, "made/clip", &[(column, Some(value))]).await;
        let error = store.definitions().graph().await.unwrap_err();
        assert!(matches!(&error, Error::UnusableDefinition { feature, .. } if feature == "made/clip"), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("the definition of `made/clip` that project `films` pushed at 20"), "{text}");
        assert!(text.contains(message), "{text}");
        assert_eq!(store.definitions().history().await.unwrap().len(), 4);
        assert_eq!(store.definitions().latest().await.unwrap().len(), 3);
        let upstream = store.definitions().feature("raw/video").graph().await.unwrap();
        assert_eq!(upstream.features().count(), 1, "other features are not affected");
        if column == "metaxy_definition_version" {
            store.push(()).await.unwrap();
            store.definitions().graph().await.expect("a push repairs it");
        }
    }
}

#[tokio::test]
async fn rows_without_values_are_damaged() {
    for column in ["project", "feature_key", "metaxy_project_version", "feature_spec"] {
        let store = open(&format!("null-{column}"), graph(), "films").await;
        store.push(()).await.unwrap();
        again(&store, "made/clip", &[(column, None)]).await;
        let error = store.definitions().history().await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("a row has no value in `{column}`")), "{error}");
    }
    let store = open("bad-key", graph(), "films").await;
    store.push(()).await.unwrap();
    again(&store, "made/clip", &[("feature_key", Some("Made/Clip"))]).await;
    let error = store.definitions().history().await.unwrap_err();
    assert!(matches!(&error, Error::UnusableDefinition { feature, .. } if feature == "Made/Clip"), "{error:?}");
}

#[tokio::test]
async fn a_table_of_another_program_is_damaged() {
    let store = open("foreign", graph(), "films").await;
    let schema = Arc::new(Schema::new(vec![Field::new("id", arrow::datatypes::DataType::Utf8, true)]));
    let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(vec!["1"]))]).unwrap();
    store.backend().append(&TABLE.parse().unwrap(), schema, vec![rows]).await.unwrap();
    let error = store.push(()).await.unwrap_err();
    assert!(error.to_string().contains("it has no column `project`"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_pushed_or_loaded_says_so() {
    let store = open("refused", graph(), "films").await;
    let message = |error: Error| error.to_string();
    let text = message(store.definitions().graph().await.unwrap_err());
    assert_eq!(text, "store `refused` has no pushed definitions; push them first, or ask for others");
    assert!(store.definitions().latest().await.unwrap().is_empty());
    assert!(store.definitions().history().await.unwrap().is_empty());
    let text = message(store.push([("metaxy", "1")]).await.unwrap_err());
    assert!(text.starts_with("`tags.metaxy`: this tag holds the version of the program"), "{text}");
    let text = message(store.push(()).project("a b").await.unwrap_err());
    assert!(text.contains("may hold letters, digits"), "{text}");
    let empty = store.with_graph(graph_of([])).unwrap();
    assert!(matches!(empty.push(()).await, Err(Error::NothingToPush { .. })));
    store.push(()).await.unwrap();
    for selection in [store.definitions().project("x"), store.definitions().project_version("x")] {
        assert!(matches!(selection.graph().await, Err(Error::NotPushed { .. })));
    }
    let text = message(store.definitions().project("films").feature("no/such").graph().await.unwrap_err());
    assert!(text.contains("has no pushed definitions of project `films` of `no/such`"), "{text}");
    let invalid = |definitions: PushedDefinitions| async move { definitions.feature("No").history().await };
    assert!(matches!(invalid(store.definitions()).await, Err(Error::InvalidKey(_))));
    let memory = || support::Memory::at("pushes/refused", HashAlgorithm::Xxhash32);
    let reader = MetadataStore::builder(memory(), graph()).project("films").open(AccessMode::ReadOnly).await.unwrap();
    assert!(matches!(reader.push(()).await, Err(Error::ReadOnly { .. })));
    let nameless = MetadataStore::builder(memory(), graph()).open(AccessMode::ReadWrite).await.unwrap();
    let text = message(nameless.push(()).await.unwrap_err());
    assert!(text.contains("belongs to no project; set `project` in metaxy.toml"), "{text}");
    assert!(nameless.push(()).project("films").await.unwrap().already_pushed);
    let error = MetadataStore::builder(memory(), graph()).project("").open(AccessMode::ReadWrite).await.unwrap_err();
    assert!(error.to_string().contains("the project's name is empty"), "{error}");
}

#[tokio::test]
async fn an_upstream_feature_that_was_never_pushed_is_missed_by_name() {
    let mine = FeatureGraph::builder().external([spec("raw/b", "1", &[])]).features([spec("made/c", "1", &["raw/b"])]);
    let store = open("missing", mine.build().unwrap(), "films").await;
    store.push(()).await.unwrap();
    let error = store.definitions().graph().await.unwrap_err();
    assert!(matches!(error, Error::MissingDependency { .. }), "{error:?}");
}

#[tokio::test]
async fn the_project_of_the_configuration_counts() {
    let text =
        "project = 'lake-1'\n[stores.dev]\ntype = 'memory'\n[stores.dev.config]\nroot_path = 'pushes/configured'";
    let config = MetaxyConfig::from_toml_str(text).unwrap();
    let store = config.open_store("dev", graph(), AccessMode::ReadWrite).await.unwrap();
    assert_eq!(store.project(), Some("lake-1"));
    assert_eq!(store.push(()).await.unwrap().project, "lake-1");
    assert_eq!(store.push(()).project("other").await.unwrap().project, "other");
}

#[tokio::test]
async fn longer_versions_and_schemas_are_loaded_too() {
    let build = || {
        FeatureGraph::builder()
            .features([spec("raw/a", "1", &[])])
            .schema("raw/a".parse().unwrap(), json!({"title": "A", "properties": {"path": {"type": "string"}}}))
            .hash_truncation_length(16)
    };
    let store = open("longer", build().build().unwrap(), "films").await;
    store.push(()).await.unwrap();
    let loaded = store.definitions().graph().await.unwrap();
    assert_eq!(versions(&loaded), versions(store.graph()));
    assert_eq!(loaded.plan("raw/a").unwrap().schema["title"], "A");
    let shorter = store.with_graph(graph_of([])).unwrap();
    let error = shorter.definitions().graph().await.unwrap_err();
    assert!(error.to_string().contains("its versions have 16 characters, those of the store's graph 8"), "{error}");
}

/// Rows that the Python package has pushed: two projects, and every kind of dependency.
fn recorded() -> Value {
    serde_json::from_str(include_str!("pushed_by_python.json")).unwrap()
}

/// Opens a store with the recorded rows.
async fn recorded_store(name: &str) -> MetadataStore {
    let store = open(name, graph_of([]), "films").await;
    let recording = recorded();
    let rows = recording["rows"].as_array().unwrap();
    let columns = rows[0].as_object().unwrap().keys().map(|name| -> (&str, ArrayRef) {
        let texts = StringArray::from(rows.iter().map(|row| row[name].as_str()).collect::<Vec<_>>());
        let time = arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
        match name.as_str() {
            "recorded_at" | "deleted_at" => (name, arrow::compute::cast(&texts, &time).unwrap()),
            _ => (name, Arc::new(texts)),
        }
    });
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    store.backend().append(&TABLE.parse().unwrap(), batch.schema(), vec![batch]).await.unwrap();
    store
}

#[tokio::test]
async fn definitions_of_the_python_package_are_loaded() {
    let store = recorded_store("recorded").await;
    let recording = recorded();
    let films = store.definitions().project("films").graph().await.unwrap();
    for (key, version) in recording["versions"].as_object().unwrap() {
        assert_eq!(films.feature_version(key.as_str()).unwrap(), version, "{key}");
    }
    assert_eq!(films.features().filter(|plan| plan.external).count(), 3);
    for project in ["films", "lake"] {
        let graph = store.definitions().project(project).graph().await.unwrap();
        assert_eq!(graph.project_version(), recording["project_versions"][project]);
    }
    let history = store.definitions().feature("raw/video").history().await.unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[0].tags().unwrap()["git_commit"], "4f2a91c");
    assert!(history[0].class_path.as_deref().unwrap().ends_with("Video"), "{:?}", history[0].class_path);
}

#[tokio::test]
async fn definitions_of_the_python_package_are_pushed_again_in_its_bytes() {
    let source = recorded_store("bytes-source").await;
    let target = open("bytes", source.definitions().project("films").graph().await.unwrap(), "films").await;
    let mut pushed = target.push(()).await.unwrap().features;
    let lake = source.definitions().project("lake").graph().await.unwrap();
    pushed.extend(target.with_graph(lake).unwrap().push(()).project("lake").await.unwrap().features);
    assert_eq!(pushed.len(), 5);
    for key in pushed {
        let newest = |store: &MetadataStore| store.definitions().feature(&key);
        let [theirs, ours] = [newest(&source).latest().await.unwrap(), newest(&target).latest().await.unwrap()];
        assert_eq!(ours[0].spec_json, theirs[0].spec_json, "{key}");
        assert_eq!(ours[0].schema_json, theirs[0].schema_json, "{key}");
        assert_eq!(ours[0].definition_version, theirs[0].definition_version, "{key}");
        assert_eq!(ours[0].feature_version, theirs[0].feature_version, "{key}");
        assert_eq!(ours[0].project_version, theirs[0].project_version, "{key}");
    }
    // What Python has pushed is not pushed again.
    let store = source.with_graph(source.definitions().project("films").graph().await.unwrap()).unwrap();
    let again = store.push(()).await.unwrap();
    assert!(again.already_pushed && again.features.is_empty(), "{again:?}");
}

#[test]
fn renames_keep_their_order() {
    let dep = FeatureDep::new("raw/a").rename("z", "one").rename("a", "two");
    let spec = FeatureSpec::builder("made/b").id_columns(["id"]).dep(dep).build().unwrap();
    assert!(spec.to_pushed_json().contains(r#""rename": {"z": "one", "a": "two"}"#), "{}", spec.to_pushed_json());
    assert!(spec.to_json().contains(r#""rename": {"a": "two", "z": "one"}"#));
}
