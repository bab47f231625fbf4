//! The example of the Python package's documentation, as it stands there: `dev` on the disk falls back on `prod` on S3.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use metaxy_core::config::Environment;
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, FieldSpec, MetaxyConfig, Rows, columns};
use metaxy_delta as _;
use metaxy_testkit::s3_server::{self, Bucket};

/// The type strings under which the Python package has had its store.
const TYPES: [&str; 4] = [
    "metaxy.ext.metadata_stores.delta.DeltaMetadataStore",
    "metaxy.ext.polars.handlers.delta.DeltaMetadataStore",
    "metaxy.ext.polars.DeltaMetadataStore",
    "metaxy.ext.delta.DeltaMetadataStore",
];

fn example(kind: &str, bucket: &Bucket) -> String {
    format!(
        r#"
[stores.dev]
type = "{kind}"
root_path = "${{HOME}}/.metaxy/dev"
fallback_stores = ["prod"]

[stores.prod]
type = "{kind}"
root_path = "{}/metadata"
"#,
        bucket.url()
    )
}

/// Where the bucket is and who may use it is said by the environment, not by the file.
fn environment(home: &std::path::Path, bucket: &Bucket) -> Environment {
    let options = serde_json::to_string(&bucket.storage_options()).unwrap();
    Environment::from_iter([
        ("HOME", home.display().to_string()),
        ("METAXY_STORES__PROD__CONFIG__STORAGE_OPTIONS", options),
    ])
}

fn graph() -> FeatureGraph {
    let spec = |key: &str| FeatureSpec::builder(key).id_columns(["video_id"]);
    let text = FieldSpec::new("text").depends_on("raw/video", ["audio"]);
    FeatureGraph::new([
        spec("raw/video").fields(["audio", "frames"]).build().unwrap(),
        spec("processed/transcript").dep("raw/video").field(text).build().unwrap(),
        spec("processed/summary").dep("processed/transcript").build().unwrap(),
    ])
    .unwrap()
}

fn videos(ids: std::ops::Range<i64>) -> RecordBatch {
    let text =
        |of: &str| Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("{of}{id}")))) as ArrayRef;
    let fields = columns::by_field_fields(["audio", "frames"]);
    let provenance = StructArray::new(fields, vec![text("audio"), text("frames")], None);
    RecordBatch::try_from_iter([
        ("video_id", Arc::new(Int64Array::from_iter_values(ids.clone())) as ArrayRef),
        ("path", text("s3://corpus/")),
        (columns::PROVENANCE_BY_FIELD, Arc::new(provenance)),
    ])
    .unwrap()
}

/// What a pipeline makes of its input: another column for each row.
fn processed(rows: &Rows) -> Vec<RecordBatch> {
    let add = |batch: &RecordBatch| {
        let made: ArrayRef = Arc::new(StringArray::from(vec!["made"; batch.num_rows()]));
        let schema = batch.schema();
        let named = schema.fields().iter().map(|field| field.name().as_str()).zip(batch.columns().iter().cloned());
        RecordBatch::try_from_iter_with_nullable(
            named.filter(|(name, _)| *name != "result").chain([("result", made)]).map(|(n, array)| (n, array, true)),
        )
        .unwrap()
    };
    rows.batches().iter().map(add).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_works_as_it_stands() {
    for kind in TYPES {
        let home = tempfile::tempdir().unwrap();
        let bucket = s3_server::bucket().unwrap();
        std::fs::write(home.path().join("metaxy.toml"), example(kind, &bucket)).unwrap();
        let loader = MetaxyConfig::loader().directory(home.path()).environment(environment(home.path(), &bucket));
        let config = loader.load().unwrap();
        assert!(!config.to_toml().unwrap().contains(&bucket.storage_options()["AWS_SECRET_ACCESS_KEY"]));

        let prod = config.open_store("prod", graph(), AccessMode::ReadWrite).await.unwrap();
        prod.write("raw/video", videos(0..5)).await.unwrap();
        prod.close().await.unwrap();
        let before: BTreeMap<_, _> = bucket.snapshot();
        assert!(!before.is_empty());

        let dev = config.open_default_store(graph(), AccessMode::ReadWrite).await.unwrap();
        assert_eq!(dev.name(), "dev");
        for feature in ["processed/transcript", "processed/summary"] {
            let increment = dev.resolve_update(feature).await.unwrap();
            let found = [&increment.new, &increment.stale, &increment.orphaned].map(Rows::num_rows);
            assert_eq!(found, [5, 0, 0], "{feature}");
            dev.write(feature, processed(&increment.new)).await.unwrap();
            assert!(dev.resolve_update(feature).await.unwrap().is_empty(), "{feature}");
        }
        assert_eq!(dev.store_of("raw/video").await.unwrap().as_deref(), Some("prod"));
        assert_eq!(dev.store_of("processed/summary").await.unwrap().as_deref(), Some("dev"));
        let rows = dev.read("processed/summary").columns(["video_id", "result"]).await.unwrap().rows().await.unwrap();
        assert_eq!(rows.num_rows(), 5);
        dev.close().await.unwrap();

        assert!(home.path().join(".metaxy/dev/processed/summary.delta/_delta_log").is_dir());
        assert!(!home.path().join(".metaxy/dev/raw").exists());
        assert!(bucket.snapshot() == before, "prod has been written");
    }
}
