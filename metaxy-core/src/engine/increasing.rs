//! Rows in the order of their ids, as most pipelines write them: no sample has two, which is known without a hash table.

use arrow::array::RecordBatch;

use crate::error::Result;

use super::keys::Keys;
use super::typed_key::TypedKey;

/// Returns whether each row has greater ids than the one before it.
pub(crate) fn ids_increase(batches: &[RecordBatch], ids: &[String]) -> Result<bool> {
    let mut order = IncreasingIds::new(ids);
    for batch in batches {
        if !order.continue_in(batch)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Looks at the ids of one batch after the other.
pub(super) struct IncreasingIds<'a> {
    ids: &'a [String],
    /// The ids of the last batch.
    last: Option<(TypedKey, Keys)>,
}

impl<'a> IncreasingIds<'a> {
    pub(super) fn new(ids: &'a [String]) -> Self {
        Self { ids, last: None }
    }

    /// Returns whether the ids of a batch increase, and are greater than those of the batch before.
    pub(super) fn continue_in(&mut self, batch: &RecordBatch) -> Result<bool> {
        if batch.num_rows() == 0 {
            return Ok(true);
        }
        let key = TypedKey::within(batch.schema_ref(), self.ids)?;
        let keys = key.keys(batch)?;
        let follows = match &self.last {
            None => true,
            Some((last_key, last)) => last_key.columns() == key.columns() && last.precede(&keys),
        };
        let increase = follows && keys.is_increasing();
        self.last = Some((key, keys));
        Ok(increase)
    }
}
