//! Unusable locations, logs and files are refused with an error that names the table and the cause.

use std::fs;

use metaxy_core::{AccessMode, Error, Result, StoreBackend};
use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::servers::s3::{self, Server};

use crate::three_commits::ThreeCommits;
use crate::{TABLE, append, key, local, on_s3, opened, read, rows};

/// Returns the errors of three calls on such a store: an existence check, a read, and a write.
async fn errors(store: &ThreeCommits) -> [Option<Error>; 3] {
    let backend = store.backend().await;
    [backend.schema(&key(TABLE)).await.err(), read(&backend).await.err(), append(&backend, rows([9])).await.err()]
}

fn assert_corrupt(error: &Error, part: &str) {
    assert!(matches!(error, Error::Corrupt { table, .. } if table == "raw__video"), "{error:?}");
    assert!(error.to_string().contains(part), "{error} does not speak of {part}");
}

fn assert_unsupported(error: &Error, part: &str) {
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("raw__video") && text.contains(part), "{text} does not speak of {part}");
}

async fn opening(settings: DeltaConfig, mode: AccessMode) -> Result<()> {
    DeltaBackend::new(settings)?.open(mode).await
}

#[tokio::test]
async fn a_root_that_is_a_file() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    for place in [file.clone(), file.join("below")] {
        for mode in [AccessMode::ReadOnly, AccessMode::ReadWrite] {
            let error = opening(local(&place), mode).await.unwrap_err();
            assert!(matches!(error, Error::NotAStore { .. }), "{error:?}");
            assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        }
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "not a directory");
}

#[tokio::test]
async fn a_root_that_is_a_table() {
    let store = ThreeCommits::new().await;
    let error = opening(local(&store.table()), AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_root() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("missing");
    let error = opening(local(&missing), AccessMode::ReadOnly).await.unwrap_err();
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error:?}");
    assert!(!missing.exists(), "a reader makes no directories");
}

#[tokio::test]
async fn a_log_of_garbage() {
    for version in 0..3 {
        let store = ThreeCommits::new().await;
        store.edit(version, |_| "this is not JSON\n".to_owned());
        for error in errors(&store).await {
            assert_corrupt(&error.expect("an error"), "log");
        }
    }
}

#[tokio::test]
async fn a_truncated_log() {
    let store = ThreeCommits::new().await;
    store.edit(1, |text| text[..text.len() - 20].to_owned());
    for error in errors(&store).await {
        assert_corrupt(&error.expect("an error"), "log");
    }
}

#[tokio::test]
async fn a_log_with_a_gap() {
    let store = ThreeCommits::new().await;
    fs::remove_file(store.commit(1)).unwrap();
    for error in errors(&store).await {
        assert_corrupt(&error.expect("an error"), "");
    }
}

#[tokio::test]
async fn a_log_that_is_damaged_while_the_store_is_open() {
    let store = ThreeCommits::new().await;
    let backend = opened(&local(store.root.path())).await;
    read(&backend).await.unwrap();
    fs::write(store.commit(3), "{\"add\": 1}\n").unwrap();
    assert_corrupt(&read(&backend).await.unwrap_err(), "log");
}

#[tokio::test]
async fn a_missing_data_file() {
    let store = ThreeCommits::new().await;
    let file = store.data_file();
    fs::remove_file(&file).unwrap();
    let [exists, reading, _] = errors(&store).await;
    assert!(exists.is_none(), "the table is there: {exists:?}");
    assert_corrupt(&reading.expect("an error"), file.file_name().unwrap().to_str().unwrap());
}

#[tokio::test]
async fn a_truncated_or_overwritten_data_file() {
    for damage in [|bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec(), |bytes: Vec<u8>| vec![b'x'; bytes.len()]] {
        let store = ThreeCommits::new().await;
        let file = store.data_file();
        fs::write(&file, damage(fs::read(&file).unwrap())).unwrap();
        let [_, reading, _] = errors(&store).await;
        assert_corrupt(&reading.expect("an error"), file.file_name().unwrap().to_str().unwrap());
    }
}

#[tokio::test]
async fn an_unknown_reader_feature() {
    let store = ThreeCommits::new().await;
    let protocol = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["timeTravelBackwards"],"writerFeatures":["timeTravelBackwards"]}}"#;
    store.edit(0, |text| replace_line(text, "protocol", protocol));
    for error in errors(&store).await {
        assert_unsupported(&error.expect("an error"), "timeTravelBackwards");
    }
}

#[tokio::test]
async fn an_unknown_reader_version() {
    let store = ThreeCommits::new().await;
    store.edit(0, |text| replace_line(text, "protocol", r#"{"protocol":{"minReaderVersion":9,"minWriterVersion":9}}"#));
    for error in errors(&store).await {
        assert_unsupported(&error.expect("an error"), "version");
    }
}

#[tokio::test]
async fn an_unknown_column_mapping() {
    let store = ThreeCommits::new().await;
    store.edit(0, |text| {
        text.replace(r#""configuration":{}"#, r#""configuration":{"delta.columnMapping.mode":"colour"}"#)
    });
    for error in errors(&store).await {
        assert_unsupported(&error.expect("an error"), "column mapping");
    }
}

/// A vector that is missing, or is outside of the table.
#[tokio::test]
async fn unreadable_deletion_vectors() {
    for (kind, part) in [("u", "deletion_vector"), ("p", "outside of the table"), ("i", "deletion vector")] {
        let store = ThreeCommits::new().await;
        let vector = format!(
            r#""dataChange":true,"deletionVector":{{"storageType":"{kind}","pathOrInlineDv":"ab^-aqEH.-t@S}}K{{vb[*k^","offset":4,"sizeInBytes":40,"cardinality":1}}"#
        );
        store.edit(0, |text| {
            let protocol = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#;
            replace_line(text, "protocol", protocol).replace(r#""dataChange":true"#, &vector)
        });
        let [_, reading, writing] = errors(&store).await;
        match kind {
            // A table that cannot be read is not written to.
            "p" => [reading, writing].into_iter().for_each(|error| assert_unsupported(&error.unwrap(), part)),
            _ => assert_corrupt(&reading.unwrap(), part),
        }
    }
}

/// Replaces the action of this kind by another one.
fn replace_line(text: &str, kind: &str, line: &str) -> String {
    let start = format!("{{\"{kind}\":");
    let lines = text.lines().map(|old| if old.starts_with(&start) { line } else { old });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Gives up soon, because waiting does not help in these tests.
fn impatient(settings: DeltaConfig) -> DeltaConfig {
    settings.storage_option("max_retries", "1").storage_option("retry_timeout", "2s")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials() {
    let bucket = s3::bucket().unwrap();
    let wrong = impatient(on_s3(&bucket)).storage_option("AWS_SECRET_ACCESS_KEY", "not-the-secret-at-all");
    let error = opening(wrong, AccessMode::ReadOnly).await.unwrap_err();
    assert!(matches!(error, Error::AccessDenied { .. }), "{error:?}");
    assert!(error.to_string().contains(&bucket.url()), "{error}");
    assert!(!format!("{error} {error:?}").contains("not-the-secret"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_bucket() {
    let bucket = s3::bucket().unwrap();
    let mut settings = impatient(on_s3(&bucket));
    settings.root_path = "s3://no-such-bucket/store".to_owned();
    let error = opening(settings, AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-bucket"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_server() {
    let bucket = s3::bucket().unwrap();
    let nowhere = impatient(on_s3(&bucket)).storage_option("AWS_ENDPOINT_URL", s3::dead_endpoint().unwrap());
    let error = opening(nowhere, AccessMode::ReadOnly).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

/// If a store cannot be reached, the existence of features is unknown; they are not reported as missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops() {
    let server = Server::start().unwrap();
    let bucket = server.bucket();
    let backend = opened(&impatient(on_s3(&bucket))).await;
    append(&backend, rows([1])).await.unwrap();
    server.set_reachable(false);
    let fresh = key("never/seen");
    let errors = [
        backend.schema(&key(TABLE)).await.map(|_| ()).unwrap_err(),
        backend.schema(&fresh).await.map(|_| ()).unwrap_err(),
        backend.tables().await.map(|_| ()).unwrap_err(),
        append(&backend, rows([2])).await.unwrap_err(),
        read(&backend).await.map(|_| ()).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    }
    server.set_reachable(true);
    append(&backend, rows([3])).await.unwrap();
    assert!(backend.schema(&fresh).await.unwrap().is_none());
}

#[test]
fn invalid_roots() {
    for root in ["", "s4://bucket/x", "http://host/x", "file://host/x"] {
        let error = DeltaBackend::new(DeltaConfig::new(root)).unwrap_err();
        assert!(matches!(&error, Error::Config { key, .. } if key == "root_path"), "{error:?}");
    }
}

/// Neither the settings nor the messages of dependencies show the user of an endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_in_an_endpoint_are_masked() {
    for (name, endpoint) in [
        ("AWS_ENDPOINT_URL", "http://ada:/hunter2@127.0.0.1:1"),
        ("aws_endpoint", "http://ada:hunter2@127.0.0.1:1/"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1/?sig=hunter2"),
    ] {
        let settings = impatient(DeltaConfig::new("s3://bucket/store"))
            .storage_option(name, endpoint)
            .storage_option("AWS_ALLOW_HTTP", "true")
            .storage_option("AWS_REGION", "eu-west-1")
            .storage_option("AWS_ACCESS_KEY_ID", "hunter2-id")
            .storage_option("AWS_SECRET_ACCESS_KEY", "hunter2-key")
            .storage_option("aws_session_token", "hunter2-session");
        let shown = format!("{settings:?}");
        let error = opening(settings, AccessMode::ReadWrite).await.unwrap_err();
        for shown in [shown, error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
