//! Increments since checkpoints on random histories, more of them than a conformance suite plays.

use std::sync::Arc;

use metaxy_core::SharedBackend;
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::oracle::Histories;

/// `METAXY_HISTORIES` sets their number.
#[tokio::test]
async fn random_histories() {
    let number = std::env::var("METAXY_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let memory = || async { Ok((Arc::new(MemoryBackend::new()) as SharedBackend, ())) };
    let played = Histories::new(number).play_since(memory, |store| store).await;
    let counts = played.unwrap_or_else(|disagreement| panic!("{disagreement}"));
    println!("{number} histories: {counts:?}");
    let all = counts.all_rows + counts.changes + counts.unchanged;
    assert!(3 * counts.changes > all, "many increments are computed from what has changed: {counts:?}");
    assert!(counts.all_rows > 0 && counts.unchanged > 0, "{counts:?}");
}
