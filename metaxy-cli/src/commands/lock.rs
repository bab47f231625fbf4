//! `metaxy lock`

use metaxy_core::AccessMode;
use metaxy_core::config::LockChange;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::files::replace;
use crate::output::{Table, Tabular};

use super::Answer;

/// Writes metaxy.lock: the features of other projects that this one depends on
///
/// They are taken from the store, as they were pushed last. With the file, commands tell when another project has changed
/// a feature; with `locked = true` in metaxy.toml that is an error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  metaxy lock\n  metaxy lock --check")]
pub struct Args {
    /// Writes nothing, and exits with 1 if the file is not as it should be
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct Locked {
    file: String,
    features: usize,
    written: bool,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    feature: String,
    project: String,
    change: &'static str,
    from: Option<String>,
    to: Option<String>,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let config = context.config()?;
    if config.project().is_none() {
        return Err(Failure::usage("`project` is not set in metaxy.toml; it tells which features are those of others"));
    }
    let store = context.open_bare(AccessMode::ReadOnly).await?;
    let lock = config.lock(&store).await?;
    let written = !args.check && !lock.is_current();
    if written {
        replace(&lock.path, lock.text.as_bytes())?;
    }
    let answer = Locked {
        file: lock.path.display().to_string(),
        features: lock.features,
        written,
        changes: lock.changes.iter().map(Change::of).collect(),
    };
    context.output().print(&answer)?;
    Ok(if args.check && !lock.is_current() { Answer::No } else { Answer::Yes })
}

impl Change {
    fn of(change: &LockChange) -> Self {
        let LockChange { feature, project, from, to, .. } = change.clone();
        let kind = match (&from, &to) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(from), Some(to)) if from == to => "redefined",
            _ => "recomputed",
        };
        Self { feature, project, change: kind, from, to }
    }
}

impl Tabular for Locked {
    fn table(&self) -> Table {
        let version = |version: &Option<String>| version.clone().unwrap_or_default();
        let row = |one: &Change| {
            vec![one.feature.clone(), one.project.clone(), one.change.to_owned(), version(&one.from), version(&one.to)]
        };
        Table {
            header: vec!["feature", "project", "change", "from", "to"],
            rows: self.changes.iter().map(row).collect(),
        }
    }
}
