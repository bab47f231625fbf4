//! `metaxy read`

use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::TryStreamExt;
use metaxy_core::store::ReadRequest;
use metaxy_core::{AccessMode, MetadataStore, RowStream, columns};

use crate::context::Context;
use crate::failure::Result;
use crate::files::{FileFormat, FileWriter};
use crate::output::{Progress, note};

use super::Answer;

/// Prints the rows of a feature, or writes them to a file
///
/// By default the newest row of every sample of the current feature version that is not deleted, with the columns of
/// the user, from this store or the fallback that has the feature. Rows are in no particular order.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  metaxy read raw/video --filter \"video_id < 3\" --columns video_id,path\n  \
                        metaxy read raw/video --out videos.parquet --system")]
pub struct Args {
    /// The feature
    feature: String,
    /// Keeps rows for which this is true, such as "size > 3 AND language IN ('en', 'de')"; may be given several times
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Prints these columns
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    columns: Vec<String>,
    /// Prints the system columns too
    #[arg(long, conflicts_with = "columns")]
    system: bool,
    /// Prints at most this number of rows
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Reads rows of this feature version, in place of the current one
    #[arg(long, value_name = "VERSION", conflicts_with = "with_feature_history")]
    feature_version: Option<String>,
    /// Reads rows of every feature version
    #[arg(long)]
    with_feature_history: bool,
    /// Reads every row of a sample, not only the newest
    #[arg(long)]
    with_sample_history: bool,
    /// Reads deleted samples too
    #[arg(long)]
    include_deleted: bool,
    /// Reads this store alone, not its fallback stores
    #[arg(long)]
    no_fallback: bool,
    /// Writes the rows to a file: .parquet, .arrow, .csv or .jsonl
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The format of the file, if its name does not tell
    #[arg(long, value_enum, requires = "out")]
    file_format: Option<FileFormat>,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let store = context.open(AccessMode::ReadOnly).await?;
    let rows = request(args, &store).await?;
    let kept = shown(rows.schema(), args);
    match &args.out {
        None => {
            let mut writer = context.output().rows(schema(rows.schema(), &kept)?)?;
            for_each(rows, &kept, args.limit, |batch| writer.write(batch)).await?;
            writer.finish()?;
        }
        Some(path) => {
            let format = args.file_format.map_or_else(|| FileFormat::of(path), Ok)?;
            let mut writer = FileWriter::create(path, format, &schema(rows.schema(), &kept)?)?;
            let progress = Progress::of_rows("reading");
            for_each(rows, &kept, args.limit, |batch| {
                progress.add(batch.num_rows());
                writer.write(batch)
            })
            .await?;
            drop(progress);
            let rows = writer.finish()?;
            note(format!("wrote {rows} rows to {}", path.display()));
        }
    }
    Ok(Answer::Yes)
}

fn request(args: &Args, store: &MetadataStore) -> ReadRequest {
    let mut request = store.read(args.feature.as_str());
    for filter in &args.filter {
        request = request.filter(filter.as_str());
    }
    if !args.columns.is_empty() {
        request = request.columns(&args.columns);
    }
    if let Some(version) = &args.feature_version {
        request = request.of_version(version);
    }
    if args.with_feature_history {
        request = request.with_feature_history();
    }
    if args.with_sample_history {
        request = request.with_sample_history();
    }
    if args.include_deleted {
        request = request.include_soft_deleted();
    }
    if args.no_fallback {
        request = request.without_fallback();
    }
    request
}

/// Returns the positions of the columns that are shown.
fn shown(schema: &SchemaRef, args: &Args) -> Vec<usize> {
    let all = args.system || !args.columns.is_empty();
    let fields = schema.fields().iter().enumerate();
    fields.filter(|(_, field)| all || !columns::is_system(field.name())).map(|(at, _)| at).collect()
}

fn schema(schema: &Schema, kept: &[usize]) -> Result<SchemaRef> {
    Ok(schema.project(kept).map_err(metaxy_core::Error::from)?.into())
}

/// Calls a function with the batches of a stream, up to a number of rows.
async fn for_each(
    mut rows: RowStream,
    kept: &[usize],
    limit: Option<usize>,
    mut call: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let mut left = limit.unwrap_or(usize::MAX);
    while left > 0 {
        let Some(batch) = rows.try_next().await? else { break };
        let batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
        call(&batch.project(kept).map_err(metaxy_core::Error::from)?)?;
    }
    Ok(())
}
