//! Reads the rows of a query from the binary format of `COPY … TO STDOUT`.

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::filter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use metaxy_core::{Error, Result, fence};

use super::decode::{self, Decoder, Fields};
use super::{SIGNATURE, Storage};

/// The maximum number of rows of a batch.
const BATCH_ROWS: usize = 16 * 1024;
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Reads the rows of a query, with one decoder for each column.
pub(crate) struct RowReader {
    pub(crate) table: String,
    columns: Vec<(String, Box<dyn Decoder>)>,
    /// The columns that identify a row in errors.
    ids: Vec<usize>,
    /// The number of rows in earlier batches.
    before: usize,
    pub(crate) rows: usize,
    bytes: usize,
    started: bool,
    bad: Vec<BadValue>,
}

/// A value that Arrow cannot represent.
struct BadValue {
    row: usize,
    column: String,
    reason: String,
}

/// Rows that have been read, and an error for each row that cannot be read.
pub(crate) struct Piece {
    pub(crate) arrays: Vec<ArrayRef>,
    pub(crate) rows: usize,
    pub(crate) errors: Vec<Error>,
}

impl RowReader {
    pub(crate) fn new<'a>(table: &str, columns: impl IntoIterator<Item = (&'a str, &'a Storage)>) -> Result<Self> {
        let columns = columns.into_iter().map(|(name, storage)| {
            let decoder =
                fence::decode(table, || decode::decoder(storage).map_err(|reason| corrupt(table, name, &reason)))?;
            Ok((name.to_owned(), decoder))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let table = table.to_owned();
        Ok(Self { table, columns, ids: Vec::new(), before: 0, rows: 0, bytes: 0, started: false, bad: Vec::new() })
    }

    /// Sets the columns that identify a row in errors.
    pub(crate) fn with_ids(mut self, ids: &[String]) -> Self {
        let position = |id: &String| self.columns.iter().position(|(name, _)| name == id);
        self.ids = ids.iter().filter_map(position).collect();
        if self.ids.is_empty() {
            let is_own = |(_, (name, _)): &(usize, &(String, _))| !metaxy_core::columns::is_system(name);
            self.ids = self.columns.iter().enumerate().filter(is_own).map(|(index, _)| index).take(3).collect();
        }
        self
    }

    /// Reads one message, which has whole rows.
    pub(crate) fn take(&mut self, message: &[u8]) -> Result<()> {
        let mut rest = message;
        if !self.started {
            let header = rest.split_at_checked(SIGNATURE.len() + 8).filter(|(header, _)| header.starts_with(SIGNATURE));
            rest = header.ok_or_else(|| self.broken("the server sent data other than rows"))?.1;
            self.started = true;
        }
        self.bytes += rest.len();
        while let Some((count, fields)) = rest.split_first_chunk::<2>() {
            let count = i16::from_be_bytes(*count);
            if count < 0 {
                break;
            }
            if usize::from(count.unsigned_abs()) != self.columns.len() {
                return Err(self.broken("the server sent a different number of columns than requested"));
            }
            rest = self.take_row(fields)?;
        }
        Ok(())
    }

    fn broken(&self, reason: &str) -> Error {
        Error::corrupt(&self.table, reason)
    }

    /// Reads a row, and returns the bytes after it.
    fn take_row<'a>(&mut self, row: &'a [u8]) -> Result<&'a [u8]> {
        let mut fields = Fields(row);
        for (name, decoder) in &mut self.columns {
            let field = fields.field().map_err(|reason| corrupt(&self.table, name, &reason))?;
            let Some(bytes) = field else {
                decoder.null();
                continue;
            };
            let Err(reason) = decoder.value(bytes) else { continue };
            if !decoder.recovers() {
                return Err(corrupt(&self.table, name, &reason));
            }
            decoder.null();
            self.bad.push(BadValue { row: self.rows, column: name.clone(), reason });
        }
        self.rows += 1;
        Ok(fields.0)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Returns the rows read since the last call.
    pub(crate) fn finish(&mut self) -> Result<Piece> {
        let finished = self
            .columns
            .iter_mut()
            .map(|(name, decoder)| decoder.finish().map_err(|reason| corrupt(&self.table, name, &reason)));
        let arrays = finished.collect::<Result<Vec<_>>>()?;
        let (rows, bad) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.bad));
        let errors = bad.iter().map(|bad| self.bad_value(bad, &arrays)).collect();
        self.bytes = 0;
        self.before += rows;
        if bad.is_empty() {
            return Ok(Piece { arrays, rows, errors });
        }
        let good: BooleanArray = (0..rows).map(|row| Some(bad.iter().all(|bad| bad.row != row))).collect();
        let arrays = arrays.iter().map(|array| filter(array, &good)).collect::<Result<_, _>>()?;
        Ok(Piece { arrays, rows: good.true_count(), errors })
    }

    /// Returns the error of a row, which is identified by its ids.
    fn bad_value(&self, bad: &BadValue, arrays: &[ArrayRef]) -> Error {
        let shown = |index: &usize| {
            let (name, array) = (&self.columns.get(*index)?.0, arrays.get(*index)?);
            let options = FormatOptions::default().with_null("null");
            let value = ArrayFormatter::try_new(array.as_ref(), &options).ok()?.value(bad.row).try_to_string().ok()?;
            Some(format!("{name}={}", value.chars().take(80).collect::<String>()))
        };
        let ids: Vec<String> = self.ids.iter().filter_map(shown).collect();
        Error::InvalidValue {
            table: self.table.clone(),
            column: bad.column.clone(),
            row: self.before + bad.row,
            reason: format!("{} (in the row with {}); correct or delete that row", bad.reason, ids.join(", ")),
        }
    }
}

fn corrupt(table: &str, column: &str, reason: &str) -> Error {
    Error::corrupt(table, format!("column `{column}`: {reason}"))
}
