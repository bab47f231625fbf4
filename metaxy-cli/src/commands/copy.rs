//! `metaxy copy`

use metaxy_core::{AccessMode, MetadataStore};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Progress, Table, Tabular};

use super::Answer;

/// Copies features from another store into this one
///
/// A copy can be repeated: rows that are there already are not sent again. Fallback stores are not copied.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  metaxy copy --from dev --store backup raw/video")]
pub struct Args {
    /// The features; all that the other store has if none are named
    features: Vec<String>,
    /// The store to copy from, by its name in metaxy.toml
    #[arg(long, value_name = "NAME")]
    from: String,
    /// Copies only rows for which this is true, such as "video_id < 100"
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Copies only rows of the current feature version
    #[arg(long)]
    current_version: bool,
    /// Copies every row of a sample, not only the newest
    #[arg(long)]
    with_sample_history: bool,
}

#[derive(Serialize)]
struct Copied {
    from: String,
    to: String,
    features: Vec<Feature>,
}

#[derive(Serialize)]
struct Feature {
    feature: String,
    rows: u64,
    skipped: u64,
    deleted: u64,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let target = context.open(AccessMode::ReadWrite).await?;
    if args.from == target.name() {
        let reason = format!("`{}` is the store to copy from and to; name another one with `--store`", args.from);
        return Err(Failure::usage(reason));
    }
    let source = context.open_other(&args.from, target.graph().clone()).await?;
    context.output().print(&copy(args, &source, &target).await?)?;
    Ok(Answer::Yes)
}

async fn copy(args: &Args, source: &MetadataStore, target: &MetadataStore) -> Result<Copied> {
    let mut copy = target.copy_from(source);
    if !args.features.is_empty() {
        copy = copy.features(args.features.iter().map(String::as_str));
    }
    for filter in &args.filter {
        copy = copy.global_filter(filter.as_str());
    }
    if args.current_version {
        copy = copy.without_feature_history();
    }
    if args.with_sample_history {
        copy = copy.with_sample_history();
    }
    let progress = Progress::of_rows("copying");
    let summary = copy
        .on_progress(move |done| {
            progress.tell(format!("copying {}", done.feature));
            progress.set(done.rows);
        })
        .await?;
    let features = summary.rows.iter().map(|(key, rows)| Feature {
        feature: key.to_string(),
        rows: *rows,
        skipped: summary.skipped.get(key).copied().unwrap_or_default(),
        deleted: summary.deleted.get(key).copied().unwrap_or_default(),
    });
    Ok(Copied { features: features.collect(), from: args.from.clone(), to: target.name().to_owned() })
}

impl Tabular for Copied {
    fn table(&self) -> Table {
        let row = |one: &Feature| {
            vec![one.feature.clone(), one.rows.to_string(), one.skipped.to_string(), one.deleted.to_string()]
        };
        Table { header: vec!["feature", "rows", "skipped", "deletions"], rows: self.features.iter().map(row).collect() }
    }
}
