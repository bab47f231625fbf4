//! Files of rows: Parquet, Arrow IPC, CSV, and JSON lines.

mod encode;
mod nested;
mod objects;
mod read;
mod target;
mod write;

use std::path::Path;

use clap::ValueEnum;

use crate::failure::{Failure, Result};

pub use nested::flat;
pub use read::{Columns, Source};
pub use target::{Target, Writers};
pub use write::{FileWriter, replace};

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// Apache Parquet: `.parquet`
    Parquet,
    /// Arrow IPC, also known as Feather: `.arrow`, `.feather`, `.ipc`
    Arrow,
    /// Comma-separated values with a header: `.csv`
    Csv,
    /// A JSON object on each line: `.jsonl`, `.ndjson`
    Jsonl,
}

impl FileFormat {
    /// Returns the format that the name of a file tells.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Ok(Self::Parquet),
            "arrow" | "feather" | "ipc" => Ok(Self::Arrow),
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            _ => Err(Failure::file(
                path,
                "its name tells no format; end it in .parquet, .arrow, .csv or .jsonl, or give `--file-format`",
            )),
        }
    }

    /// Returns the end of the names of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }
}
