//! The example in the documentation of the Python package, unchanged: `dev` on disk with the fallback `prod` on S3.

use metaxy_core::MetaxyConfig;
use metaxy_core::config::Environment;
use metaxy_delta as _;
use metaxy_testkit::fixtures::configured::dev_leaves_prod_alone;
use metaxy_testkit::servers::s3::{self, Bucket};

/// The type strings of the Delta store in versions of the Python package.
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

/// Returns the environment, which has the location and the credentials of the bucket instead of the file.
fn environment(home: &std::path::Path, bucket: &Bucket) -> Environment {
    let options = serde_json::to_string(&bucket.storage_options()).unwrap();
    Environment::from_iter([
        ("HOME", home.display().to_string()),
        ("METAXY_STORES__PROD__CONFIG__STORAGE_OPTIONS", options),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_example_runs() {
    for kind in TYPES {
        let home = tempfile::tempdir().unwrap();
        let bucket = s3::bucket().unwrap();
        std::fs::write(home.path().join("metaxy.toml"), example(kind, &bucket)).unwrap();
        let loader = MetaxyConfig::loader().directory(home.path()).environment(environment(home.path(), &bucket));
        let config = loader.load().unwrap();
        assert!(!config.to_toml().unwrap().contains(&bucket.storage_options()["AWS_SECRET_ACCESS_KEY"]));

        dev_leaves_prod_alone(&config, || bucket.snapshot()).await;

        assert!(!bucket.snapshot().is_empty());
        assert!(home.path().join(".metaxy/dev/made/summary.delta/_delta_log").is_dir());
        assert!(!home.path().join(".metaxy/dev/raw").exists());
    }
}
