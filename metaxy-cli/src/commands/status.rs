//! `metaxy status`

use futures::TryStreamExt;
use metaxy_core::{AccessMode, Error, FeatureKey, MetadataStore};
use serde::Serialize;

use crate::context::{Context, features_of};
use crate::failure::{Failure, Result};
use crate::output::{Table, Tabular, each_feature};

use super::Answer;

/// Counts the rows of features, and what has to be processed
///
/// Of a root only the rows are counted: what should exist is known outside.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  metaxy status\n  metaxy status raw/video --assert-in-sync")]
pub struct Args {
    /// The features; all if none are named
    features: Vec<String>,
    /// Exits with 1 if a sample is new, stale or orphaned, or if a feature cannot be resolved
    #[arg(long)]
    assert_in_sync: bool,
}

#[derive(Serialize)]
struct Status {
    store: String,
    in_sync: bool,
    features: Vec<Feature>,
}

/// The state of a feature.
#[derive(Serialize)]
pub struct Feature {
    feature: String,
    feature_version: String,
    /// The store that serves its rows; null if none has it.
    store: Option<String>,
    rows: u64,
    /// Null for a root.
    new: Option<usize>,
    stale: Option<usize>,
    orphaned: Option<usize>,
    /// The part of the input that has been processed at least once, from 0 to 1.
    progress: Option<f64>,
    /// Why it cannot be resolved.
    problem: Option<String>,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let store = context.open(AccessMode::ReadOnly).await?;
    let named = features_of(store.graph(), &args.features)?;
    let features = each_feature("comparing", named, async |key| Feature::of(&store, key).await).await?;
    let in_sync = features.iter().all(Feature::is_in_sync);
    context.output().print(&Status { store: store.name().to_owned(), in_sync, features })?;
    Ok(if args.assert_in_sync && !in_sync { Answer::No } else { Answer::Yes })
}

impl Feature {
    /// Counts the rows of a feature, and what has to be processed.
    pub async fn of(store: &MetadataStore, key: &FeatureKey) -> Result<Self> {
        let plan = store.graph().plan(key)?;
        let mut feature = Self {
            feature: key.to_string(),
            feature_version: plan.feature_version.clone(),
            store: store.store_of(key).await?,
            rows: rows(store, key, &plan.spec.id_columns).await?,
            new: None,
            stale: None,
            orphaned: None,
            progress: None,
            problem: None,
        };
        if plan.spec.is_root() {
            return Ok(feature);
        }
        match feature.resolve(store, key).await {
            // Nothing upstream of it was written yet.
            Err(Failure::Library(error @ Error::FeatureNotFound { .. })) => feature.problem = Some(error.to_string()),
            resolved => resolved?,
        }
        Ok(feature)
    }

    async fn resolve(&mut self, store: &MetadataStore, key: &FeatureKey) -> Result<()> {
        let counts = store.resolve_update(key).lazy().await?.counts().await?;
        self.progress = store.input_progress(key).await?.and_then(|progress| progress.share());
        (self.new, self.stale, self.orphaned) = (Some(counts.new), Some(counts.stale), Some(counts.orphaned));
        Ok(())
    }

    /// Returns the state in a line, with what is to be done.
    pub fn line(&self) -> String {
        let rows = if self.rows == 1 { "1 row".to_owned() } else { format!("{} rows", self.rows) };
        match (&self.problem, self.new, self.stale, self.orphaned) {
            (Some(_), ..) => "cannot be resolved".to_owned(),
            (None, Some(new), Some(stale), Some(orphaned)) => {
                let kinds = [(new, "new"), (stale, "stale"), (orphaned, "orphaned")];
                let due = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}"));
                let due: Vec<String> = due.collect();
                let due = if due.is_empty() { "up to date".to_owned() } else { due.join(" · ") };
                format!("{rows} · {due}")
            }
            _ => rows,
        }
    }

    /// Returns the class of its colour in drawings.
    pub fn color(&self) -> &'static str {
        match (&self.problem, self.new) {
            (Some(_), _) => "problem",
            (None, None) => "unknown",
            _ if self.is_in_sync() => "in-sync",
            _ => "due",
        }
    }

    fn is_in_sync(&self) -> bool {
        self.problem.is_none() && [self.new, self.stale, self.orphaned].into_iter().flatten().all(|count| count == 0)
    }
}

/// Counts the samples of a feature.
async fn rows(store: &MetadataStore, key: &FeatureKey, ids: &[String]) -> Result<u64> {
    let stream = match store.read(key).columns(ids).await {
        Err(Error::FeatureNotFound { .. }) => return Ok(0),
        stream => stream?,
    };
    Ok(stream.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows() as u64) }).await?)
}

impl Tabular for Status {
    fn table(&self) -> Table {
        let count = |count: Option<usize>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let row = |one: &Feature| {
            vec![
                one.feature.clone(),
                one.store.clone().unwrap_or_else(|| "-".to_owned()),
                one.rows.to_string(),
                count(one.new),
                count(one.stale),
                count(one.orphaned),
                one.progress.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", (share * 100.0).floor())),
                one.problem.clone().unwrap_or_default(),
            ]
        };
        let header = vec!["feature", "store", "rows", "new", "stale", "orphaned", "progress", "problem"];
        Table { header, rows: self.features.iter().map(row).collect() }
    }
}
