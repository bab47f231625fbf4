//! The progress of long work, on a terminal.

use std::time::Duration;

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use metaxy_core::FeatureKey;
use metaxy_core::backend::BatchStream;

use crate::failure::Result;

/// A line about long work, on stderr if that is a terminal. It disappears when it is dropped.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    _clearing: std::sync::Arc<Clearing>,
}

/// Removes the line when the last handle is dropped.
#[derive(Debug)]
struct Clearing(ProgressBar);

impl Drop for Clearing {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Works on features one after the other, and shows which: `doing` is what is done with each, such as "comparing".
pub async fn each_feature<T>(
    doing: &str,
    features: Vec<FeatureKey>,
    work: impl AsyncFn(&FeatureKey) -> Result<T>,
) -> Result<Vec<T>> {
    let progress = Progress::of_features(doing, features.len());
    let mut done = Vec::with_capacity(features.len());
    for key in &features {
        progress.tell(format!("{doing} {key}"));
        done.push(work(key).await?);
        progress.add(1);
    }
    Ok(done)
}

impl Progress {
    /// Counts rows, of which it is not known how many there are.
    pub fn of_rows(what: &str) -> Self {
        Self::new(ProgressBar::new_spinner(), "{spinner} {msg}: {human_pos} rows, {elapsed}", what)
    }

    /// Counts features.
    fn of_features(what: &str, features: usize) -> Self {
        Self::new(ProgressBar::new(features as u64), "{bar:30} {pos}/{len} features, {msg}", what)
    }

    fn new(bar: ProgressBar, template: &str, what: &str) -> Self {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = bar.with_style(style).with_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        // The first line comes now, not with the first tick.
        bar.tick();
        Self { _clearing: std::sync::Arc::new(Clearing(bar.clone())), bar }
    }

    /// Adds to what is done.
    pub fn add(&self, done: usize) {
        self.bar.inc(done as u64);
    }

    /// Sets what is done.
    pub fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Tells what is worked on.
    pub fn tell(&self, what: impl ToString) {
        self.bar.set_message(what.to_string());
    }

    /// Counts the rows of a stream while it is read.
    pub fn counting(self, rows: BatchStream) -> BatchStream {
        let counted = rows.inspect(move |batch| {
            if let Ok(batch) = batch {
                self.add(batch.num_rows());
            }
        });
        counted.boxed()
    }
}
