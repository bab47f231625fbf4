//! Network failures, and unread streams.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use metaxy_core::{AccessMode, Error, ScanRequest, StoreBackend};
use metaxy_postgres::{PostgresBackend, PostgresConfig};
use metaxy_testkit::fixtures::tables::{append, batch, ints, key, read};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use url::Url;

use super::support::{config, database, open};

/// A proxy between a store and its server, which can stop forwarding.
struct Proxy {
    url: String,
    /// The number of connections that are silent, counted from the first.
    silent: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(url: &str) -> Self {
        let mut url = Url::parse(url).unwrap();
        let server = (url.host_str().unwrap().to_owned(), url.port().unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let (silent, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (hushed, counted) = (silent.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                let server = tokio::net::TcpStream::connect((server.0.as_str(), server.1)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(forward(from_client, to_server, number, hushed.clone()));
                tokio::spawn(forward(from_server, to_client, number, hushed.clone()));
            }
        });
        Self { url: url.into(), silent, connections }
    }

    /// Stops forwarding on open connections and, if `all`, on new ones.
    fn fall_silent(&self, all: bool) {
        let last = if all { usize::MAX } else { self.connections.load(Ordering::SeqCst) };
        self.silent.store(last, Ordering::SeqCst);
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    number: usize,
    silent: Arc<AtomicUsize>,
) {
    let mut bytes = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        while number <= silent.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
}

fn impatient(url: &str) -> PostgresConfig {
    PostgresConfig { stall_timeout: Some(0.5), connect_timeout: Some(2.0), ..config(url) }
}

async fn opened(config: PostgresConfig) -> PostgresBackend {
    let backend = PostgresBackend::new(config).unwrap();
    backend.open(AccessMode::ReadWrite).await.unwrap();
    backend
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_stalls_ends_in_an_error() {
    let database = database();
    append(&open(database.url()).await, "t", &batch([("x", ints(0..200_000))])).await.unwrap();
    for all in [true, false] {
        let proxy = Proxy::start(database.url()).await;
        let backend = opened(impatient(&proxy.url)).await;
        let mut stream = backend.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
        stream.next().await.unwrap().unwrap();
        proxy.fall_silent(all);
        let start = Instant::now();
        let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
        assert!(matches!(&error, Error::Unreachable { reason, .. } if reason.contains("stall_timeout")), "{error}");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        if !all {
            assert_eq!(read(&backend, "t").await.unwrap().num_rows(), 200_000);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_is_waited_for() {
    let database = database();
    database.sql("CREATE VIEW slow AS SELECT 1::bigint AS x FROM pg_sleep(3)").unwrap();
    let backend = opened(impatient(database.url())).await;
    assert_eq!(read(&backend, "slow").await.unwrap().num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_handshake_is_transient() {
    // The server closes the connection before or after it says whether it supports TLS.
    for answer in [&b""[..], b"S"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgresql://me:s3cret@127.0.0.1:{}/x", listener.local_addr().unwrap().port());
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let server = std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let Ok((mut client, _)) = listener.accept() else { break };
                let mut request = [0; 8];
                let _ = client.read_exact(&mut request);
                let _ = client.write_all(answer);
            }
        });
        for mode in ["prefer", "require", "verify-full"] {
            let config = PostgresConfig { sslmode: Some(mode.to_owned()), ..config(&url) };
            let error = PostgresBackend::new(config).unwrap().open(AccessMode::ReadOnly).await.unwrap_err();
            assert!(matches!(error, Error::Unreachable { .. }) && error.is_transient(), "{mode}: {error:?}");
        }
        done.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(url.rsplit_once('@').unwrap().1.trim_end_matches("/x"));
        server.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_streams_use_only_the_connections_of_the_pool() {
    let database = database();
    let backend = opened(config(database.url()).pool_size(4)).await;
    append(&backend, "t", &batch([("x", ints(0..80_000))])).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..60 {
        let mut stream = backend.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
        let first = stream.next().await.unwrap().unwrap();
        streams.push((stream, first.num_rows()));
    }
    let count =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'metaxy' AND datname = current_database()";
    assert!(database.sql(count).unwrap().parse::<usize>().unwrap() <= 4);
    // Other calls work, and the streams do not see their changes.
    append(&backend, "t", &batch([("x", ints(0..10))])).await.unwrap();
    assert_eq!(read(&backend, "t").await.unwrap().num_rows(), 80_010);
    for (mut stream, mut rows) in streams {
        while let Some(batch) = stream.next().await {
            rows += batch.unwrap().num_rows();
        }
        assert_eq!(rows, 80_000);
    }
}
