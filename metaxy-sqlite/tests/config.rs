//! SQLite stores by their names in a configuration.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field};
use metaxy_core::config::{Environment, MetaxyConfig};
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, FieldSpec, Result};
use metaxy_sqlite as _;

fn graph() -> FeatureGraph {
    let spec = |key: &str| FeatureSpec::builder(key).id_columns(["video_id"]);
    FeatureGraph::new([
        spec("raw/video").fields(["audio", "frames"]).build().unwrap(),
        spec("made/transcript")
            .dep("raw/video")
            .field(FieldSpec::new("text").depends_on("raw/video", ["audio"]))
            .build()
            .unwrap(),
        spec("made/summary").dep("made/transcript").build().unwrap(),
    ])
    .unwrap()
}

fn videos(ids: &[i64]) -> RecordBatch {
    let text = |of: &str| Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("{of}{id}")))) as ArrayRef;
    let field = |name| (Arc::new(Field::new(name, DataType::Utf8, true)), text(name));
    let provenance = StructArray::from(vec![field("audio"), field("frames")]);
    RecordBatch::try_from_iter([
        ("video_id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef),
        ("metaxy_provenance_by_field", Arc::new(provenance) as ArrayRef),
    ])
    .unwrap()
}

fn load(home: &Path, text: &str) -> Result<MetaxyConfig> {
    std::fs::write(home.join("metaxy.toml"), text).unwrap();
    let environment = Environment::from_iter([("HOME", home.display().to_string())]);
    MetaxyConfig::loader().directory(home).environment(environment).load()
}

const CHAIN: &str = r#"
[stores.dev]
type = "sqlite"
database = "${HOME}/dev.db"
fallback_stores = ["prod"]

[stores.prod]
type = "sqlite"
[stores.prod.config]
database = "${HOME}/prod.db"
busy_timeout_ms = "1000"
"#;

#[tokio::test]
async fn a_pipeline_whose_root_lives_in_prod_leaves_prod_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let config = load(home.path(), CHAIN).unwrap();
    config.check().unwrap();
    let prod = config.open_store("prod", graph(), AccessMode::ReadWrite).await.unwrap();
    prod.write("raw/video", videos(&[1, 2, 3])).await.unwrap();
    prod.close().await.unwrap();
    let bytes = || std::fs::read(home.path().join("prod.db")).unwrap();
    let before = bytes();

    let dev = config.open_default_store(graph(), AccessMode::ReadWrite).await.unwrap();
    for feature in ["made/transcript", "made/summary"] {
        let increment = dev.resolve_update(feature).await.unwrap();
        assert_eq!(increment.new.num_rows(), 3);
        dev.write(feature, increment.new).await.unwrap();
        assert!(dev.resolve_update(feature).await.unwrap().is_empty());
    }
    assert_eq!(dev.store_of("raw/video").await.unwrap().as_deref(), Some("prod"));
    assert_eq!(dev.store_of("made/summary").await.unwrap().as_deref(), Some("dev"));
    dev.close().await.unwrap();
    assert_eq!(bytes(), before);
}

#[tokio::test]
async fn settings_that_do_not_fit_are_shown_with_their_place() {
    let home = tempfile::tempdir().unwrap();
    for (setting, told) in [
        ("databse = 'x.db'", "3: `stores.dev.databse`: unknown key; did you mean `database`?"),
        (
            "database = 'x.db'\nbusy_timeout_ms = -1",
            "4: `stores.dev.busy_timeout_ms`: -1 does not fit; expected a whole number from 0 to 4294967295",
        ),
        (
            "database = 'x.db'\ntable_prefix = '1'",
            "4: `stores.dev.table_prefix`: use ASCII letters, digits and `_`, and start with no digit",
        ),
        ("database = ''", "3: `stores.dev.database`: give the path of a file, or `:memory:`"),
        ("table_prefix = 'x'", "1: `stores.dev`: `database` is missing"),
    ] {
        let config = load(home.path(), &format!("[stores.dev]\ntype = 'sqlite'\n{setting}")).unwrap();
        let error = config.open_default_store(graph(), AccessMode::ReadWrite).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{}:{told}", home.path().join("metaxy.toml").display()));
    }
}

#[tokio::test]
async fn no_table_is_made_where_the_configuration_forbids_it() {
    let home = tempfile::tempdir().unwrap();
    let store = "[stores.dev]\ntype = 'sqlite'\ndatabase = '${HOME}/no.db'";
    for text in [
        format!("auto_create_tables = false\n{store}"),
        format!("auto_create_tables = true\n{store}\nauto_create_tables = false"),
    ] {
        let config = load(home.path(), &text).unwrap();
        let store = config.open_default_store(graph(), AccessMode::ReadWrite).await.unwrap();
        let error = store.write("raw/video", videos(&[1])).await.unwrap_err();
        assert!(matches!(error, Error::TableMissing { .. }), "{error}");
    }
}
