//! Compares the engine with the oracle: random definitions and histories on the in-memory backend.

use std::sync::Arc;

use metaxy_core::SharedBackend;
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::oracle::Histories;

/// Runs `METAXY_CASES` cases, 2,000 by default.
#[tokio::test]
async fn the_engine_agrees_with_the_oracle() {
    let cases = std::env::var("METAXY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let memory = || async { Ok((Arc::new(MemoryBackend::new()) as SharedBackend, ())) };
    if let Err(disagreement) = Histories::new(cases).play(memory).await {
        panic!("{disagreement}");
    }
}
