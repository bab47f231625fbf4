//! The memory that pending rows may take. Puts get their share in the order in which they come, so that a large put is
//! not starved by small ones.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The number of bytes that may be pending.
pub(super) struct MemoryBudget {
    permits: Arc<Semaphore>,
    total: u32,
    /// The bytes of one permit: a semaphore gives out at most 2^32 permits at once.
    unit: usize,
}

/// A share of the budget, which returns to it when it is dropped.
pub(super) type Permit = OwnedSemaphorePermit;

impl MemoryBudget {
    pub(super) fn new(bytes: usize) -> Self {
        let unit = bytes.div_ceil(u32::MAX as usize).max(1);
        let total = u32::try_from(bytes / unit).unwrap_or(u32::MAX).max(1);
        Self { permits: Arc::new(Semaphore::new(total as usize)), total, unit }
    }

    /// Waits for this number of bytes. A request that is larger than the budget is granted when nothing else is
    /// pending. Returns `None` once the budget is closed.
    pub(super) async fn acquire(&self, bytes: usize) -> Option<Permit> {
        self.permits.clone().acquire_many_owned(self.permits_for(bytes)).await.ok()
    }

    /// Takes this number of bytes, or all that are free, without waiting.
    pub(super) fn acquire_available(&self, bytes: usize) -> Option<Permit> {
        let free = u32::try_from(self.permits.available_permits()).unwrap_or(u32::MAX);
        self.permits.clone().try_acquire_many_owned(self.permits_for(bytes).min(free)).ok()
    }

    /// Returns whether no byte is free. This is true while a put waits: the first one in the queue reserves all free
    /// bytes.
    pub(super) fn is_exhausted(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// Refuses all waiting and all later requests.
    pub(super) fn close(&self) {
        self.permits.close();
    }

    fn permits_for(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(self.unit)).unwrap_or(u32::MAX).min(self.total)
    }
}
