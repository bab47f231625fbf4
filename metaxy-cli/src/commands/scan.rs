//! `metaxy scan`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use clap::ValueEnum;
use futures::TryStreamExt;
use metaxy_core::{AccessMode, FeatureSpec, Increment, MetadataStore, columns};
use object_store::{ObjectMeta, ObjectStore};
use serde::Serialize;
use url::Url;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::files::{FileFormat, FileWriter};
use crate::output::{Table, Tabular, note};

use super::Answer;

/// Lists the files of a directory, or the objects of a bucket, as samples of a root
///
/// The id of a sample is its path below the prefix. It also has the columns location, size, modified and etag. Prints
/// how many are new, changed (stale) and gone (orphaned); `--write` writes those that are new or changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  metaxy scan raw/clip videos --pattern \"*.mp4\"\n  \
                        metaxy scan raw/clip videos --write --delete-gone")]
pub struct Args {
    /// The root, which has one id column
    feature: String,
    /// A directory, or a URL such as s3://bucket/videos
    prefix: String,
    /// Only files whose path below the prefix matches, such as "*.mp4" or "2026/**/*.wav"
    #[arg(long)]
    pattern: Option<String>,
    /// What the versions of all fields are made from [default: etag of objects, size and modified of files]
    #[arg(long, value_enum, value_delimiter = '+', value_name = "PROPERTY+...")]
    by: Vec<Property>,
    /// Writes the samples that are new or changed
    #[arg(long)]
    write: bool,
    /// Deletes the samples whose file is gone, softly
    #[arg(long)]
    delete_gone: bool,
    /// Writes all files as rows to a file: .parquet, .arrow, .csv or .jsonl
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A property of a file.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Property {
    Etag,
    Size,
    Modified,
}

#[derive(Serialize)]
struct Scanned {
    feature: String,
    files: usize,
    new: usize,
    stale: usize,
    orphaned: usize,
    written: u64,
    deleted: u64,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let mode = if args.write || args.delete_gone { AccessMode::ReadWrite } else { AccessMode::ReadOnly };
    let store = context.open(mode).await?;
    let spec = &store.graph().plan(args.feature.as_str())?.spec;
    let rows = rows(args, spec, &list(args).await?)?;
    if let Some(file) = &args.out {
        let mut writer = FileWriter::create(file, FileFormat::of(file)?, &rows.schema())?;
        writer.write(&rows)?;
        note(format!("wrote {} rows to {}", writer.finish()?, file.display()));
    }
    let increment = store.resolve_update(&spec.key).samples(&rows).await?;
    context.output().print(&apply(args, &store, &rows, increment).await?)?;
    Ok(Answer::Yes)
}

/// Writes and deletes what was asked for.
async fn apply(args: &Args, store: &MetadataStore, rows: &RecordBatch, increment: Increment) -> Result<Scanned> {
    let mut scanned = Scanned {
        feature: args.feature.clone(),
        files: rows.num_rows(),
        new: increment.new.num_rows(),
        stale: increment.stale.num_rows(),
        orphaned: increment.orphaned.num_rows(),
        written: 0,
        deleted: 0,
    };
    if args.write && scanned.new + scanned.stale > 0 {
        let batches: Vec<RecordBatch> = increment.to_process().cloned().collect();
        scanned.written = store.write(args.feature.as_str(), batches).await?;
    }
    if args.delete_gone && scanned.orphaned > 0 {
        scanned.deleted = store.delete_rows(args.feature.as_str(), increment.orphaned).await?;
    }
    Ok(scanned)
}

/// The files below a prefix.
struct Listing {
    /// The prefix as it was given, with `/` at its end.
    prefix: String,
    is_local: bool,
    files: BTreeMap<String, ObjectMeta>,
}

/// Lists the files. A prefix without any is refused: with `--delete-gone` a misspelled one would delete all samples.
async fn list(args: &Args) -> Result<Listing> {
    let url = location(&args.prefix)?;
    let pattern = args.pattern.as_deref().map(glob::Pattern::new).transpose();
    let pattern = pattern.map_err(|error| Failure::usage(format!("`--pattern` is no pattern of paths: {error}")))?;
    let failure = |error: object_store::Error| Failure::Scan { prefix: args.prefix.clone(), reason: error.to_string() };
    let environment = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let (objects, root) = object_store::parse_url_opts(&url, environment).map_err(failure)?;
    let mut files = BTreeMap::new();
    let mut listed = objects.list(Some(&root));
    while let Some(meta) = listed.try_next().await.map_err(failure)? {
        let below = meta.location.prefix_match(&root).map(|parts| parts.map(|part| part.as_ref().to_owned()));
        let path = below.map(|parts| parts.collect::<Vec<_>>().join("/")).unwrap_or_default();
        if !path.is_empty() && pattern.as_ref().is_none_or(|pattern| pattern.matches(&path)) {
            files.insert(path, meta);
        }
    }
    if files.is_empty() {
        return Err(Failure::usage(format!("there is no file below {} that matches; check the prefix", args.prefix)));
    }
    let prefix = format!("{}/", args.prefix.trim_end_matches('/'));
    Ok(Listing { prefix, is_local: url.scheme() == "file", files })
}

/// Returns the URL of a prefix: a directory, unless it is a URL itself.
fn location(prefix: &str) -> Result<Url> {
    if let Ok(url) = Url::parse(prefix) {
        return Ok(url);
    }
    let path = Path::new(prefix);
    let full = path.canonicalize().map_err(|error| Failure::file(path, error))?;
    Url::from_directory_path(full).map_err(|()| Failure::file(path, "its path is no URL; use another directory"))
}

fn rows(args: &Args, spec: &FeatureSpec, listing: &Listing) -> Result<RecordBatch> {
    let [id] = spec.id_columns.as_slice() else {
        return Err(Failure::usage(format!(
            "`{}` has the id columns {}; a scan gives one, the path",
            spec.key,
            spec.id_columns.join(", ")
        )));
    };
    let by: &[Property] = match (args.by.is_empty(), listing.is_local) {
        (false, _) => &args.by,
        (true, true) => &[Property::Size, Property::Modified],
        (true, false) => &[Property::Etag],
    };
    let versions = listing.files.iter().map(|(path, meta)| version(path, meta, by)).collect::<Result<Vec<_>>>()?;
    let versions: ArrayRef = Arc::new(StringArray::from(versions));
    let fields = spec.struct_keys().into_iter().map(|key| (key, versions.clone()));
    let times = listing.files.values().map(|meta| meta.last_modified.timestamp_micros());
    let size = |meta: &ObjectMeta| i64::try_from(meta.size).unwrap_or(i64::MAX);
    let locations = listing.files.keys().map(|path| format!("{}{path}", listing.prefix));
    let etags = listing.files.values().map(|meta| meta.e_tag.as_deref());
    let columns: [(&str, ArrayRef); 6] = [
        (id, Arc::new(StringArray::from_iter_values(listing.files.keys()))),
        ("location", Arc::new(StringArray::from_iter_values(locations))),
        ("size", Arc::new(Int64Array::from_iter_values(listing.files.values().map(size)))),
        ("modified", Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))),
        ("etag", Arc::new(StringArray::from_iter(etags))),
        (columns::PROVENANCE_BY_FIELD, columns::by_field(fields)?),
    ];
    Ok(RecordBatch::try_from_iter(columns).map_err(metaxy_core::Error::from)?)
}

/// Returns the version of a file.
fn version(path: &str, meta: &ObjectMeta, by: &[Property]) -> Result<String> {
    let part = |property: &Property| match property {
        Property::Size => Ok(meta.size.to_string()),
        Property::Modified => Ok(meta.last_modified.timestamp_micros().to_string()),
        Property::Etag => {
            meta.e_tag.clone().ok_or_else(|| Failure::usage(format!("{path} has no etag; give `--by size+modified`")))
        }
    };
    Ok(by.iter().map(part).collect::<Result<Vec<_>>>()?.join("|"))
}

impl Tabular for Scanned {
    fn table(&self) -> Table {
        let Self { feature, files, new, stale, orphaned, written, deleted } = self;
        let counts = [*files, *new, *stale, *orphaned].map(|count| count.to_string());
        let row = std::iter::once(feature.clone()).chain(counts).chain([written.to_string(), deleted.to_string()]);
        Table {
            header: vec!["feature", "files", "new", "stale", "orphaned", "written", "deleted"],
            rows: vec![row.collect()],
        }
    }
}
