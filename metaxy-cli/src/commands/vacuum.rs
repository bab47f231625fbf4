//! `metaxy vacuum`

use std::time::Duration;

use metaxy_core::AccessMode;
use serde::Serialize;

use crate::context::{Context, features_of};
use crate::failure::Result;
use crate::output::{Table, Tabular, each_feature};

use super::Answer;

/// Removes files that the tables of features no longer use
///
/// Readers that began before the retention fail.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  metaxy vacuum --retention-hours 168")]
pub struct Args {
    /// The features; all if none are named
    features: Vec<String>,
    /// Keeps files that were used in the last hours
    #[arg(long, value_name = "HOURS", default_value_t = 168)]
    retention_hours: u64,
}

#[derive(Serialize)]
struct Vacuumed {
    features: Vec<Feature>,
}

#[derive(Serialize)]
struct Feature {
    feature: String,
    files_removed: u64,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let store = context.open(AccessMode::ReadWrite).await?;
    let retention = Duration::from_secs(args.retention_hours.saturating_mul(3600));
    let vacuumed = each_feature("vacuuming", features_of(store.graph(), &args.features)?, async |key| {
        if !store.has_feature(key).await? {
            return Ok(None);
        }
        let files_removed = store.vacuum(key, retention).await?;
        Ok(Some(Feature { feature: key.to_string(), files_removed }))
    });
    let features = vacuumed.await?.into_iter().flatten().collect();
    context.output().print(&Vacuumed { features })?;
    Ok(Answer::Yes)
}

impl Tabular for Vacuumed {
    fn table(&self) -> Table {
        let row = |one: &Feature| vec![one.feature.clone(), one.files_removed.to_string()];
        Table { header: vec!["feature", "files_removed"], rows: self.features.iter().map(row).collect() }
    }
}
