//! Rows of a table by key.

use std::ops::Range;

use arrow::array::{ArrayRef, RecordBatch};

use crate::error::Result;
use crate::schema::output_runs;
use crate::store::Rows;

use super::keys::Keys;
use super::merge::in_key_order;
use super::table::Table;

/// Returns a hash of the key of each row; equal keys have equal hashes in all batches.
pub(crate) fn key_hashes(columns: Vec<ArrayRef>) -> Result<Vec<u64>> {
    Ok(Keys::within(columns)?.hashes().to_vec())
}

/// Returns all rows grouped by key: batches of whole groups, with the number of rows of each group.
pub(crate) fn by_key(rows: &Rows, columns: &[String]) -> Result<Vec<(RecordBatch, Vec<usize>)>> {
    let table = Table::new(rows.schema().clone(), rows.batches().to_vec())?;
    let groups = Keys::within(columns.iter().map(|name| table.column(name)).collect::<Result<_>>()?)?.groups();
    let mut order: Vec<u32> = (0..table.num_rows() as u32).collect();
    order.sort_by_key(|row| groups.of_row[*row as usize]);
    let bytes = table.row_bytes();
    let mut units = vec![(0, 0); groups.firsts.len()];
    for (group, bytes) in groups.of_row.iter().zip(bytes) {
        let (rows, sum) = &mut units[*group as usize];
        *rows += 1;
        *sum += bytes;
    }
    let mut start = 0;
    let batch = |run: Range<usize>| {
        let sizes: Vec<usize> = units[run].iter().map(|(rows, _)| *rows).collect();
        let end = start + sizes.iter().sum::<usize>();
        let batch = table.take_in_one(&order[start..end])?;
        start = end;
        Ok((batch, sizes))
    };
    output_runs(units.iter().copied()).into_iter().map(batch).collect()
}

/// The last row of each key, and whether a key has several rows.
pub(crate) struct LastRows {
    pub(crate) rows: Vec<u32>,
    /// The second row of a key that has several, and their number.
    pub(crate) repeated: Option<(u32, usize)>,
}

/// Finds the last row of each key.
pub(crate) fn last_rows(table: &Table, key: &[String]) -> Result<LastRows> {
    let keys = Keys::within(key.iter().map(|name| table.column(name)).collect::<Result<Vec<_>>>()?)?;
    if in_key_order(&keys).is_some() {
        // Keys that can be brought into an order are distinct.
        return Ok(LastRows { rows: (0..table.num_rows() as u32).collect(), repeated: None });
    }
    let groups = keys.groups();
    let mut rows = groups.firsts;
    if rows.len() == table.num_rows() {
        return Ok(LastRows { rows, repeated: None });
    }
    let mut repeated = None;
    for (row, group) in groups.of_row.iter().enumerate() {
        let last = &mut rows[*group as usize];
        if *last != row as u32 {
            repeated.get_or_insert((row as u32, *group));
            *last = row as u32;
        }
    }
    let count = |group: u32| groups.of_row.iter().filter(|other| **other == group).count();
    Ok(LastRows { rows, repeated: repeated.map(|(row, group)| (row, count(group))) })
}
