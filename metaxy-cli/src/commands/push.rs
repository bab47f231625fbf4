//! `metaxy push`

use metaxy_core::AccessMode;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Result;
use crate::output::{Table, Tabular, note};

use super::Answer;

/// Records the definitions of the project in the store, for other programs
///
/// Nothing is recorded if the last push of the project had the same version.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  metaxy push --tag git_commit=4f2a91c")]
pub struct Args {
    /// A tag of the push; may be given several times
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Push {
    project: String,
    project_version: String,
    already_pushed: bool,
    features: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer> {
    let store = context.open(AccessMode::ReadWrite).await?;
    let push = store.push(args.tags);
    let pushed = match context.project(&context.config()?) {
        Some(project) => push.project(project).await?,
        None => push.await?,
    };
    let push = Push {
        project: pushed.project,
        project_version: pushed.project_version,
        already_pushed: pushed.already_pushed,
        features: pushed.features.iter().map(ToString::to_string).collect(),
    };
    if push.features.is_empty() {
        note(format!("version {} of {} was pushed already", push.project_version, push.project));
    }
    context.output().print(&push)?;
    Ok(Answer::Yes)
}

/// A row for each feature that was recorded.
impl Tabular for Push {
    fn table(&self) -> Table {
        let row = |feature: &String| vec![self.project.clone(), self.project_version.clone(), feature.clone()];
        Table { header: vec!["project", "project_version", "feature"], rows: self.features.iter().map(row).collect() }
    }
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}
