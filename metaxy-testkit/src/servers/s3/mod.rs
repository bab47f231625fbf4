//! S3 for tests: a server on a free local port, in the process of the test.
//!
//! ```
//! let bucket = metaxy_testkit::servers::s3::bucket().unwrap();
//! println!("{} with {:?}", bucket.url(), bucket.storage_options());
//! ```
//! A process starts one server for all its tests, and each test gets its own bucket; other processes can use it while
//! this one runs. It speaks HTTP, checks signatures, and implements conditional puts like Amazon: of several concurrent
//! puts of the same new key, one succeeds. Objects are in memory, so that a test can read every byte.

mod faults;
mod objects;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use s3s::HttpError;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};

pub use faults::{Fault, Held};
use objects::Objects;
pub use objects::Request;

const ACCESS_KEY: &str = "throwaway-access-key";
const SECRET_KEY: &str = "throwaway-secret-key";
const REGION: &str = "eu-west-1";

/// The result of the calls of this module; the error is one line that says what is wrong.
pub type Result<T> = std::result::Result<T, String>;

/// A server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    objects: Objects,
    reachable: Arc<AtomicBool>,
}

/// A bucket of one test, which is removed when it is dropped.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    server: Arc<Server>,
}

/// Creates a bucket on the server of this process.
///
/// # Errors
/// If no server can be started.
pub fn bucket() -> Result<Bucket> {
    static SHARED: OnceLock<Result<Arc<Server>>> = OnceLock::new();
    match SHARED.get_or_init(Server::start) {
        Ok(server) => Ok(server.bucket()),
        Err(reason) => Err(reason.clone()),
    }
}

/// Returns the URL of an endpoint that does not respond.
///
/// # Errors
/// If there is no free port.
pub fn dead_endpoint() -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| format!("no free port: {error}"))?;
    let address = listener.local_addr().map_err(|error| format!("no free port: {error}"))?;
    Ok(format!("http://{address}"))
}

impl Server {
    /// Starts a separate server, which a test can make unreachable. It runs until the process ends.
    ///
    /// # Errors
    /// If there is no free port, or no thread.
    pub fn start() -> Result<Arc<Self>> {
        let failed = |error: std::io::Error| format!("no S3 server for tests: {error}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (objects, reachable) = (Objects::default(), Arc::new(AtomicBool::new(true)));
        let mut service = S3ServiceBuilder::new(objects.clone());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let (service, open) = (service.build(), reachable.clone());
        // A separate thread and runtime, because the runtime of a test ends with it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let serve = move || runtime.block_on(serve(listener, service, open));
        std::thread::Builder::new().name("s3-server".to_owned()).spawn(serve).map_err(failed)?;
        Ok(Arc::new(Self { address, objects, reachable }))
    }

    /// Creates a bucket on this server.
    pub fn bucket(self: &Arc<Self>) -> Bucket {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("metaxy-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        self.objects.create_bucket(&name);
        Bucket { name, server: self.clone() }
    }

    /// Makes the server unreachable, or reachable again. An unreachable server closes every connection.
    pub fn set_reachable(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::SeqCst);
    }
}

async fn serve(listener: TcpListener, service: S3Service, open: Arc<AtomicBool>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime that listens");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Small responses must not wait for a full packet.
        let _ = stream.set_nodelay(true);
        let (service, open) = (service.clone(), open.clone());
        let answer = hyper::service::service_fn(move |request| {
            let (service, open) = (service.clone(), open.clone());
            async move {
                // An error closes the connection.
                let cut_off = || HttpError::new(Box::new(std::io::Error::other("cut off")));
                if !open.load(Ordering::SeqCst) {
                    return Err(cut_off());
                }
                let response = hyper::service::Service::call(&service, request).await?;
                if response.headers().contains_key(faults::HANG_UP) { Err(cut_off()) } else { Ok(response) }
            }
        });
        // A client may disconnect at any time.
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Bucket {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its URL: `s3://name`.
    pub fn url(&self) -> String {
        format!("s3://{}", self.name)
    }

    /// Returns the URL of its server.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Returns the settings of an S3 client for it, by the names of environment variables.
    pub fn storage_options(&self) -> BTreeMap<String, String> {
        let options = [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ];
        options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Returns all of its objects, by key.
    pub fn snapshot(&self) -> BTreeMap<String, Bytes> {
        self.server.objects.snapshot(&self.name)
    }

    /// Puts an object into it, without the protocol.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.server.objects.put(&self.name, key, bytes.into());
    }

    /// Removes an object from it, without the protocol.
    pub fn remove(&self, key: &str) {
        self.server.objects.remove(&self.name, key);
    }

    /// Returns the requests of clients since the last call, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.server.objects.requests(&self.name)
    }

    /// Breaks the next puts of keys with this ending, one for each fault.
    pub fn break_puts(&self, ending: &str, faults: impl IntoIterator<Item = Fault>) {
        self.break_requests("PUT", ending, faults);
    }

    /// Breaks the next requests with a verb (as in [`Request`]) for keys or prefixes with this ending, one for each
    /// fault.
    pub fn break_requests(&self, verb: &'static str, ending: &str, faults: impl IntoIterator<Item = Fault>) {
        self.with_trouble(|trouble| trouble.break_requests(verb, ending, faults));
    }

    /// Breaks one of `one_in` requests from now on, in random ways.
    pub fn break_at_random(&self, seed: u64, one_in: usize) {
        self.with_trouble(|trouble| trouble.break_at_random(seed, one_in));
    }

    /// Returns the number of requests with a fault.
    pub fn struck(&self) -> usize {
        self.with_trouble(|trouble| trouble.struck()).unwrap_or_default()
    }

    /// Removes the faults that have not occurred yet.
    pub fn mend(&self) {
        self.with_trouble(faults::Trouble::mend);
    }

    /// Holds the next request with a verb for a key or prefix with this ending, before it is done.
    pub fn hold(&self, verb: &'static str, ending: &str) -> Held {
        self.with_trouble(|trouble| trouble.hold(verb, ending)).unwrap_or_default()
    }

    fn with_trouble<T>(&self, work: impl FnOnce(&mut faults::Trouble) -> T) -> Option<T> {
        self.server.objects.with_trouble(&self.name, work)
    }

    /// Ignores conditions of puts (`If-Match`, `If-None-Match`) from now on, like servers that do not support them.
    pub fn ignore_conditions(&self) {
        self.server.objects.ignore_conditions(&self.name);
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.server.objects.drop_bucket(&self.name);
    }
}
