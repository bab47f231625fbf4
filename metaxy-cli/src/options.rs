//! The options that every command has.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

/// The options that every command has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Options {
    /// The store, by its name in metaxy.toml; by default the one that `store` names there
    #[arg(long, global = true, value_name = "NAME")]
    pub store: Option<String>,
    /// The project, in place of `project` in metaxy.toml
    #[arg(long, global = true, value_name = "NAME")]
    pub project: Option<String>,
    /// The configuration, in place of the nearest metaxy.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// The form of the output
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Shows causes of errors, and logs; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    Table,
    /// One JSON value, of the shape that the README documents
    Json,
    /// Comma-separated values with a header
    Csv,
}
