//! Errors of the storage system keep their case: full, denied, failing, unreachable and damaged differ.

use std::time::{Duration, Instant};

use metaxy_core::{Error, StoreBackend};
use metaxy_delta::DeltaConfig;
use metaxy_testkit::servers::s3::{self, Bucket, Fault};

use crate::{TABLE, append, key, on_s3, opened, read, rows};

/// Requests fail at once, and are retried once.
fn impatient(bucket: &Bucket) -> DeltaConfig {
    on_s3(bucket).storage_option("max_retries", "1").storage_option("retry_timeout", "5s")
}

fn is_of_kind(fault: Fault, error: &Error) -> bool {
    match fault {
        Fault::Denied => matches!(error, Error::AccessDenied { .. }) && !error.is_transient(),
        Fault::Full => matches!(error, Error::StorageFull { .. }) && error.is_transient(),
        Fault::Unavailable | Fault::Silence | Fault::HangUp | Fault::LostConnection => {
            matches!(error, Error::Unreachable { .. }) && error.is_transient()
        }
        Fault::Broken | Fault::LostAnswer | Fault::Busy | Fault::CutShort => {
            matches!(error, Error::Backend { .. } | Error::Unreachable { .. }) && error.is_transient()
        }
    }
}

/// Makes every call of a program while one kind of its requests fails, and checks the error.
async fn steps(bucket: &Bucket, fault: Fault) {
    let settings = impatient(bucket);
    let faults = || std::iter::repeat_n(fault, 20);
    for (verb, ending) in [("PUT", ".parquet"), ("PUT", ".json")] {
        let backend = opened(&settings).await;
        bucket.break_requests(verb, ending, faults());
        let error = append(&backend, rows([1])).await.unwrap_err();
        assert!(is_of_kind(fault, &error), "{fault:?} of {verb} {ending}: {error:?}");
        bucket.mend();
    }
    append(&opened(&settings).await, rows([1])).await.unwrap();
    for (verb, ending) in [("GET", ".parquet"), ("GET", ".json"), ("LIST", "_delta_log/"), ("HEAD", ".json")] {
        let backend = opened(&settings).await;
        bucket.break_requests(verb, ending, faults());
        let error = read(&backend).await.unwrap_err();
        assert!(is_of_kind(fault, &error), "{fault:?} of {verb} {ending}: {error:?}");
        bucket.mend();
        assert_eq!(read(&backend).await.unwrap().num_rows(), 1);
    }
    let backend = opened(&settings).await;
    append(&backend, rows([2])).await.unwrap();
    bucket.break_requests("PUT", ".parquet", faults());
    let error = backend.compact(&key(TABLE)).await.unwrap_err();
    assert!(is_of_kind(fault, &error), "{fault:?} of a compaction: {error:?}");
    bucket.mend();
    backend.compact(&key(TABLE)).await.unwrap();
    bucket.break_requests("DELETE", "", faults());
    let error = backend.vacuum(&key(TABLE), Duration::ZERO).await.unwrap_err();
    assert!(is_of_kind(fault, &error), "{fault:?} of a vacuum: {error:?}");
    let error = backend.drop_table(&key(TABLE)).await.unwrap_err();
    assert!(is_of_kind(fault, &error), "{fault:?} of a drop: {error:?}");
    bucket.mend();
}

/// Names of users may contain words of error messages, which must not affect the error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_of_a_server_keep_their_kind() {
    for fault in [Fault::Denied, Fault::Broken, Fault::Unavailable, Fault::Full] {
        let bucket = s3::bucket().unwrap();
        steps(&bucket, fault).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_in_a_path_do_not_affect_the_case() {
    let bucket = s3::bucket().unwrap();
    let mut settings = impatient(&bucket);
    settings.root_path =
        format!("{}/unsupported feature/connect timed out/AccessDenied 503 Service/credential", bucket.url());
    let backend = opened(&settings).await;
    append(&backend, rows([1])).await.unwrap();
    bucket.break_requests("PUT", ".parquet", std::iter::repeat_n(Fault::Full, 20));
    let error = append(&backend, rows([1])).await.unwrap_err();
    assert!(is_of_kind(Fault::Full, &error), "{error:?}");
    bucket.mend();
    let log = bucket.snapshot().into_keys().find(|key| key.ends_with(".json")).unwrap();
    bucket.put(&log, "no JSON");
    let error = read(&opened(&settings).await).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_responding_is_unreachable() {
    let bucket = s3::bucket().unwrap();
    let settings = impatient(&bucket).storage_option("timeout", "1s");
    let backend = opened(&settings).await;
    append(&backend, rows([1])).await.unwrap();
    for (verb, ending) in [("PUT", ".parquet"), ("PUT", ".json"), ("GET", ".json")] {
        bucket.break_requests(verb, ending, std::iter::repeat_n(Fault::Silence, 20));
        let begun = Instant::now();
        let error = append(&backend, rows([2])).await.unwrap_err();
        assert!(is_of_kind(Fault::Silence, &error), "{verb} {ending}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{verb} {ending}: {:?}", begun.elapsed());
        bucket.mend();
    }
    assert_eq!(read(&opened(&settings).await).await.unwrap().num_rows(), 1);
}
