//! A location is used exactly as it is written, or refused; and it is not written to if other programs use other locks.

use std::collections::BTreeSet;

use metaxy_core::{AccessMode, Error, StoreBackend};
use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::servers::s3;

use crate::{append, on_s3, opened, read_ids, rows};

const NAMES: [&str; 16] = [
    "run", "run#1", "run#2", "run?1", "run?2", "run 1", "run%201", "run%20", "run%", "run%zz", "run\t1", "run1",
    "run1 ", "run\n1", "run/../1", "rün{1}",
];

/// Writes a row to each store that can be opened, and checks that each store reads only its own.
async fn assert_apart(settings: impl Fn(&str) -> DeltaConfig) -> BTreeSet<&'static str> {
    let mut opened_names = BTreeSet::new();
    for (id, name) in (0i64..).zip(NAMES) {
        match DeltaBackend::new(settings(name)) {
            Ok(_) => append(&opened(&settings(name)).await, rows([id])).await.unwrap(),
            Err(error) => {
                assert!(matches!(&error, Error::Config { key, .. } if key == "root_path"), "{name:?}: {error:?}");
                continue;
            }
        }
        opened_names.insert(name);
    }
    for (id, name) in (0i64..).zip(NAMES).filter(|(_, name)| opened_names.contains(name)) {
        assert_eq!(read_ids(&opened(&settings(name)).await).await.unwrap(), [id], "{name:?}");
    }
    opened_names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_on_s3_are_exact_keys() {
    let bucket = s3::bucket().unwrap();
    let found = assert_apart(|name| {
        let mut settings = on_s3(&bucket);
        settings.root_path = format!("{}/{name}", bucket.url());
        settings
    })
    .await;
    assert!(["run", "run 1", "run%", "run%zz", "run1", "rün{1}"].iter().all(|name| found.contains(name)), "{found:?}");
    let keys = bucket.snapshot();
    let roots: BTreeSet<&str> = keys.keys().map(|key| key.split_once("/raw/video.delta/").unwrap().0).collect();
    assert_eq!(roots, found);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_are_exact_paths() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().display().to_string();
    let found = assert_apart(|name| DeltaConfig::new(format!("{place}/{name}"))).await;
    assert!(["run", "run#1", "run?2", "run 1", "run%zz", "run1 "].iter().all(|name| found.contains(name)), "{found:?}");
    let urls = tempfile::tempdir().unwrap();
    let place = urls.path().display().to_string();
    for name in ["run#1", "run?1", "run\t1"] {
        let refused = DeltaBackend::new(DeltaConfig::new(format!("file://{place}/{name}")));
        assert!(matches!(refused, Err(Error::Config { .. })), "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_settings_of_other_programs_are_not_ignored() {
    let bucket = s3::bucket().unwrap();
    append(&opened(&on_s3(&bucket)).await, rows([1])).await.unwrap();
    let open = async |settings: &DeltaConfig, mode| {
        let backend = DeltaBackend::new(settings.clone()).unwrap();
        backend.open(mode).await.map(|()| backend)
    };
    for (name, value) in [
        ("AWS_S3_LOCKING_PROVIDER", "dynamodb"),
        ("aws_s3_locking_provider", "another"),
        ("AWS_S3_ALLOW_UNSAFE_RENAME", "true"),
        ("aws_s3_allow_unsafe_rename", "1"),
    ] {
        let settings = on_s3(&bucket).storage_option(name, value);
        let error = open(&settings, AccessMode::ReadWrite).await.unwrap_err();
        assert!(
            matches!(&error, Error::Config { key, .. } if key.to_lowercase().contains(&name.to_lowercase())),
            "{error:?}"
        );
        assert!(error.to_string().contains("ignore_lock_settings"), "{error}");
        let reader = open(&settings, AccessMode::ReadOnly).await.unwrap();
        assert_eq!(read_ids(&reader).await.unwrap(), [1]);
        open(&settings.ignore_lock_settings(true), AccessMode::ReadWrite).await.unwrap();
    }
    let off = on_s3(&bucket).storage_option("AWS_S3_ALLOW_UNSAFE_RENAME", "false");
    open(&off, AccessMode::ReadWrite).await.unwrap();
}
