//! `metaxy resolve`

mod request;
mod rows;

use std::path::PathBuf;

use metaxy_core::store::ResolveRequest;
use metaxy_core::{AccessMode, Basis, Increment, MetadataStore};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::files::{FileFormat, Target};
use crate::output::{Table, Tabular, note};
use crate::versions::FieldVersion;

use super::{Answer, since};
use request::{feature_filter, request};
use rows::{Kind, Rows, print_kind, to_files};

/// Compares the samples that should exist with those that are stored
///
/// Prints how many are new, stale and orphaned. `--out` writes their rows to files, `--only` prints those of one kind.
/// Results are written back with `metaxy write --made-from`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  metaxy resolve processed/transcript\n  \
    metaxy resolve processed/transcript --out todo --limit 1000\n  \
    metaxy resolve processed/transcript --only new --format json\n  \
    metaxy resolve processed/transcript --since transcript.checkpoint --changed-fields --out todo\n  \
    metaxy resolve raw/video --samples videos.csv --version audio=audio_sha256,frames=frames_sha256")]
pub struct Args {
    /// The feature
    feature: String,
    /// The samples that should exist, which only a root needs
    #[arg(long, value_name = "FILE")]
    samples: Vec<PathBuf>,
    /// The columns that hold the versions of the samples' fields
    #[arg(long = "version", value_name = "FIELD=COLUMN[+COLUMN],...", value_delimiter = ',', requires = "samples")]
    versions: Vec<FieldVersion>,
    /// Columns of CSV files that are text even if they look like numbers
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',', requires = "samples")]
    text: Vec<String>,
    /// Reads only what has changed since the checkpoint in this file, if there is one, and writes the new checkpoint there.
    /// The answer is the same
    #[arg(long, value_name = "FILE", conflicts_with_all = ["samples", "skip_comparison"])]
    since: Option<PathBuf>,
    /// Adds the column metaxy_changed_fields: the fields of a sample that have to be made again
    #[arg(long)]
    changed_fields: bool,
    /// Returns at most this number of samples to process. Samples of one group (N:1) stay together
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Writes the rows to the files new, stale and orphaned of a directory, or of a prefix such as s3://bucket/todo.
    /// A bucket is opened with the storage_options of the store, or else as the environment says
    #[arg(long, value_name = "DIR|URL")]
    out: Option<String>,
    /// The format of the files
    #[arg(long, value_enum, default_value_t = FileFormat::Parquet)]
    file_format: FileFormat,
    /// Prints the rows of one kind
    #[arg(long, value_enum, conflicts_with = "out")]
    only: Option<Kind>,
    /// Keeps only rows of an upstream feature, or of this one, for which the filter is true
    #[arg(long, value_name = "FEATURE:FILTER", value_parser = feature_filter)]
    filter: Vec<(String, String)>,
    /// Keeps only stored rows for which the filter is true
    #[arg(long, value_name = "FILTER")]
    target_filter: Vec<String>,
    /// Keeps only rows for which the filter is true, of every feature
    #[arg(long, value_name = "FILTER")]
    global_filter: Vec<String>,
    /// Makes stored rows stale for which this is true, whatever their versions
    #[arg(long, value_name = "FILTER")]
    stale_if: Vec<String>,
    /// Makes every sample new, whatever is stored
    #[arg(long)]
    skip_comparison: bool,
}

#[derive(Serialize)]
struct Resolved {
    feature: String,
    feature_version: String,
    new: usize,
    stale: usize,
    orphaned: usize,
    /// The files that were written.
    files: Vec<String>,
    /// From which rows the increment was computed, if a checkpoint was asked for.
    basis: Option<BasisShown>,
}

/// From which rows an increment was computed.
#[derive(Serialize)]
struct BasisShown {
    rows: &'static str,
    keys: Option<usize>,
    reason: Option<String>,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let counts_only = args.out.is_none() && args.only.is_none();
    if counts_only && (args.limit.is_some() || args.changed_fields) {
        let option =
            if args.limit.is_some() { "`--limit` limits rows" } else { "`--changed-fields` is a column of rows" };
        return Err(Failure::usage(format!("{option}; give `--out DIR` or `--only KIND` too")));
    }
    let store = context.open(AccessMode::ReadOnly).await?;
    let request = request(args, &store).await?;
    let compares = args.samples.is_empty() && !args.skip_comparison;
    if args.since.is_none() && !(compares && context.keeps_checkpoints()?) {
        return answer(args, context, &store, Resolving::Lazy(Box::new(request)), None).await;
    }
    let request = match args.since.as_deref().map(since::read).transpose()? {
        // The store's own checkpoints count.
        None => request,
        Some(Some(checkpoint)) => request.since(&checkpoint),
        Some(None) => request.from_all_rows(),
    };
    let increment = request.await?;
    note(format!("computed from {}", increment.basis()));
    let shown = Some(BasisShown::of(increment.basis()));
    let checkpoint = increment.checkpoint().cloned();
    let found = answer(args, context, &store, Resolving::Done(Box::new(increment)), shown).await?;
    // After the rows are out: a checkpoint of an answer that nobody has got would be of no use.
    match (&args.since, checkpoint) {
        (Some(file), Some(checkpoint)) => since::write(file, &checkpoint)?,
        (Some(file), None) => note(format!("{} is not written: this increment has no checkpoint", file.display())),
        (None, _) => {}
    }
    Ok(found)
}

/// An increment, computed or not.
enum Resolving {
    Lazy(Box<ResolveRequest>),
    Done(Box<Increment>),
}

/// Prints or writes what is asked for.
async fn answer(
    args: &Args,
    context: &Context,
    store: &MetadataStore,
    resolving: Resolving,
    basis: Option<BasisShown>,
) -> Result<Answer> {
    let answer = |counts, files| args.resolved(store, counts, files, basis);
    if args.out.is_none() && args.only.is_none() {
        let counts = match resolving {
            Resolving::Lazy(request) => {
                let counts = request.lazy().await?.counts().await?;
                [counts.new, counts.stale, counts.orphaned]
            }
            Resolving::Done(found) => [&found.new, &found.stale, &found.orphaned].map(|rows| rows.num_rows()),
        };
        context.output().print(&answer(counts, Vec::new())?)?;
        return Ok(Answer::Yes);
    }
    let rows = Rows::of(resolving, args, store).await?;
    match (&args.out, args.only) {
        (Some(target), _) => {
            let target = Target::parse(target, || context.storage_options())?;
            let (counts, files) = to_files(rows, target, args.file_format).await?;
            context.output().print(&answer(counts, files)?)?;
        }
        (None, Some(kind)) => print_kind(rows, kind, context.output()).await?,
        (None, None) => {}
    }
    Ok(Answer::Yes)
}

impl Args {
    fn resolved(
        &self,
        store: &MetadataStore,
        counts: [usize; 3],
        files: Vec<String>,
        basis: Option<BasisShown>,
    ) -> Result<Resolved> {
        let [new, stale, orphaned] = counts;
        let feature_version = store.graph().feature_version(self.feature.as_str())?.to_owned();
        Ok(Resolved { feature: self.feature.clone(), feature_version, new, stale, orphaned, files, basis })
    }
}

impl BasisShown {
    fn of(basis: &Basis) -> Self {
        let (rows, keys, reason) = match basis {
            Basis::AllRows { reason } => ("all", None, reason.clone()),
            Basis::Changes { keys } => ("changed", Some(*keys), None),
            Basis::Unchanged => ("none", Some(0), None),
        };
        Self { rows, keys, reason }
    }
}

impl Tabular for Resolved {
    fn table(&self) -> Table {
        let counts = [self.new, self.stale, self.orphaned].map(|count| count.to_string());
        Table {
            header: vec!["feature", "new", "stale", "orphaned"],
            rows: vec![std::iter::once(self.feature.clone()).chain(counts).collect()],
        }
    }
}
