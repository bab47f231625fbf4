//! The S3 server of this crate, tested with a client for the real service.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use metaxy_testkit::servers::s3::{self, Bucket, Fault, Server};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
};

fn client_with(bucket: &Bucket, secret: Option<&str>, retries: usize) -> AmazonS3 {
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket.name());
    for (name, value) in bucket.storage_options() {
        let key: AmazonS3ConfigKey = name.to_lowercase().parse().expect("an option");
        builder = builder.with_config(key, value);
    }
    if let Some(secret) = secret {
        builder = builder.with_secret_access_key(secret);
    }
    let patience =
        RetryConfig { max_retries: retries, retry_timeout: Duration::from_secs(20), ..RetryConfig::default() };
    let options = ClientOptions::new().with_allow_http(true);
    builder.with_retry(patience).with_client_options(options).build().expect("a client")
}

fn client(bucket: &Bucket) -> AmazonS3 {
    client_with(bucket, None, 3)
}

fn create() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_concurrent_creations_succeeds() {
    let bucket = s3::bucket().expect("a bucket");
    let store = client(&bucket);
    for round in 0..10 {
        let path = Path::from(format!("log/{round}.json"));
        let puts = (0..16).map(|writer| {
            let (store, path) = (store.clone(), path.clone());
            async move { (writer, store.put_opts(&path, format!("by {writer}").into(), create()).await) }
        });
        let outcomes: Vec<_> = futures::future::join_all(puts).await;
        let winners: Vec<i32> = outcomes.iter().filter(|(_, put)| put.is_ok()).map(|(writer, _)| *writer).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        let losers = outcomes.iter().filter_map(|(_, put)| put.as_ref().err());
        assert!(losers.clone().all(|error| matches!(error, Error::AlreadyExists { .. })), "{outcomes:?}");
        assert_eq!(bucket.snapshot()[path.as_ref()], format!("by {}", winners[0]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_are_sorted_and_paged() {
    let bucket = s3::bucket().expect("a bucket");
    for number in 0..2_500 {
        bucket.put(&format!("table/{:02}/{number:05}", number % 20), "x");
    }
    bucket.put("tablet", "x");
    let store = client(&bucket);
    let root = Path::from("table");
    let listed: Vec<String> =
        store.list(Some(&root)).map_ok(|object| object.location.to_string()).try_collect().await.expect("listed");
    let expected: Vec<String> = bucket.snapshot().into_keys().filter(|key| key.starts_with("table/")).collect();
    assert_eq!(listed, expected);
    let offset = Path::from("table/07/01987");
    let rest = store.list_with_offset(Some(&root), &offset).try_collect::<Vec<_>>().await.expect("listed");
    assert_eq!(rest.len(), expected.iter().filter(|key| key.as_str() > offset.as_ref()).count());
    let below = store.list_with_delimiter(Some(&root)).await.expect("listed");
    let prefixes: BTreeSet<String> = below.common_prefixes.iter().map(ToString::to_string).collect();
    assert_eq!((below.common_prefixes.len(), prefixes.len(), below.objects.len()), (20, 20, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_read_in_ranges_copied_and_deleted() {
    let bucket = s3::bucket().expect("a bucket");
    let store = client(&bucket);
    let (one, two) = (Path::from("a/one"), Path::from("a/two"));
    store.put(&one, "0123456789".into()).await.expect("put");
    assert_eq!(store.get_range(&one, 3..6).await.expect("read"), "345");
    assert_eq!(store.head(&one).await.expect("there").size, 10);
    store.copy(&one, &two).await.expect("copied");
    assert_eq!(bucket.snapshot().into_keys().collect::<Vec<_>>(), ["a/one", "a/two"]);
    let paths = futures::stream::iter([Ok(one.clone()), Ok(two)]).boxed();
    store.delete_stream(paths).try_collect::<Vec<_>>().await.expect("deleted");
    assert!(bucket.snapshot().is_empty());
    assert!(matches!(store.get(&one).await, Err(Error::NotFound { .. })));
    assert!(bucket.requests().iter().any(|request| request.verb == "COPY" && request.key == "a/one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_become_one_object() {
    let bucket = s3::bucket().expect("a bucket");
    let store = client(&bucket);
    let path = Path::from("large");
    let mut upload = store.put_multipart(&path).await.expect("begun");
    let parts = ["first ", "second ", "third"].map(|part| upload.put_part(part.into()));
    futures::future::try_join_all(parts).await.expect("sent");
    assert!(bucket.snapshot().is_empty(), "nothing is there before the end");
    upload.complete().await.expect("complete");
    assert_eq!(store.get(&path).await.expect("there").bytes().await.expect("read"), "first second third");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_credentials_are_refused() {
    let bucket = s3::bucket().expect("a bucket");
    bucket.put("key", "x");
    let stranger = client_with(&bucket, Some("another-secret-key"), 0);
    let refused = stranger.get(&Path::from("key")).await;
    assert!(matches!(refused, Err(Error::PermissionDenied { .. })), "{refused:?}");
    let other = Server::start().expect("a server").bucket();
    let nowhere = client_options(&other).with_bucket_name("no-such-bucket").build();
    let missing = nowhere.expect("a client").list(None).next().await;
    assert!(matches!(missing, Some(Err(_))), "{missing:?}");
}

fn client_options(bucket: &Bucket) -> AmazonS3Builder {
    bucket.storage_options().into_iter().fold(AmazonS3Builder::new(), |builder, (name, value)| {
        builder.with_config(name.to_lowercase().parse().expect("an option"), value)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_server_closes_connections() {
    let server = Server::start().expect("a server");
    let bucket = server.bucket();
    bucket.put("key", "x");
    let store = client_with(&bucket, None, 0);
    let path = Path::from("key");
    store.get(&path).await.expect("reachable");
    server.set_reachable(false);
    assert!(store.get(&path).await.is_err());
    server.set_reachable(true);
    store.get(&path).await.expect("reachable again");
    let dead = s3::dead_endpoint().expect("a port");
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let lost = client_options(&bucket).with_bucket_name(bucket.name()).with_endpoint(dead).with_retry(retry);
    assert!(lost.build().expect("a client").get(&path).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_can_be_broken() {
    let bucket = s3::bucket().expect("a bucket");
    bucket.break_puts(".json", [Fault::LostAnswer]);
    let store = client(&bucket);
    store.put(&Path::from("other"), "x".into()).await.expect("not broken");
    // The client retries, and finds its own object.
    let lost = store.put_opts(&Path::from("1.json"), "x".into(), create()).await;
    assert!(matches!(lost, Err(Error::AlreadyExists { .. })), "{lost:?}");
    assert_eq!(bucket.snapshot()["1.json"], "x");
    bucket.break_puts("2.json", [Fault::Busy]);
    let busy = client_with(&bucket, None, 0).put_opts(&Path::from("2.json"), "x".into(), create()).await;
    assert!(busy.is_err());
    assert!(!bucket.snapshot().contains_key("2.json"));
}
