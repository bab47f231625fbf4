//! One flush: writes a batch with retries, and in parts if the store refuses some of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::blocking;
use crate::error::{Error, Result};
use crate::fence;
use crate::store::PreparedRows;

use super::RetryPolicy;
use super::flush_batch::{Entry, summary};
use super::pending::{PendingRows, Prepared, prepare};
use super::refusal::{Blame, Refused};
use super::shared::Shared;

/// After this number of refusals without a success the store is at fault, not the rows.
const MAX_REFUSALS: usize = 16;

/// A flush batch that is being written. If the task ends before it is done, its rows are given up.
pub(super) struct Flush<'a> {
    shared: &'a Shared,
    entries: Vec<Entry>,
    /// The time of all its rows, in every attempt; fixed before the first one.
    stamp: Option<i64>,
    /// The rows that are still to be written, once they are prepared.
    prepared: Option<VecDeque<PendingRows<PreparedRows>>>,
    /// The groups that are written one by one, the next one last.
    groups: Vec<Vec<Entry>>,
    /// What the store has refused.
    refused: Vec<Refused>,
    /// Whether the store has accepted some group.
    has_accepted: bool,
}

impl<'a> Flush<'a> {
    pub(super) fn start(shared: &'a Shared, prepared: Option<Prepared>) -> Self {
        let batch = shared.buffer().take();
        let (stamp, prepared) = match prepared.filter(|prepared| prepared.number == batch.number) {
            Some(prepared) => (Some(prepared.stamp), Some(prepared.rows)),
            None => (None, None),
        };
        Self {
            shared,
            entries: batch.entries,
            stamp,
            prepared,
            groups: Vec::new(),
            refused: Vec::new(),
            has_accepted: false,
        }
    }

    pub(super) async fn run(mut self) {
        let outcome = self.write_with_retries().await;
        self.move_rejected().await;
        match outcome {
            Err(error) => self.give_up(Arc::new(error)),
            Ok(()) => self.finish(),
        }
    }

    fn finish(mut self) {
        // Without a spool directory what was refused goes back to its caller.
        if let Some(Refused { entry, error }) = self.refused.pop() {
            self.entries.push(entry);
            return self.give_up(Arc::new(error));
        }
        self.shared.buffer().finish();
        self.shared.change.notify_waiters();
        self.shared.report();
    }

    async fn write_with_retries(&mut self) -> Result<()> {
        let policy = self.shared.settings.retry;
        let mut attempt = 0;
        while let Err(error) = self.write().await {
            attempt += 1;
            if attempt >= policy.attempts || !error.is_transient() {
                return Err(error);
            }
            tracing::warn!(%error, attempt, "a flush failed and will be retried");
            self.shared.buffer().note_error(Arc::new(error));
            // The table may have changed by the next attempt.
            self.prepared = None;
            tokio::time::sleep(pause(policy, attempt)).await;
        }
        Ok(())
    }

    /// Writes the remaining rows: all at once, or in parts if the store refuses some of them.
    async fn write(&mut self) -> Result<()> {
        let Err(error) = self.write_together().await else { return Ok(()) };
        if !self.may_blame_rows(&error) {
            return Err(error);
        }
        let outcome = self.write_in_groups().await;
        let outcome = outcome.and(self.judge());
        self.entries = self.groups.drain(..).flatten().collect();
        outcome
    }

    /// Writes feature by feature. What is written is settled at once, so that a retry does not write it again.
    async fn write_together(&mut self) -> Result<()> {
        if self.prepared.is_none() {
            let stamp = self.stamp(&self.entries).await?;
            self.stamp = Some(stamp);
            self.prepared = Some(fenced(prepare(&self.shared.store, PendingRows::of(&self.entries), stamp)).await?);
        }
        while let Some(rows) = self.prepared.as_ref().and_then(VecDeque::front) {
            fenced(rows.append(&self.shared.store)).await?;
            let Some(rows) = self.prepared.as_mut().and_then(VecDeque::pop_front) else { break };
            let (written, rest) = std::mem::take(&mut self.entries).into_iter().partition(|entry| rows.contains(entry));
            self.entries = rest;
            self.settle(written).await;
            drop_later(rows);
        }
        Ok(())
    }

    /// Writes group by group, and halves refused groups until the batches are found that cannot be stored.
    async fn write_in_groups(&mut self) -> Result<()> {
        self.prepared = None;
        self.groups = PendingRows::groups(std::mem::take(&mut self.entries), &self.shared.store);
        let mut refusals = 0;
        while let Some(group) = self.groups.last() {
            match fenced(self.append(group)).await {
                Ok(()) => {
                    self.has_accepted = true;
                    let written = self.groups.pop().unwrap_or_default();
                    self.settle(written).await;
                }
                Err(error) if !self.may_blame_rows(&error) => return Err(error),
                Err(error) if refusals == MAX_REFUSALS && !self.has_accepted && Blame::of(&error) != Blame::Rows => {
                    return Err(error);
                }
                Err(error) => {
                    refusals += 1;
                    self.halve(error);
                }
            }
        }
        Ok(())
    }

    /// Returns the time of the flush, or a new one for these rows if none is fixed yet.
    async fn stamp(&self, entries: &[Entry]) -> Result<i64> {
        let tables = || PendingRows::of(entries).iter().map(|rows| rows.feature().clone()).collect::<Vec<_>>();
        match self.stamp {
            Some(stamp) => Ok(stamp),
            None => self.shared.store.stamp_for(&tables()).await,
        }
    }

    async fn append(&self, group: &[Entry]) -> Result<()> {
        let stamp = self.stamp(group).await?;
        for rows in prepare(&self.shared.store, PendingRows::of(group), stamp).await? {
            rows.append(&self.shared.store).await?;
        }
        Ok(())
    }

    /// Splits the refused group into halves, or records its only batch as refused.
    fn halve(&mut self, error: Error) {
        let mut group = self.groups.pop().unwrap_or_default();
        let second = group.split_off(group.len().div_ceil(2));
        match group.pop() {
            Some(entry) if second.is_empty() && group.is_empty() => self.refused.push(Refused { entry, error }),
            last => {
                group.extend(last);
                self.groups.extend([second, group]);
            }
        }
    }

    /// Returns whether the rows themselves may be the cause of a refusal.
    fn may_blame_rows(&self, error: &Error) -> bool {
        match Blame::of(error) {
            Blame::Rows => true,
            // To find out takes attempts, and a directory for the rows that are found.
            Blame::Unknown => self.shared.spool.is_some(),
            Blame::Store => false,
        }
    }

    /// Keeps only proven refusals: rows that were refused for an unknown reason are at fault only if the store has
    /// accepted others.
    fn judge(&mut self) -> Result<()> {
        let is_proven = self.has_accepted;
        let is_clear = |refused: &Refused| is_proven || Blame::of(&refused.error) == Blame::Rows;
        let (refused, unclear) = std::mem::take(&mut self.refused).into_iter().partition(is_clear);
        self.refused = refused;
        let mut outcome = Ok(());
        for Refused { entry, error } in unclear {
            self.groups.push(vec![entry]);
            outcome = outcome.and(Err(error));
        }
        outcome
    }

    /// Records that rows are in the store.
    async fn settle(&self, mut written: Vec<Entry>) {
        self.shared.buffer().settle_written(&mut written);
        self.shared.change.notify_waiters();
        let files = written.iter().flat_map(Entry::files).cloned().collect();
        drop_later(written);
        if let Some(spool) = &self.shared.spool {
            spool.remove_later(files).await;
        }
    }

    /// Moves refused batches into `rejected/`, if there is a spool directory.
    async fn move_rejected(&mut self) {
        let Some(spool) = self.shared.spool.as_ref().filter(|_| !self.refused.is_empty()) else { return };
        let files = spool.reject_later(self.refused.iter().map(Refused::file_and_reason).collect()).await;
        let rejected = std::mem::take(&mut self.refused).into_iter().zip(files);
        self.shared.checks.forget();
        self.shared.buffer().reject(rejected.map(|(refused, file)| refused.rejected_as(file)).collect());
        self.shared.change.notify_waiters();
    }

    fn give_up(&mut self, error: Arc<Error>) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.extend(self.groups.drain(..).flatten());
        entries.extend(self.refused.drain(..).map(|refused| refused.entry));
        self.shared.log_loss(&error, &summary(&entries));
        self.shared.checks.forget();
        self.shared.buffer().give_up(error, entries);
        self.shared.change.notify_waiters();
        self.shared.report();
    }
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        if !(self.entries.is_empty() && self.groups.is_empty() && self.refused.is_empty()) {
            let error = Error::Task("the runtime was shut down while rows were being written".to_owned());
            self.give_up(Arc::new(error));
        }
    }
}

/// Turns a panic of a storage system into an error that is not transient.
async fn fenced<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let panicked = |panic| Err(Error::Task(format!("the storage system panicked in a write: {panic}")));
    fence::catch_async(work).await.unwrap_or_else(panicked)
}

/// Frees batches on another thread: many small ones take a while.
fn drop_later(batches: impl Send + 'static) {
    drop(blocking::spawn(move || {
        drop(batches);
        Ok(())
    }));
}

/// Returns the pause before a retry. It doubles with every attempt; a random part of up to half is taken off, so that
/// many writers do not retry at the same time.
fn pause(policy: RetryPolicy, attempt: usize) -> Duration {
    let factor = 1_u32 << (attempt - 1).min(16);
    let full = policy.initial_pause.saturating_mul(factor).min(policy.max_pause);
    full.mul_f64(1.0 - fastrand::f64() / 2.0)
}
