//! `metaxy rebase`

use std::path::PathBuf;

use metaxy_core::{AccessMode, Error, MetadataStore};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::files::{Columns, FileFormat, Source};
use crate::output::{Table, Tabular};

use super::Answer;

/// Carries rows of an old feature version over to the current one
///
/// It is for a change of the definition that does not change computed values: columns are kept, provenance is computed
/// again. `metaxy history` lists old versions that were pushed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  metaxy rebase processed/transcript --from-version 2bd4a1c0 --dry-run\n  \
    metaxy rebase processed/transcript --from-version 2bd4a1c0")]
pub struct Args {
    /// The feature
    feature: String,
    /// The old version of the feature
    #[arg(long, value_name = "VERSION")]
    from_version: String,
    /// The version to carry rows over to, if not the current one: one that was pushed to the store
    #[arg(long, value_name = "VERSION")]
    to_version: Option<String>,
    /// Carries over only the samples whose ids are in a file
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// The format of the file, if its name does not tell it
    #[arg(long, value_enum, requires = "ids")]
    file_format: Option<FileFormat>,
    /// Counts the rows that would be carried over, and writes nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Rebased {
    dry_run: bool,
    feature: String,
    from_version: String,
    to_version: String,
    rows: u64,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let mode = if args.dry_run { AccessMode::ReadOnly } else { AccessMode::ReadWrite };
    let store = of_version(args, context.open(mode).await?).await?;
    let mut request = store.rebase(args.feature.as_str(), &args.from_version);
    if let Some(file) = &args.ids {
        let columns = Columns { stored: store.backend().schema(&key(args, &store)?).await?, texts: Vec::new() };
        let reader = Source::new(file, args.file_format).open(&columns)?;
        let ids = reader.collect::<Result<Vec<_>, _>>().map_err(|error| Failure::file(file, error))?;
        request = request.samples(ids);
    }
    let answer = Rebased {
        dry_run: args.dry_run,
        feature: args.feature.clone(),
        from_version: args.from_version.clone(),
        to_version: store.graph().feature_version(args.feature.as_str())?.to_owned(),
        rows: if args.dry_run { request.count().await? } else { request.await? },
    };
    context.output().print(&answer)?;
    Ok(Answer::Yes)
}

/// Returns the store with the definitions to which rows are carried over.
async fn of_version(args: &Args, store: MetadataStore) -> Result<MetadataStore> {
    let Some(version) = &args.to_version else { return Ok(store) };
    if store.graph().feature_version(args.feature.as_str())? == version {
        return Ok(store);
    }
    match store.definitions().graph_of_version(args.feature.as_str(), version).await {
        Ok(graph) => Ok(store.with_graph(graph)?),
        Err(error @ Error::NotPushed { .. }) => Err(Failure::usage(format!("{error} (`metaxy history`)"))),
        Err(error) => Err(error.into()),
    }
}

fn key(args: &Args, store: &MetadataStore) -> Result<metaxy_core::FeatureKey> {
    Ok(store.graph().plan(args.feature.as_str())?.spec.key.clone())
}

impl Tabular for Rebased {
    fn table(&self) -> Table {
        let Self { dry_run, feature, from_version, to_version, rows } = self;
        let counted = if *dry_run { "rows_to_rebase" } else { "rows" };
        Table {
            header: vec!["feature", "from_version", "to_version", counted],
            rows: vec![vec![feature.clone(), from_version.clone(), to_version.clone(), rows.to_string()]],
        }
    }
}
