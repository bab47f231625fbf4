//! A feature that is watched: an increment whenever something has changed.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use crate::checkpoint::Mark;
use crate::error::Result;
use crate::key::{FeatureKey, IntoFeatureKey};

use super::{Increment, MetadataStore};

/// The time between two looks, unless the storage system notifies of changes.
const INTERVAL: Duration = Duration::from_secs(1);

impl MetadataStore {
    /// Watches a feature: returns its increment now, unless it is empty, and again whenever a table has changed and
    /// something is new, stale or orphaned. An increment that is not processed is returned again with the next change.
    ///
    /// Looking costs as much as the [positions](crate::backend::StoreBackend::position) of the tables; the increments are
    /// computed from what has changed. If a backend does not tell positions, each look resolves the feature. Changes that
    /// the storage system [notifies](crate::backend::StoreBackend::notifications) of are looked at immediately.
    ///
    /// The stream does not end. After an error, which is an item of the stream, it goes on; an error that stays, such as
    /// [`Error::RootWithoutSamples`](crate::Error::RootWithoutSamples), is returned at each look.
    ///
    /// ```no_run
    /// # async fn process(rows: Vec<metaxy_core::RecordBatch>) -> Vec<metaxy_core::RecordBatch> { rows }
    /// # async fn run(store: metaxy_core::MetadataStore) -> metaxy_core::Result<()> {
    /// use futures::TryStreamExt;
    ///
    /// let mut increments = store.watch("processed/transcript")?;
    /// while let Some(increment) = increments.try_next().await? {
    ///     let results = process(increment.to_process().cloned().collect()).await;
    ///     store.write("processed/transcript", results).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidKey`](crate::Error::InvalidKey), [`Error::UnknownFeature`](crate::Error::UnknownFeature).
    pub fn watch(&self, feature: impl IntoFeatureKey) -> Result<Watch> {
        let key = feature.into_feature_key()?;
        self.plan(&key)?;
        let looks = Looks { store: self.clone(), key, interval: INTERVAL, seen: Seen::Nothing, notifications: None };
        Ok(Watch(State::Waiting(Some(Box::new(looks)))))
    }
}

/// The increments of a feature that is [watched](MetadataStore::watch).
pub struct Watch(State);

enum State {
    /// Not polled yet.
    Waiting(Option<Box<Looks>>),
    Running(BoxStream<'static, Result<Increment>>),
}

impl Watch {
    /// Sets the time between two looks, of which up to a tenth is left out at random; by default a second.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        if let State::Waiting(Some(looks)) = &mut self.0 {
            looks.interval = interval;
        }
        self
    }
}

impl Stream for Watch {
    type Item = Result<Increment>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let State::Waiting(looks) = &mut self.0
            && let Some(looks) = looks.take()
        {
            let stream = stream::unfold(looks, |mut looks| async move { Some((looks.next().await, looks)) });
            self.0 = State::Running(stream.boxed());
        }
        match &mut self.0 {
            State::Running(stream) => stream.as_mut().poll_next(context),
            State::Waiting(_) => Poll::Ready(None),
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// The looks at a feature.
struct Looks {
    store: MetadataStore,
    key: FeatureKey,
    interval: Duration,
    seen: Seen,
    notifications: Option<BoxStream<'static, ()>>,
}

/// The tables at the last look.
enum Seen {
    /// There was none, or it failed.
    Nothing,
    /// Their positions; `None` if the backend does not tell them.
    Tables(Option<Vec<Mark>>),
}

impl Looks {
    /// Returns the next increment that is not empty, or the error of a look.
    async fn next(&mut self) -> Result<Increment> {
        if self.notifications.is_none() {
            self.notifications = Some(self.store.notifications(&self.key));
        } else {
            self.wait().await;
        }
        loop {
            let now = self.store.marks(&self.key).await?;
            let is_unchanged = matches!(&self.seen, Seen::Tables(Some(seen)) if now.as_ref() == Some(seen));
            if !is_unchanged {
                self.seen = Seen::Nothing;
                let increment = self.store.resolve_update(&self.key).await?;
                self.seen = Seen::Tables(now);
                if !increment.is_empty() {
                    return Ok(increment);
                }
            }
            self.wait().await;
        }
    }

    /// Waits for the next look.
    async fn wait(&mut self) {
        let pause = tokio::time::sleep(self.interval.mul_f64(1.0 - 0.1 * fastrand::f64()));
        let Some(notifications) = &mut self.notifications else { return pause.await };
        tokio::select! {
            () = pause => {}
            notified = notifications.next() => if notified.is_none() {
                self.notifications = Some(stream::pending().boxed());
            }
        }
    }
}

impl MetadataStore {
    /// Returns the notifications of this store and its open fallback stores about the tables of a feature.
    fn notifications(&self, key: &FeatureKey) -> BoxStream<'static, ()> {
        let deps = self.plan(key).map(|plan| plan.spec.deps.as_slice()).unwrap_or_default();
        let tables: Vec<FeatureKey> = deps.iter().map(|dep| dep.feature().clone()).chain([key.clone()]).collect();
        let mut all: Vec<BoxStream<'static, ()>> = Vec::new();
        let mut stores = vec![self.clone()];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(store) = stores.pop() {
            if seen.insert(store.identity()) {
                all.extend(store.inner.backend.notifications(&tables));
                stores.extend(store.inner.fallbacks.iter().filter_map(|fallback| fallback.opened().cloned()));
            }
        }
        stream::select_all(all).chain(stream::pending()).boxed()
    }
}
