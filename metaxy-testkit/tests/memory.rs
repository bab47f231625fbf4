//! The in-memory backend keeps every promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use metaxy_core::backend::SharedBackend;
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::{Location, OtherProcesses, Result, Support};

struct Memory(String);

#[async_trait]
impl Location for Memory {
    async fn backend(&self) -> Result<SharedBackend> {
        Ok(Arc::new(MemoryBackend::named(&self.0)))
    }

    fn settings(&self) -> toml::Table {
        toml::Table::from_iter([("name".to_owned(), self.0.clone().into())])
    }

    fn support(&self) -> Support {
        Support::default().other_processes(OtherProcesses::Never)
    }
}

async fn memory() -> Result<Memory> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    Ok(Memory(format!("memory-{}", NEXT.fetch_add(1, Ordering::SeqCst))))
}

metaxy_testkit::conformance!(conformance, memory);
