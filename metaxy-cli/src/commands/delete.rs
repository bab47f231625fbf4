//! `metaxy delete`

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use metaxy_core::store::DeleteRequest;
use metaxy_core::{AccessMode, MetadataStore};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::files::{Columns, FileFormat, Source};
use crate::output::{Table, Tabular};

use super::Answer;

/// Deletes samples of a feature
///
/// By default their rows are kept, marked as deleted: `--hard` removes them. Asks before it deletes, unless `--yes` is
/// given.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  metaxy delete raw/video --filter \"video_id = 3\" --cascade --dry-run\n  \
    metaxy delete processed/transcript --orphaned --yes\n  \
    metaxy delete raw/video --ids todo/stale.parquet --yes")]
#[command(group = clap::ArgGroup::new("samples").required(true).multiple(true))]
pub struct Args {
    /// The feature
    feature: String,
    /// Deletes samples for which this is true, such as "duration < 1"; may be given several times
    #[arg(long, value_name = "FILTER", group = "samples")]
    filter: Vec<String>,
    /// Deletes the samples whose ids are in a file
    #[arg(long, value_name = "FILE", group = "samples")]
    ids: Option<PathBuf>,
    /// Deletes the samples that nothing upstream asks for
    #[arg(long, group = "samples", conflicts_with = "ids")]
    orphaned: bool,
    /// Deletes every sample
    #[arg(long, group = "samples", conflicts_with_all = ["filter", "ids", "orphaned"])]
    all: bool,
    /// Deletes also the samples downstream that nothing asks for any more then
    #[arg(long)]
    cascade: bool,
    /// Removes the rows, in place of marking them
    #[arg(long)]
    hard: bool,
    /// Deletes rows of every feature version
    #[arg(long)]
    with_feature_history: bool,
    /// Only tells what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Deletes without asking
    #[arg(long)]
    yes: bool,
    /// The format of the file of ids, if its name does not tell
    #[arg(long, value_enum, requires = "ids")]
    file_format: Option<FileFormat>,
}

#[derive(Serialize)]
struct Deleted {
    dry_run: bool,
    features: Vec<Feature>,
}

#[derive(Serialize)]
struct Feature {
    feature: String,
    samples: u64,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let mode = if args.dry_run { AccessMode::ReadOnly } else { AccessMode::ReadWrite };
    let store = context.open(mode).await?;
    let rows = rows(args, &store).await?;
    let request = || request(args, &store, rows.clone());
    if args.dry_run || !args.yes {
        let planned = planned(args, request()).await?;
        if args.dry_run {
            context.output().print(&Deleted { dry_run: true, features: planned })?;
            return Ok(Answer::Yes);
        }
        if !confirmed(&planned)? {
            return Ok(Answer::No);
        }
    }
    let features = match args.cascade {
        true => features(request().cascade().await?),
        false => vec![Feature { feature: args.feature.clone(), samples: request().await? }],
    };
    context.output().print(&Deleted { dry_run: false, features })?;
    Ok(Answer::Yes)
}

/// Returns the rows that name the samples, if rows do.
async fn rows(args: &Args, store: &MetadataStore) -> Result<Option<Vec<RecordBatch>>> {
    let key = &store.graph().plan(args.feature.as_str())?.spec.key;
    if args.orphaned {
        return Ok(Some(store.resolve_update(key).lazy().await?.orphaned_rows().collect().await?));
    }
    let Some(file) = &args.ids else { return Ok(None) };
    let columns = Columns { stored: store.backend().schema(key).await?, texts: Vec::new() };
    let reader = Source::new(file, args.file_format).open(&columns)?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| Failure::file(file, error))?;
    Ok(Some(batches))
}

fn request(args: &Args, store: &MetadataStore, rows: Option<Vec<RecordBatch>>) -> DeleteRequest {
    let mut request = match rows {
        Some(rows) => store.delete_rows(args.feature.as_str(), rows),
        None => store.delete(args.feature.as_str()),
    };
    request = args.filter.iter().fold(request, |request, filter| request.filter(filter));
    if args.hard {
        request = request.hard();
    }
    if args.with_feature_history {
        request = request.with_feature_history();
    }
    request
}

/// Returns what would be deleted.
async fn planned(args: &Args, request: DeleteRequest) -> Result<Vec<Feature>> {
    if args.cascade {
        return Ok(features(request.cascade().dry_run().await?));
    }
    Ok(vec![Feature { feature: args.feature.clone(), samples: request.count().await? }])
}

fn features(summary: metaxy_core::store::CascadeSummary) -> Vec<Feature> {
    let rows = summary.rows.into_iter();
    rows.map(|(feature, samples)| Feature { feature: feature.to_string(), samples }).collect()
}

/// Asks on the terminal.
fn confirmed(planned: &[Feature]) -> Result<bool> {
    let parts: Vec<String> = planned.iter().map(|one| format!("{} of {}", one.samples, one.feature)).collect();
    let what = parts.join(", ");
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "this deletes samples ({what}); give `--yes`, or `--dry-run` to look first"
        )));
    }
    let mut stderr = std::io::stderr();
    let asked = write!(stderr, "Delete samples ({what})? [y/N] ").and_then(|()| stderr.flush());
    asked.map_err(|error| Failure::io("ask", error))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Failure::io("read the answer", error))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

impl Tabular for Deleted {
    fn table(&self) -> Table {
        let row = |one: &Feature| vec![one.feature.clone(), one.samples.to_string()];
        let samples = if self.dry_run { "samples_to_delete" } else { "samples_deleted" };
        Table { header: vec!["feature", samples], rows: self.features.iter().map(row).collect() }
    }
}
