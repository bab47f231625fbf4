//! `metaxy graph diff`

use metaxy_core::AccessMode;
use serde::Serialize;

use crate::commands::Answer;
use crate::commands::changes::{Change, is_own, pushed};
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Table, Tabular};

/// Compares the feature files with what was pushed, or two versions that were pushed
///
/// Features are `recomputed` if their samples have to be made again, `redefined` if their rows stay as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  metaxy graph diff\n\n`metaxy history` lists the versions of the project.")]
pub struct Args {
    /// The earlier version of the project; by default the one that was pushed last
    #[arg(long, value_name = "VERSION")]
    from: Option<String>,
    /// The later version of the project; by default the feature files
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
}

#[derive(Serialize)]
struct Difference {
    from_project_version: String,
    to_project_version: String,
    features: Vec<Change>,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let config = context.config()?;
    let store = context.open_bare(AccessMode::ReadOnly).await?;
    let project = context.project(&config);
    let earlier = pushed(&store, project, args.from.as_deref()).await?;
    let later = match &args.to {
        Some(version) => pushed(&store, project, Some(version)).await?,
        None => config.graph()?,
    };
    let changes = later.changes_since(&earlier);
    let difference = Difference {
        from_project_version: earlier.project_version().to_owned(),
        to_project_version: later.project_version().to_owned(),
        features: changes.iter().filter(|change| is_own(change, &earlier)).map(Change::of).collect(),
    };
    context.output().print(&difference)?;
    Ok(Answer::Yes)
}

impl Tabular for Difference {
    fn table(&self) -> Table {
        let row = |one: &Change| vec![one.feature.clone(), one.change.to_owned(), one.fields_text()];
        Table { header: vec!["feature", "change", "fields"], rows: self.features.iter().map(row).collect() }
    }
}
