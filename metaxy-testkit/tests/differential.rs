//! The engine against the oracle: random definitions and histories on the in-memory backend.

use std::sync::Arc;

use metaxy_core::SharedBackend;
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::oracle::run_histories;

/// As many cases as `METAXY_CASES` says, 2,000 where it says nothing.
#[tokio::test]
async fn the_engine_answers_as_the_oracle_does() {
    let cases = std::env::var("METAXY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let outcome = run_histories(cases, || async { Ok((Arc::new(MemoryBackend::new()) as SharedBackend, ())) }).await;
    if let Err(message) = outcome {
        panic!("{message}");
    }
}

/// A conformance case is a future that may move between threads.
#[test]
fn histories_may_run_on_any_thread() {
    fn is_send(_: impl Send) {}
    is_send(run_histories(0, || async { Ok((Arc::new(MemoryBackend::new()) as SharedBackend, ())) }));
}
