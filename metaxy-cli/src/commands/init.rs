//! `metaxy init`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::failure::{Failure, Result};
use crate::output::note;

use super::Answer;

/// Writes a commented metaxy.toml and a first file of features
///
/// Files that exist are never changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  metaxy init films --type sqlite")]
pub struct Args {
    /// The directory of the project
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// The storage system of the store `dev`
    #[arg(long = "type", value_enum, default_value_t = Kind::Sqlite)]
    kind: Kind,
}

/// A storage system.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// One SQLite file
    Sqlite,
    /// One DuckDB file
    Duckdb,
    /// A directory of Delta Lake tables
    Delta,
    /// A PostgreSQL database, which METAXY_POSTGRES_URL names
    Postgres,
}

impl Kind {
    /// Returns the lines of the store's configuration.
    fn settings(self) -> &'static str {
        match self {
            Self::Sqlite => "type = \"sqlite\"\n[stores.dev.config]\ndatabase = \"metaxy.db\"",
            Self::Duckdb => {
                "type = \"duckdb\"\n[stores.dev.config]\ndatabase = \"metaxy.duckdb\"\nauto_create_tables = true"
            }
            Self::Delta => "type = \"delta\"\n[stores.dev.config]\nroot_path = \"metaxy-data\"",
            Self::Postgres => {
                "type = \"postgres\"\n[stores.dev.config]\nconnection_string = \"${METAXY_POSTGRES_URL}\"\n\
                 auto_create_tables = true"
            }
        }
    }
}

const FEATURES: &str = include_str!("init/features.toml");
const CONFIG: &str = include_str!("init/metaxy.toml");

/// Runs the command.
pub fn run(args: &Args) -> Result<Answer> {
    let directory = &args.directory;
    let config = directory.join("metaxy.toml");
    let features = directory.join("features").join("video.toml");
    if let Some(file) = [&config, &features].into_iter().find(|file| file.exists()) {
        return Err(Failure::file(file, "the file exists already; edit it, or choose another directory"));
    }
    let folder = directory.join("features");
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::io(format!("create the directory {}", folder.display()), error))?;
    create(&config, &CONFIG.replace("{project}", &project(directory)).replace("{store}", args.kind.settings()))?;
    create(&features, FEATURES)?;
    note(format!("wrote {} and {}; next: metaxy list features", config.display(), features.display()));
    Ok(Answer::Yes)
}

fn create(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::io(format!("create {}", path.display()), error))
}

/// Returns the name of the directory as the name of a project: letters, digits, `_` and `-`.
fn project(directory: &Path) -> String {
    let full = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let kept: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '-' }).collect();
    let name = kept.trim_matches(|c| "_-".contains(c)).to_owned();
    if name.is_empty() { "project".to_owned() } else { name }
}
