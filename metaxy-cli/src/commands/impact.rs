//! `metaxy impact`

use std::fmt::Write as _;

use metaxy_core::AccessMode;
use metaxy_core::store::FeatureImpact;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Result;
use crate::options::Format;
use crate::output::{Table, Tabular, note};

use super::Answer;
use super::changes::{Change, is_own, pushed};

/// Tells what the feature files would make outdated, compared with what was pushed
///
/// Counts the samples that have to be made again, feature by feature, before the files are deployed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  metaxy impact\n  metaxy impact --markdown > impact.md")]
pub struct Args {
    /// Compares with this version of the project, in place of the last one
    #[arg(long, value_name = "VERSION")]
    project_version: Option<String>,
    /// Prints Markdown for a pull request
    #[arg(long)]
    markdown: bool,
}

#[derive(Serialize)]
struct Impact {
    from_project_version: String,
    to_project_version: String,
    /// The number of all samples that have to be made again.
    outdated: u64,
    features: Vec<Feature>,
}

#[derive(Serialize)]
struct Feature {
    #[serde(flatten)]
    change: Change,
    rows: u64,
    outdated: u64,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let config = context.config()?;
    let later = config.graph()?;
    let store = context.open_bare(AccessMode::ReadOnly).await?;
    let earlier = pushed(&store, context.project(&config), args.project_version.as_deref()).await?;
    let impacts = store.with_graph(earlier.clone())?.impact(&later).await?;
    let own = impacts.iter().filter(|one| is_own(&one.change, &earlier));
    let features: Vec<Feature> = own.map(Feature::of).collect();
    let impact = Impact {
        from_project_version: earlier.project_version().to_owned(),
        to_project_version: later.project_version().to_owned(),
        outdated: features.iter().map(|feature| feature.outdated).sum(),
        features,
    };
    match args.markdown {
        true => context.output().print_text(&impact.markdown())?,
        false => context.output().print(&impact)?,
    }
    if context.output().format() == Format::Table && !args.markdown {
        note(format!("{} samples have to be made again", impact.outdated));
    }
    Ok(Answer::Yes)
}

impl Feature {
    fn of(impact: &FeatureImpact) -> Self {
        Self { change: Change::of(&impact.change), rows: impact.rows, outdated: impact.outdated }
    }
}

impl Impact {
    fn markdown(&self) -> String {
        let mut text = format!(
            "### {} samples have to be made again\n\nProject version {} → {}\n",
            self.outdated, self.from_project_version, self.to_project_version
        );
        if self.features.is_empty() {
            text.push_str("\nNo feature differs.\n");
            return text;
        }
        text.push_str("\n| feature | change | fields | samples | outdated |\n|---|---|---|--:|--:|\n");
        for Feature { change, rows, outdated } in &self.features {
            let fields = change.fields_text().replace('|', "\\|");
            let _ = writeln!(text, "| `{}` | {} | {fields} | {rows} | {outdated} |", change.feature, change.change);
        }
        text
    }
}

impl Tabular for Impact {
    fn table(&self) -> Table {
        let row = |one: &Feature| {
            let Feature { change, rows, outdated } = one;
            let texts = [change.feature.clone(), change.change.to_owned(), rows.to_string(), outdated.to_string()];
            texts.into_iter().chain([change.fields_text()]).collect()
        };
        Table {
            header: vec!["feature", "change", "samples", "outdated", "fields"],
            rows: self.features.iter().map(row).collect(),
        }
    }
}
