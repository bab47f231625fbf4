//! Stores by their names in a `metaxy.toml`: a small corpus, and the pipeline with which backends try their settings.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use metaxy_core::config::Environment;
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, FieldSpec, MetaxyConfig, Result, Rows, columns};

/// `raw/video`, the `made/transcript` of its audio, and the `made/summary` of that.
///
/// # Panics
/// Never: the features fit together.
pub fn graph() -> FeatureGraph {
    let spec = |key: &str| FeatureSpec::builder(key).id_columns(["video_id"]);
    let text = FieldSpec::new("text").depends_on("raw/video", ["audio"]);
    let specs = [
        spec("raw/video").fields(["audio", "frames"]).build(),
        spec("made/transcript").dep("raw/video").field(text).build(),
        spec("made/summary").dep("made/transcript").build(),
    ];
    FeatureGraph::new(specs.map(|spec| spec.expect("a spec"))).expect("a graph")
}

/// Samples of `raw/video`.
///
/// # Panics
/// Never: the columns have one length.
pub fn videos(ids: Range<i64>) -> RecordBatch {
    let text =
        |of: &str| Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("{of}{id}")))) as ArrayRef;
    let provenance = columns::by_field(["audio", "frames"].map(|field| (field, text(field))));
    RecordBatch::try_from_iter([
        ("video_id", Arc::new(Int64Array::from_iter_values(ids.clone())) as ArrayRef),
        ("path", text("s3://corpus/")),
        (columns::PROVENANCE_BY_FIELD, provenance.expect("texts")),
    ])
    .expect("a batch")
}

/// Writes `home/metaxy.toml` and loads it, with `HOME` as the only variable of the environment.
///
/// # Errors
/// Those of the configuration.
///
/// # Panics
/// Where the file cannot be written.
pub fn load(home: &Path, text: &str) -> Result<MetaxyConfig> {
    std::fs::write(home.join("metaxy.toml"), text).expect("the file is written");
    let environment = Environment::from_iter([("HOME", home.display().to_string())]);
    MetaxyConfig::loader().directory(home).environment(environment).load()
}

/// A root in the store `prod`, and a pipeline in the default store `dev`, which falls back on it: what is made goes into
/// `dev`, and `prod` stays as it was. `prod_now` shows everything that `prod` keeps.
///
/// # Panics
/// Where that is not so; this is a test.
pub async fn dev_leaves_prod_alone<S: PartialEq>(config: &MetaxyConfig, prod_now: impl Fn() -> S) {
    config.check().expect("the configuration is sound");
    let prod = config.open_store("prod", graph(), AccessMode::ReadWrite).await.expect("prod opens");
    prod.write("raw/video", videos(0..5)).await.expect("prod is written");
    prod.close().await.expect("prod closes");
    let before = prod_now();

    let dev = config.open_default_store(graph(), AccessMode::ReadWrite).await.expect("dev opens");
    assert_eq!(dev.name(), "dev");
    for feature in ["made/transcript", "made/summary"] {
        let increment = dev.resolve_update(feature).await.expect("an increment");
        let found = [&increment.new, &increment.stale, &increment.orphaned].map(Rows::num_rows);
        assert_eq!(found, [5, 0, 0], "{feature}");
        dev.write(feature, increment.new).await.expect("dev is written");
        assert!(dev.resolve_update(feature).await.expect("an increment").is_empty(), "{feature}");
        assert_eq!(dev.store_of(feature).await.expect("a store").as_deref(), Some("dev"));
    }
    assert_eq!(dev.store_of("raw/video").await.expect("a store").as_deref(), Some("prod"));
    let rows = dev.read("made/summary").columns(["video_id", "path"]).await.expect("a read").rows().await;
    assert_eq!(rows.expect("rows").num_rows(), 5);
    dev.close().await.expect("dev closes");
    assert!(prod_now() == before, "prod has been written");
}

/// Settings of the default store `dev`, each with what it has to be told of them behind the name of the file:
/// `3: \`stores.dev.databse\`: unknown key`. The first line of the file is `[stores.dev]`, the second its type.
///
/// # Panics
/// Where something else is said; this is a test.
pub async fn settings_are_refused(kind: &str, cases: &[(&str, &str)]) {
    let home = tempfile::tempdir().expect("a temporary directory");
    for (settings, told) in cases {
        let config = load(home.path(), &format!("[stores.dev]\ntype = '{kind}'\n{settings}")).expect("a configuration");
        let opened = config.open_default_store(graph(), AccessMode::ReadWrite).await;
        let error = opened.err().unwrap_or_else(|| panic!("{settings} is accepted"));
        assert_eq!(error.to_string(), format!("{}:{told}", home.path().join("metaxy.toml").display()));
    }
}

/// A write makes no table where the configuration, or the settings of the store, forbid it. `store` is the default store
/// with all that it needs, in a directory `${HOME}`.
///
/// # Panics
/// Where a table is made; this is a test.
pub async fn no_table_is_made_where_that_is_forbidden(store: &str) {
    let home = tempfile::tempdir().expect("a temporary directory");
    for text in [
        format!("auto_create_tables = false\n{store}"),
        format!("auto_create_tables = true\n{store}\nauto_create_tables = false"),
    ] {
        let config = load(home.path(), &text).expect("a configuration");
        let store = config.open_default_store(graph(), AccessMode::ReadWrite).await.expect("the store opens");
        let written = store.write("raw/video", videos(0..1)).await;
        assert!(matches!(written, Err(Error::TableMissing { .. })), "{written:?}");
    }
}
