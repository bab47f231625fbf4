//! Rows and increments as tables of text.

use std::fmt;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;

use crate::columns;

use super::{Increment, Rows};

/// The number of rows that a table shows.
const SHOWN_ROWS: usize = 20;

/// Shows the user's columns of the first rows, and the number of rows.
impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = SHOWN_ROWS;
        let first = self.batches().iter().map(|batch| {
            let part = batch.slice(0, batch.num_rows().min(left));
            left -= part.num_rows();
            own_columns(&part)
        });
        let first: Vec<RecordBatch> = first.filter(|part| part.num_rows() > 0).collect();
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

fn own_columns(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let own = (0..batch.num_columns()).filter(|index| !columns::is_system(schema.field(*index).name()));
    batch.project(&own.collect::<Vec<_>>()).unwrap_or_else(|_| batch.clone())
}

fn counted(rows: usize) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}
