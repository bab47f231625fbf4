#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use metaxy_sqlite::SqliteBackend;
use metaxy_testkit::fuzz;

fuzz_target!(|data: &[u8]| {
    fuzz::batches(data, Arc::new(SqliteBackend::in_memory()));
});
