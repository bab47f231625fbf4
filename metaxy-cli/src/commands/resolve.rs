//! `metaxy resolve`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use clap::ValueEnum;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::store::ResolveRequest;
use metaxy_core::{AccessMode, Basis, Increment, Lineage, MetadataStore, RowKind, RowStream};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::files::{Columns, FileFormat, FileWriter, Source};
use crate::output::{Output, Progress, Table, Tabular, note};
use crate::versions::{Completion, FieldVersion};

use super::{Answer, since};

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
    /// Writes the rows to the files new, stale and orphaned of a directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
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

/// A kind of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Kind {
    /// Without a row
    New,
    /// With a row that was made from something else
    Stale,
    /// With a row that nothing upstream asks for
    Orphaned,
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
        (Some(directory), _) => {
            let (counts, files) = to_files(rows, directory, args.file_format).await?;
            context.output().print(&answer(counts, files)?)?;
        }
        (None, Some(kind)) => print_kind(rows, kind, context.output()).await?,
        (None, None) => {}
    }
    Ok(Answer::Yes)
}

async fn request(args: &Args, store: &MetadataStore) -> Result<ResolveRequest> {
    let mut request = store.resolve_update(args.feature.as_str());
    if !args.samples.is_empty() {
        request = request.samples(samples(args, store).await?);
    }
    for (feature, filter) in &args.filter {
        request = request.filter(feature.as_str(), filter.as_str());
    }
    request = args.target_filter.iter().fold(request, |request, filter| request.target_filter(filter));
    request = args.global_filter.iter().fold(request, |request, filter| request.global_filter(filter));
    request = args.stale_if.iter().fold(request, |request, filter| request.staleness(filter));
    request = if args.changed_fields { request.with_changed_fields() } else { request };
    Ok(if args.skip_comparison { request.skip_comparison() } else { request })
}

async fn samples(args: &Args, store: &MetadataStore) -> Result<Vec<RecordBatch>> {
    let spec = &store.graph().plan(args.feature.as_str())?.spec;
    let completion = Completion::new(spec, &args.versions)?;
    let texts = args.text.iter().cloned().chain(completion.columns()).collect();
    let columns = Columns { stored: store.backend().schema(&spec.key).await?, texts };
    let mut samples = Vec::new();
    for file in &args.samples {
        for batch in Source::new(file, None).open(&columns)? {
            samples.push(completion.apply(batch.map_err(|error| Failure::file(file, error))?)?);
        }
    }
    Ok(samples)
}

/// The rows of an increment, as they are computed.
struct Rows {
    schemas: [SchemaRef; 3],
    stream: KindStream,
}

type KindStream = BoxStream<'static, metaxy_core::Result<(Kind, RecordBatch)>>;

/// Ends a stream after a number of rows.
fn limited(stream: KindStream, limit: Option<usize>) -> KindStream {
    let Some(mut left) = limit else { return stream };
    let taken = stream.try_take_while(move |(_, batch)| {
        let goes_on = left > 0;
        left = left.saturating_sub(batch.num_rows());
        std::future::ready(Ok(goes_on))
    });
    let mut left = limit.unwrap_or_default();
    let cut = taken.map_ok(move |(kind, batch)| {
        let batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
        (kind, batch)
    });
    cut.boxed()
}

impl Rows {
    async fn of(resolving: Resolving, args: &Args, store: &MetadataStore) -> Result<Self> {
        let plan = store.graph().plan(args.feature.as_str())?;
        let in_groups = plan.spec.deps.iter().any(|dep| matches!(dep.lineage, Lineage::Aggregation { .. }));
        let groups = args.limit.filter(|_| in_groups && args.only != Some(Kind::Orphaned));
        let request = match resolving {
            Resolving::Done(increment) => return Self::of_increment(&increment, args, groups),
            Resolving::Lazy(request) if groups.is_some() || args.changed_fields => {
                return Self::of_increment(&(*request).await?, args, groups);
            }
            Resolving::Lazy(request) => request,
        };
        let increment = request.lazy().await?;
        let orphaned = increment.orphaned_rows();
        let schemas = [increment.schema().clone(), increment.schema().clone(), orphaned.schema().clone()];
        let of = |kind: Kind, rows: RowStream| rows.map_ok(move |batch| (kind, batch)).boxed();
        let stream = match args.only {
            None => increment.stream().map_ok(|(kind, batch)| (Kind::of(kind), batch)).boxed(),
            Some(Kind::New) => of(Kind::New, increment.new_rows()),
            Some(Kind::Stale) => of(Kind::Stale, increment.stale_rows()),
            Some(Kind::Orphaned) => of(Kind::Orphaned, orphaned),
        };
        Ok(Self { schemas, stream: limited(stream, args.limit) })
    }

    /// Returns the rows of an increment, in whole groups if their number is limited.
    fn of_increment(increment: &Increment, args: &Args, groups: Option<usize>) -> Result<Self> {
        if let Some(limit) = groups {
            return Self::of_groups(increment, args.only, limit);
        }
        let kinds = Kind::ALL.into_iter().zip([&increment.new, &increment.stale, &increment.orphaned]);
        let of_kind = |(kind, rows): (Kind, &metaxy_core::Rows)| {
            let wanted = args.only.is_none_or(|only| only == kind);
            rows.batches().iter().filter(|_| wanted).map(|batch| Ok((kind, batch.clone()))).collect::<Vec<_>>()
        };
        let rows: Vec<_> = kinds.flat_map(of_kind).collect();
        let stream = limited(futures::stream::iter(rows).boxed(), args.limit);
        Ok(Self { schemas: schemas_of(increment), stream })
    }

    /// Returns whole groups, up to a number of rows, and at least one group.
    fn of_groups(increment: &Increment, only: Option<Kind>, limit: usize) -> Result<Self> {
        let (mut taken, mut seen, mut rows) = (0, 0, Vec::new());
        for group in increment.groups()? {
            let kind = if seen < increment.new.num_rows() { Kind::New } else { Kind::Stale };
            seen += group.num_rows();
            if only.is_some_and(|only| only != kind) {
                continue;
            }
            if taken > 0 && taken + group.num_rows() > limit {
                break;
            }
            taken += group.num_rows();
            rows.push(Ok((kind, group)));
        }
        Ok(Self { schemas: schemas_of(increment), stream: futures::stream::iter(rows).boxed() })
    }

    fn schema(&self, kind: Kind) -> &SchemaRef {
        &self.schemas[kind as usize]
    }
}

fn schemas_of(increment: &Increment) -> [SchemaRef; 3] {
    [&increment.new, &increment.stale, &increment.orphaned].map(|rows| rows.schema().clone())
}

impl Kind {
    const ALL: [Self; 3] = [Self::New, Self::Stale, Self::Orphaned];

    fn of(kind: RowKind) -> Self {
        match kind {
            RowKind::New => Self::New,
            RowKind::Stale => Self::Stale,
            RowKind::Orphaned => Self::Orphaned,
        }
    }

    fn name(self) -> &'static str {
        ["new", "stale", "orphaned"][self as usize]
    }
}

/// Writes a file for each kind, also of none, so that a file of an earlier call is not taken for one of this call.
async fn to_files(mut rows: Rows, directory: &Path, format: FileFormat) -> Result<([usize; 3], Vec<String>)> {
    std::fs::create_dir_all(directory)
        .map_err(|error| Failure::io(format!("create the directory {}", directory.display()), error))?;
    let mut writers = BTreeMap::new();
    let mut files = Vec::new();
    for kind in Kind::ALL {
        let path = directory.join(kind.name()).with_extension(format.extension());
        writers.insert(kind, FileWriter::create(&path, format, rows.schema(kind))?);
        files.push(path.display().to_string());
    }
    let progress = Progress::of_rows("resolving");
    while let Some((kind, batch)) = rows.stream.try_next().await? {
        progress.add(batch.num_rows());
        if let Some(writer) = writers.get_mut(&kind) {
            writer.write(&batch)?;
        }
    }
    let mut counts = [0; 3];
    for (kind, writer) in writers {
        counts[kind as usize] = writer.finish()?;
    }
    Ok((counts, files))
}

async fn print_kind(mut rows: Rows, kind: Kind, output: &Output) -> Result<()> {
    let mut writer = output.rows(rows.schema(kind).clone())?;
    while let Some((of, batch)) = rows.stream.try_next().await? {
        if of == kind {
            writer.write(&batch)?;
        }
    }
    writer.finish()
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

fn feature_filter(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((feature, filter)) => Ok((feature.trim().to_owned(), filter.trim().to_owned())),
        None => Err(format!("`{text}` is not FEATURE:FILTER, such as \"raw/video:duration > 3\"")),
    }
}
