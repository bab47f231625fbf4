//! `metaxy config`

use clap::Subcommand;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::Format;
use crate::output::{Table, Tabular};

use super::Answer;

/// Shows the configuration
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Prints the effective configuration as TOML: files, variables and defaults together, with secrets masked
    #[command(after_help = "Example:\n  metaxy config print")]
    Print,
}

/// The settings, as the configuration nests them.
#[derive(Serialize)]
#[serde(transparent)]
struct Settings(toml::Table);

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Answer> {
    let What::Print = args.what;
    let config = context.config()?;
    let text = config.to_toml()?;
    if context.output().format() == Format::Table {
        let file = config.file().map_or_else(|| "no file; defaults".to_owned(), |file| file.display().to_string());
        context.output().print_text(&format!("# {file}\n{text}"))?;
        return Ok(Answer::Yes);
    }
    let settings: toml::Table = text.parse().map_err(|error: toml::de::Error| Failure::usage(error.to_string()))?;
    context.output().print(&Settings(settings))?;
    Ok(Answer::Yes)
}

/// A row for each setting.
impl Tabular for Settings {
    fn table(&self) -> Table {
        let mut rows = Vec::new();
        collect("", &self.0, &mut rows);
        Table { header: vec!["setting", "value"], rows }
    }
}

fn collect(path: &str, table: &toml::Table, rows: &mut Vec<Vec<String>>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            toml::Value::Table(table) => collect(&path, table, rows),
            toml::Value::String(text) => rows.push(vec![path, text.clone()]),
            other => rows.push(vec![path, other.to_string()]),
        }
    }
}
