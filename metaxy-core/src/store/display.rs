//! Rows and increments as tables of text.

use std::fmt::{self, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions, ValueFormatter};
use arrow::util::pretty::pretty_format_batches;

use crate::columns;

use super::{Increment, Rows};

/// The number of rows that a table shows.
const SHOWN_ROWS: usize = 20;

/// The number of characters that a table shows of a value.
const SHOWN_CHARACTERS: usize = 40;

/// Shows the user's columns of the first 20 rows, 40 characters of each value, and the number of rows.
impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = SHOWN_ROWS;
        let first = self.batches().iter().map(|batch| {
            let part = batch.slice(0, batch.num_rows().min(left));
            left -= part.num_rows();
            own_texts(&part)
        });
        let first = first.collect::<Result<Vec<RecordBatch>, _>>().map_err(|_| fmt::Error)?;
        let first: Vec<RecordBatch> = first.into_iter().filter(|part| part.num_rows() > 0).collect();
        if !first.is_empty() {
            writeln!(f, "{}", pretty_format_batches(&first).map_err(|_| fmt::Error)?)?;
        }
        let (shown, all) = (SHOWN_ROWS - left, self.num_rows());
        match all - shown {
            0 => write!(f, "{}", counted(all)),
            _ => write!(f, "{}, of which {shown} are shown", counted(all)),
        }
    }
}

/// Shows the numbers of new, stale and orphaned samples, and the first rows of each.
impl fmt::Display for Increment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sets = [("new", &self.new), ("stale", &self.stale), ("orphaned", &self.orphaned)];
        let counts = sets.map(|(name, rows)| format!("{} {name}", rows.num_rows()));
        write!(f, "{}", counts.join(", "))?;
        for (name, rows) in sets.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            write!(f, "\n{name}:\n{rows}")?;
        }
        Ok(())
    }
}

/// Returns the user's columns as texts.
fn own_texts(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.schema_ref().fields().iter().zip(batch.columns());
    let own = columns.filter(|(field, _)| !columns::is_system(field.name()));
    let texts = own.map(|(field, column)| Ok((field.name().as_str(), texts(column)?, true)));
    let texts = texts.collect::<Result<Vec<_>, ArrowError>>()?;
    if texts.is_empty() { batch.project(&[]) } else { RecordBatch::try_from_iter_with_nullable(texts) }
}

fn texts(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column, &options)?;
    let texts = (0..column.len()).map(|row| Some(Beginning::of(&formatter.value(row))));
    Ok(Arc::new(texts.collect::<StringArray>()))
}

/// The beginning of a value's text, on one line. The value is formatted only so far, because it may be very long.
struct Beginning {
    text: String,
    left: usize,
}

impl Beginning {
    fn of(value: &ValueFormatter<'_>) -> String {
        let mut beginning = Self { text: String::new(), left: SHOWN_CHARACTERS };
        if write!(beginning, "{value}").is_err() {
            beginning.text.pop();
            beginning.text.push('…');
        }
        beginning.text
    }
}

impl Write for Beginning {
    /// Fails when there is no space left.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(if character.is_control() { ' ' } else { character });
        }
        Ok(())
    }
}

fn counted(rows: usize) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}
