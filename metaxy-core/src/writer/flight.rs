//! A parcel on its way into the store: as often as it takes, and in parts where the store refuses some of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::blocking;
use crate::error::{Error, Result};
use crate::fence;
use crate::store::PreparedRows;

use super::load::{Load, Ready, ready};
use super::parcel::{Entry, summary};
use super::refusal::{Blame, Refused};
use super::{RetryPolicy, Shared};

/// After so many failures without a success it is the store that fails, not its rows.
const MISSES: usize = 16;

/// A parcel that is being written. Where the task dies on the way, its rows are given up.
pub(super) struct Flight<'a> {
    shared: &'a Shared,
    entries: Vec<Entry>,
    /// The time of all its rows, in every attempt; found out before the first one.
    stamp: Option<i64>,
    /// What is still to be written, once it is ready.
    loads: Option<VecDeque<Load<PreparedRows>>>,
    /// What is written apart from the rest, the next one last.
    apart: Vec<Vec<Entry>>,
    /// What the store has refused.
    refused: Vec<Refused>,
    /// Whether it has taken something since.
    takes_some: bool,
}

impl<'a> Flight<'a> {
    pub(super) fn start(shared: &'a Shared, ready: Option<Ready>) -> Self {
        let parcel = shared.buffer().take();
        let (stamp, loads) = match ready.filter(|ready| ready.parcel == parcel.number) {
            Some(ready) => (Some(ready.stamp), Some(ready.loads)),
            None => (None, None),
        };
        Self {
            shared,
            entries: parcel.entries,
            stamp,
            loads,
            apart: Vec::new(),
            refused: Vec::new(),
            takes_some: false,
        }
    }

    pub(super) async fn fly(mut self) {
        let outcome = self.write_with_retries().await;
        self.set_aside().await;
        match outcome {
            Err(error) => self.give_up(Arc::new(error)),
            Ok(()) => self.finish(),
        }
    }

    fn finish(mut self) {
        // Without a spool directory there is no other place for what was refused than its caller.
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
            tracing::warn!(%error, attempt, "a flush failed and will be made again");
            self.shared.buffer().note_error(Arc::new(error));
            // The table may be another one by then.
            self.loads = None;
            tokio::time::sleep(pause(policy, attempt)).await;
        }
        Ok(())
    }

    /// Writes what is left: all at once, or in parts where the store refuses some of it.
    async fn write(&mut self) -> Result<()> {
        let Err(error) = self.write_together().await else { return Ok(()) };
        if !self.may_be_of_rows(&error) {
            return Err(error);
        }
        let outcome = self.write_apart().await;
        let outcome = outcome.and(self.judge());
        self.entries = self.apart.drain(..).flatten().collect();
        outcome
    }

    /// Writes feature by feature; what is written is settled at once, so that another attempt does not write it again.
    async fn write_together(&mut self) -> Result<()> {
        if self.loads.is_none() {
            let stamp = self.stamp(&self.entries).await?;
            self.stamp = Some(stamp);
            self.loads = Some(fenced(ready(&self.shared.store, Load::of(&self.entries), stamp)).await?);
        }
        while let Some(load) = self.loads.as_ref().and_then(VecDeque::front) {
            fenced(load.append(&self.shared.store)).await?;
            let Some(load) = self.loads.as_mut().and_then(VecDeque::pop_front) else { break };
            let (written, rest) = std::mem::take(&mut self.entries).into_iter().partition(|entry| load.has(entry));
            self.entries = rest;
            self.settle(written).await;
            drop_later(load);
        }
        Ok(())
    }

    /// Writes feature by feature, and halves what is refused until the batches are found that cannot be stored.
    async fn write_apart(&mut self) -> Result<()> {
        self.loads = None;
        self.apart = Load::groups(std::mem::take(&mut self.entries), &self.shared.store);
        let mut misses = 0;
        while let Some(group) = self.apart.last() {
            match fenced(self.append(group)).await {
                Ok(()) => {
                    self.takes_some = true;
                    let written = self.apart.pop().unwrap_or_default();
                    self.settle(written).await;
                }
                Err(error) if !self.may_be_of_rows(&error) => return Err(error),
                Err(error) if misses == MISSES && !self.takes_some && Blame::of(&error) != Blame::Rows => {
                    return Err(error);
                }
                Err(error) => {
                    misses += 1;
                    self.halve(error);
                }
            }
        }
        Ok(())
    }

    /// The time of the parcel, or one for these rows where none has been found out yet.
    async fn stamp(&self, entries: &[Entry]) -> Result<i64> {
        let tables = || Load::of(entries).iter().map(|load| load.feature().clone()).collect::<Vec<_>>();
        match self.stamp {
            Some(stamp) => Ok(stamp),
            None => self.shared.store.stamp_for(&tables()).await,
        }
    }

    async fn append(&self, group: &[Entry]) -> Result<()> {
        let stamp = self.stamp(group).await?;
        for load in ready(&self.shared.store, Load::of(group), stamp).await? {
            load.append(&self.shared.store).await?;
        }
        Ok(())
    }

    /// The next group was refused: its halves are tried, or its only batch is the one.
    fn halve(&mut self, error: Error) {
        let mut group = self.apart.pop().unwrap_or_default();
        let second = group.split_off(group.len().div_ceil(2));
        match group.pop() {
            Some(entry) if second.is_empty() && group.is_empty() => self.refused.push(Refused { entry, error }),
            last => {
                group.extend(last);
                self.apart.extend([second, group]);
            }
        }
    }

    /// Whether the store may have refused rows for what they are.
    fn may_be_of_rows(&self, error: &Error) -> bool {
        match Blame::of(error) {
            Blame::Rows => true,
            // To find out takes attempts, and a place for what is found.
            Blame::Unknown => self.shared.spool.is_some(),
            Blame::Store => false,
        }
    }

    /// What was refused for an unknown reason is only known to be at fault where the store has taken something else.
    fn judge(&mut self) -> Result<()> {
        let is_proven = self.takes_some;
        let is_clear = |refused: &Refused| is_proven || Blame::of(&refused.error) == Blame::Rows;
        let (refused, unclear) = std::mem::take(&mut self.refused).into_iter().partition(is_clear);
        self.refused = refused;
        let mut outcome = Ok(());
        for Refused { entry, error } in unclear {
            self.apart.push(vec![entry]);
            outcome = outcome.and(Err(error));
        }
        outcome
    }

    /// Rows are in the store.
    async fn settle(&self, mut written: Vec<Entry>) {
        self.shared.buffer().settle_written(&mut written);
        self.shared.change.notify_waiters();
        let files = written.iter().flat_map(Entry::files).cloned().collect();
        drop_later(written);
        if let Some(spool) = &self.shared.spool {
            spool.remove_later(files).await;
        }
    }

    /// Moves what was refused out of the way, where there is a spool directory.
    async fn set_aside(&mut self) {
        let Some(spool) = self.shared.spool.as_ref().filter(|_| !self.refused.is_empty()) else { return };
        let files = spool.reject_later(self.refused.iter().map(Refused::file_and_reason).collect()).await;
        let rejected = std::mem::take(&mut self.refused).into_iter().zip(files);
        self.shared.checks.forget();
        self.shared.buffer().reject(rejected.map(|(refused, file)| refused.set_aside(file)).collect());
        self.shared.change.notify_waiters();
    }

    fn give_up(&mut self, error: Arc<Error>) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.extend(self.apart.drain(..).flatten());
        entries.extend(self.refused.drain(..).map(|refused| refused.entry));
        self.shared.log_loss(&error, &summary(&entries));
        self.shared.checks.forget();
        self.shared.buffer().give_up(error, entries);
        self.shared.change.notify_waiters();
        self.shared.report();
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !(self.entries.is_empty() && self.apart.is_empty() && self.refused.is_empty()) {
            let error = Error::Task("the runtime was shut down while rows were being written".to_owned());
            self.give_up(Arc::new(error));
        }
    }
}

/// A panic of a storage system is an error that does not pass.
async fn fenced<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let panicked = |panic| Err(Error::Task(format!("the storage system panicked in a write: {panic}")));
    fence::catch_async(work).await.unwrap_or_else(panicked)
}

/// To let go of many small batches takes a while.
fn drop_later(batches: impl Send + 'static) {
    drop(blocking::spawn(move || {
        drop(batches);
        Ok(())
    }));
}

/// Doubles with every attempt, less a random half, so that many writers do not come back at the same time.
fn pause(policy: RetryPolicy, attempt: usize) -> Duration {
    let factor = 1_u32 << (attempt - 1).min(16);
    let full = policy.initial_pause.saturating_mul(factor).min(policy.max_pause);
    full.mul_f64(1.0 - fastrand::f64() / 2.0)
}
