//! `metaxy compact`

use metaxy_core::AccessMode;
use serde::Serialize;

use crate::context::{Context, features_of};
use crate::failure::Result;
use crate::output::{Table, Tabular, each_feature};

use super::Answer;

/// Rewrites the storage of features for faster reads, without changing a row
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  metaxy compact raw/video")]
pub struct Args {
    /// The features; all if none are named
    features: Vec<String>,
}

#[derive(Serialize)]
struct Compacted {
    features: Vec<String>,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let store = context.open(AccessMode::ReadWrite).await?;
    let compacted = each_feature("compacting", features_of(store.graph(), &args.features)?, async |key| {
        if !store.has_feature(key).await? {
            return Ok(None);
        }
        store.compact(key).await?;
        Ok(Some(key.to_string()))
    });
    let features = compacted.await?.into_iter().flatten().collect();
    context.output().print(&Compacted { features })?;
    Ok(Answer::Yes)
}

impl Tabular for Compacted {
    fn table(&self) -> Table {
        Table { header: vec!["compacted"], rows: self.features.iter().map(|feature| vec![feature.clone()]).collect() }
    }
}
