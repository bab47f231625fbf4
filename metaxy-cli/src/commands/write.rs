//! `metaxy write`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use futures::StreamExt;
use metaxy_core::backend::BatchStream;
use metaxy_core::columns::PROVENANCE_BY_FIELD;
use metaxy_core::{AccessMode, Error, FeaturePlan, MetadataStore};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::files::{Columns, FileFormat, Source};
use crate::output::{Progress, Table, Tabular};
use crate::versions::{Completion, FieldVersion};

use super::Answer;

/// Writes rows of files to a feature: all rows or none
///
/// Every row needs the versions of its fields. For a root, `--version` names the columns that change when a field
/// changes, such as a hash. For other features the file has the column metaxy_provenance_by_field of the samples that
/// `resolve` has written; or `--made-from` names the files of these samples.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    metaxy write raw/video videos.csv --version audio=audio_sha256,frames=frames_sha256\n  \
    metaxy write raw/video videos.csv --version audio=etag,frames=etag+size\n  \
    metaxy write processed/transcript transcripts.csv --made-from todo\n  \
    cat transcripts.csv | metaxy write processed/transcript - --file-format csv --made-from todo")]
pub struct Args {
    /// The feature
    feature: String,
    /// The files: .parquet, .arrow, .csv or .jsonl; `-` for stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The columns that hold the versions of a root's fields; those of CSV files are text
    #[arg(long = "version", value_name = "FIELD=COLUMN[+COLUMN],...", value_delimiter = ',')]
    versions: Vec<FieldVersion>,
    /// The samples that the rows were made from: the directory that `resolve --out` has written, or a file of it
    #[arg(long, value_name = "PATH", conflicts_with = "versions")]
    made_from: Vec<PathBuf>,
    /// Columns of CSV files that are text even if they look like numbers, as ids with leading zeros do
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    text: Vec<String>,
    /// The format of the files, if their names do not tell
    #[arg(long, value_enum)]
    file_format: Option<FileFormat>,
    /// The value of metaxy_materialization_id, which names the run
    #[arg(long, value_name = "ID")]
    materialization_id: Option<String>,
}

#[derive(Serialize)]
struct Written {
    feature: String,
    rows: u64,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let store = context.open(AccessMode::ReadWrite).await?;
    let plan = store.graph().plan(args.feature.as_str())?;
    let completion = Completion::new(&plan.spec, &args.versions)?;
    let rows = rows(args, &store, plan, &completion).await?;
    let progress = Progress::of_rows(&format!("writing {}", args.feature));
    let mut write = store.write(args.feature.as_str(), progress.counting(rows));
    if !args.made_from.is_empty() {
        write = write.made_from_samples(samples(args, &completion)?);
    }
    if let Some(id) = &args.materialization_id {
        write = write.materialization_id(id);
    }
    context.output().print(&Written { feature: args.feature.clone(), rows: write.await? })?;
    Ok(Answer::Yes)
}

/// Opens the files.
async fn rows(args: &Args, store: &MetadataStore, plan: &FeaturePlan, completion: &Completion) -> Result<BatchStream> {
    let texts = args.text.iter().cloned().chain(completion.columns()).collect();
    let columns = Columns { stored: store.backend().schema(&plan.spec.key).await?, texts };
    let mut readers = Vec::new();
    for file in &args.files {
        let source = Source::new(file, args.file_format);
        let reader = source.open(&columns)?;
        let has_versions = reader.schema().column_with_name(PROVENANCE_BY_FIELD).is_some();
        if !has_versions && !completion.makes_versions() && args.made_from.is_empty() {
            return Err(without_versions(&source, plan));
        }
        readers.push((source, reader));
    }
    let completion = Arc::new(completion.clone());
    let batches = readers.into_iter().flat_map(move |(source, reader)| {
        let completion = completion.clone();
        reader.map(move |batch| completion.apply(batch.map_err(|error| in_file(&source, &error))?))
    });
    Ok(futures::stream::iter(batches).boxed())
}

/// Reads the samples that the rows were made from: new and stale ones.
fn samples(args: &Args, completion: &Completion) -> Result<Vec<RecordBatch>> {
    let mut samples = Vec::new();
    for path in &args.made_from {
        let files = if path.is_dir() { increment_files(path)? } else { vec![path.clone()] };
        for file in files {
            let source = Source::new(&file, None);
            for batch in source.open(&Columns { stored: None, texts: args.text.clone() })? {
                let batch = batch.map_err(|error| in_file(&source, &error))?;
                samples.push(completion.apply(batch)?);
            }
        }
    }
    Ok(samples)
}

/// Returns the files of new and stale samples in a directory.
fn increment_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let endings = ["parquet", "arrow", "csv", "jsonl"];
    let names = ["new", "stale"].into_iter().flat_map(|name| endings.map(|end| format!("{name}.{end}")));
    let found: Vec<PathBuf> = names.map(|name| directory.join(name)).filter(|path| path.is_file()).collect();
    match found.len() {
        0 => {
            Err(Failure::file(directory, "it has no file new or stale; name the directory that `resolve --out` wrote"))
        }
        _ => Ok(found),
    }
}

fn without_versions(source: &Source, plan: &FeaturePlan) -> Failure {
    let hint = match plan.spec.is_root() {
        true => {
            let fields: Vec<String> = plan.spec.fields.iter().map(|field| format!("{}=COLUMN", field.key())).collect();
            format!("name the columns that hold them: `--version {}`", fields.join(","))
        }
        false => "name the samples that the rows were made from, which `resolve --out todo` writes: `--made-from todo`"
            .to_owned(),
    };
    Failure::File { file: source.name(), reason: format!("its rows have no versions; {hint}") }
}

/// Returns the error of a file while it is read.
fn in_file(source: &Source, error: &ArrowError) -> Error {
    ArrowError::ParseError(format!("{}: {error}", source.name())).into()
}

impl Tabular for Written {
    fn table(&self) -> Table {
        Table { header: vec!["feature", "rows"], rows: vec![vec![self.feature.clone(), self.rows.to_string()]] }
    }
}
