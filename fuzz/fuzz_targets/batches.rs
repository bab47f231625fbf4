#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use metaxy_testkit::fuzz;
use metaxy_testkit::memory::MemoryBackend;

fuzz_target!(|data: &[u8]| {
    fuzz::batches(data, Arc::new(MemoryBackend::new()));
});
