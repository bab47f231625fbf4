#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::fuzz::Overlaid;

static STORE: LazyLock<Overlaid> =
    LazyLock::new(|| Overlaid::new(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/delta"), "t.delta"));

fuzz_target!(|data: &[u8]| {
    STORE.run(data, |root| {
        let config = DeltaConfig::new(root.display().to_string());
        Arc::new(DeltaBackend::new(config).expect("a directory is a root"))
    });
});
