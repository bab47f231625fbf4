//! Room for rows in memory, which puts get in the order in which they come, so that a large one has its turn too.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bytes that may be pending.
pub(super) struct Room {
    permits: Arc<Semaphore>,
    total: u32,
    /// The bytes of a permit: a semaphore gives out at most 2^32 of them at once.
    unit: usize,
}

/// Some of the room, free again when it is dropped.
pub(super) type Place = OwnedSemaphorePermit;

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        let unit = bytes.div_ceil(u32::MAX as usize).max(1);
        let total = u32::try_from(bytes / unit).unwrap_or(u32::MAX).max(1);
        Self { permits: Arc::new(Semaphore::new(total as usize)), total, unit }
    }

    /// Waits for room for so many bytes. What is larger than all the room gets it when nothing else is pending. `None` once
    /// no more is given out.
    pub(super) async fn take(&self, bytes: usize) -> Option<Place> {
        self.permits.clone().acquire_many_owned(self.permits_for(bytes)).await.ok()
    }

    /// As much of it as is free.
    pub(super) fn take_free(&self, bytes: usize) -> Option<Place> {
        let free = u32::try_from(self.permits.available_permits()).unwrap_or(u32::MAX);
        self.permits.clone().try_acquire_many_owned(self.permits_for(bytes).min(free)).ok()
    }

    /// Whether none is left. So it is while somebody waits: whoever is next holds what there is.
    pub(super) fn is_taken(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// Turns away those who wait, and all who come.
    pub(super) fn close(&self) {
        self.permits.close();
    }

    fn permits_for(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(self.unit)).unwrap_or(u32::MAX).min(self.total)
    }
}
