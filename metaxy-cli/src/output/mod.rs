//! Output: answers and rows, as a table, JSON or CSV. Only data is printed to stdout.

mod csv;
mod json;
mod progress;
mod rows;
mod table;

use std::io::{self, Write};

use arrow::array::TimestampMicrosecondArray;
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::options::Format;

pub use progress::{Progress, each_feature};

/// Where and in which form data is printed.
#[derive(Clone, Debug)]
pub struct Output {
    format: Format,
}

/// An answer as a table of text.
#[derive(Debug, Default)]
pub struct Table {
    /// The names of the columns.
    pub header: Vec<&'static str>,
    /// The rows, with a text for each column.
    pub rows: Vec<Vec<String>>,
}

/// An answer that has a row for each of its items.
pub trait Tabular: Serialize {
    /// Returns the answer as a table.
    fn table(&self) -> Table;
}

impl Output {
    /// Returns the output in a form.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// Returns the form.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Prints an answer.
    pub fn print(&self, answer: &impl Tabular) -> Result<()> {
        let text = match self.format {
            Format::Table => table::text(&answer.table()),
            Format::Json => json::text(answer)?,
            Format::Csv => csv::text(&answer.table())?,
        };
        self.print_text(&text)
    }

    /// Prints an answer: as JSON or CSV if that is asked for, else as this text.
    pub fn print_or(&self, answer: &impl Tabular, text: impl FnOnce() -> String) -> Result<()> {
        match self.format {
            Format::Table => self.print_text(&text()),
            _ => self.print(answer),
        }
    }

    /// Prints a text as it is.
    pub fn print_text(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        write!(stdout, "{text}{end}").and_then(|()| stdout.flush()).map_err(to_stdout)
    }
}

/// Returns a time in microseconds since 1970 as text, in UTC.
pub fn time_text(micros: i64) -> String {
    let array = TimestampMicrosecondArray::from(vec![micros]);
    array.value_as_datetime(0).map_or_else(|| format!("{micros} µs"), |time| format!("{time} UTC"))
}

/// Tells people something that is no data.
pub fn note(text: impl AsRef<str>) {
    // Nobody is left to be told that stderr is closed; `eprintln!` would panic.
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// Returns the failure of writing to stdout.
pub fn to_stdout(error: io::Error) -> Failure {
    Failure::io("write to stdout", error)
}
