//! The memory limit of resolves and reads, and the directory for rows beyond it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::error::{Error, Result};
use crate::plan::NativeLimits;

/// The environment variable that sets the limit of all stores without their own.
const MEMORY_LIMIT_VARIABLE: &str = "METAXY_MEMORY_LIMIT";

/// The divisor of the limit for rows as they were read; the rest is for computed data.
const SHARE_OF_ROWS: usize = 4;

/// The limit for the rows of one table that are held together, because a text column has 32-bit offsets.
const MAX_HELD: usize = 1 << 30;

/// The bits of a hash that number the partitions of one division.
pub(crate) const PARTITION_BITS: u32 = 6;
const PARTITIONS: usize = 1 << PARTITION_BITS;

/// The memory that resolves and reads share, and the directory for rows that do not fit.
pub(crate) struct MemoryPool {
    limit: usize,
    held: AtomicUsize,
    directory: PathBuf,
    partitions: usize,
}

impl MemoryPool {
    /// Creates a separate pool.
    pub(crate) fn new(limit: usize, directory: Option<&Path>) -> Arc<Self> {
        let directory = directory.map_or_else(std::env::temp_dir, Path::to_owned);
        Arc::new(Self { limit, held: AtomicUsize::new(0), directory, partitions: PARTITIONS })
    }

    /// Returns a pool whose rows are divided into so many partitions at a time, at most [`PARTITIONS`].
    pub(crate) fn with_partitions(self: Arc<Self>, partitions: usize) -> Arc<Self> {
        let partitions = partitions.clamp(1, PARTITIONS);
        Arc::new(Self { limit: self.limit, held: AtomicUsize::new(0), directory: self.directory.clone(), partitions })
    }

    /// Returns into how many partitions rows are divided at a time.
    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }

    /// Returns the pool of all stores without settings of their own: its limit is set by the environment, or is half of
    /// the memory of the machine or its control group.
    fn of_process() -> Result<Arc<Self>> {
        static POOL: LazyLock<Result<Arc<MemoryPool>, String>> = LazyLock::new(|| {
            let limit = match std::env::var(MEMORY_LIMIT_VARIABLE) {
                Ok(text) => parse_bytes(&text).map_err(|reason| format!("`{text}`: {reason}"))?,
                Err(_) => memory_of_machine() / 2,
            };
            Ok(MemoryPool::new(limit, None))
        });
        POOL.clone().map_err(|reason| Error::setting(MEMORY_LIMIT_VARIABLE, reason))
    }

    /// Returns the pool of a store with these settings.
    pub(crate) fn of_store(limit: Option<usize>, directory: Option<&Path>) -> Result<Arc<Self>> {
        match (limit, directory) {
            (None, None) => Self::of_process(),
            (Some(limit), directory) => Ok(Self::new(limit, directory)),
            (None, directory) => Ok(Self::new(Self::of_process()?.limit, directory)),
        }
    }

    /// Creates a separate pool with another limit.
    pub(crate) fn limited(&self, limit: usize) -> Arc<Self> {
        Self::new(limit, Some(&self.directory)).with_partitions(self.partitions)
    }

    /// Returns what a storage system may use that computes in this process.
    pub(crate) fn limits(&self) -> NativeLimits {
        NativeLimits { memory: self.limit, directory: self.directory.clone() }
    }

    /// Returns the number of bytes of rows that each of `steps` concurrent steps may process at a time.
    pub(crate) fn share(&self, steps: usize) -> usize {
        (self.limit / SHARE_OF_ROWS / steps.max(1)).clamp(1, MAX_HELD)
    }

    /// Returns the directory for temporary files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Creates an empty reservation for rows of a table.
    pub(crate) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { pool: self.clone(), bytes: 0 }
    }

    fn try_hold(&self, bytes: usize, limit: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

impl fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPool").field("limit", &self.limit).field("directory", &self.directory).finish()
    }
}

/// Reserved memory, which is released when this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    pool: Arc<MemoryPool>,
    bytes: usize,
}

impl Reservation {
    /// Reserves more memory if there is enough, and returns whether there was.
    pub(crate) fn try_grow(&mut self, bytes: usize) -> bool {
        self.try_grow_within(self.pool.limit / SHARE_OF_ROWS, bytes)
    }

    /// Reserves more memory if half of the limit then remains, for rows that can also wait in a file.
    pub(crate) fn try_grow_within_half(&mut self, bytes: usize) -> bool {
        self.try_grow_within(self.pool.limit / SHARE_OF_ROWS / 2, bytes)
    }

    fn try_grow_within(&mut self, limit: usize, bytes: usize) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= MAX_HELD && self.pool.try_hold(bytes, limit);
        if fits {
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.pool.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn memory_of_machine() -> usize {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(memory);
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    usize::try_from(system.total_memory().min(limit)).unwrap_or(usize::MAX)
}

/// Parses a number of bytes such as `1GB`, `512 MiB` or `1000000`: `kB`, `MB`, `GB` and `TB` are powers of 1000, `KiB`,
/// `MiB`, `GiB` and `TiB` powers of 1024.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_bytes(text: &str) -> std::result::Result<usize, String> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        other => return Err(format!("`{other}` is not a unit of memory; write `1GB` or `512MiB`")),
    };
    let number: f64 =
        number.parse().map_err(|_| "it does not begin with a number; write `1GB` or `512MiB`".to_owned())?;
    match number * factor {
        bytes if bytes >= 1.0 && bytes < usize::MAX as f64 => Ok(bytes as usize),
        _ => Err("a limit must be at least one byte".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_sizes_are_parsed() {
        let sizes = [("1GB", 1_000_000_000), ("1.5 MiB", 1_572_864), ("4096", 4096), (" 2 kb", 2000)];
        for (text, bytes) in sizes {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "0", "-1", "1 XB", "1e400"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pool_reserves_at_most_its_limit() {
        let pool = MemoryPool::new(400, None);
        let (mut one, mut other) = (pool.reservation(), pool.reservation());
        assert!(one.try_grow(60) && !other.try_grow(41) && other.try_grow(40));
        drop(one);
        assert!(other.try_grow(60));
        drop(other);
        let mut rows = pool.reservation();
        assert!(!rows.try_grow_within_half(51) && rows.try_grow_within_half(50) && !rows.try_grow_within_half(1));
    }
}
