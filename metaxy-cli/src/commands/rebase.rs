//! `metaxy rebase`

use metaxy_core::AccessMode;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Result;
use crate::output::{Table, Tabular};

use super::Answer;

/// Carries rows of an old feature version over to the current one
///
/// It is for a change of the definition that does not change computed values: columns are kept, provenance is computed
/// again. `metaxy history` lists old versions that were pushed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  metaxy rebase processed/transcript --from-version 2bd4a1c0")]
pub struct Args {
    /// The feature
    feature: String,
    /// The old version of the feature
    #[arg(long, value_name = "VERSION")]
    from_version: String,
}

#[derive(Serialize)]
struct Rebased {
    feature: String,
    from_version: String,
    to_version: String,
    rows: u64,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let store = context.open(AccessMode::ReadWrite).await?;
    let rows = store.rebase(args.feature.as_str(), &args.from_version).await?;
    let answer = Rebased {
        feature: args.feature.clone(),
        from_version: args.from_version.clone(),
        to_version: store.graph().feature_version(args.feature.as_str())?.to_owned(),
        rows,
    };
    context.output().print(&answer)?;
    Ok(Answer::Yes)
}

impl Tabular for Rebased {
    fn table(&self) -> Table {
        let Self { feature, from_version, to_version, rows } = self;
        Table {
            header: vec!["feature", "from_version", "to_version", "rows"],
            rows: vec![vec![feature.clone(), from_version.clone(), to_version.clone(), rows.to_string()]],
        }
    }
}
