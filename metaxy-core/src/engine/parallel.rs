//! Runs work on all cores.

use std::cell::Cell;
use std::ops::Range;

use crate::blocking::cores;
use crate::error::{Error, Result};
use crate::fence;

/// A thread is not worth its cost for fewer rows than this.
const ROWS_PER_THREAD: usize = 16 * 1024;

thread_local! {
    /// Whether this thread is one of several that share some work: then its own work is not divided again.
    static SHARES_WORK: Cell<bool> = const { Cell::new(false) };
}

/// Splits `0..rows` over the cores; the results are in the order of the ranges.
pub(crate) fn over_rows<T: Send>(rows: usize, work: impl Fn(Range<usize>) -> Result<T> + Sync) -> Result<Vec<T>> {
    let threads = threads().min(rows / ROWS_PER_THREAD + 1);
    let size = rows.div_ceil(threads).max(1);
    let ranges: Vec<Range<usize>> = (0..rows).step_by(size).map(|start| start..rows.min(start + size)).collect();
    map(ranges, work)
}

/// Runs `work` on every item, each core on its share; the results are in the order of the items.
pub(crate) fn map<I: Send, T: Send>(items: Vec<I>, work: impl Fn(I) -> Result<T> + Sync) -> Result<Vec<T>> {
    let threads = threads().min(items.len());
    if threads <= 1 {
        return items.into_iter().map(work).collect();
    }
    let size = items.len().div_ceil(threads);
    let mut items = items.into_iter();
    let shares: Vec<Vec<I>> = (0..threads).map(|_| items.by_ref().take(size).collect()).collect();
    let work = &work;
    std::thread::scope(|scope| {
        let handles: Vec<_> = shares
            .into_iter()
            .map(|share| {
                scope.spawn(move || {
                    SHARES_WORK.set(true);
                    fence::catch(|| share.into_iter().map(work).collect::<Result<Vec<T>>>())
                })
            })
            .collect();
        let mut answers = Vec::new();
        for handle in handles {
            let joined = handle.join().map_err(|_| Error::Task("a thread of the engine panicked".to_owned()))?;
            answers.extend(joined??);
        }
        Ok(answers)
    })
}

/// Returns the number of threads among which this one divides its work.
fn threads() -> usize {
    if SHARES_WORK.get() { 1 } else { cores() }
}
