//! The order of rows that arrive in increasing runs: backends read the files of a table concurrently, and partitions have
//! pieces of several batches. Increasing keys need no hash table.

use std::ops::Range;

use super::keys::Keys;

/// Runs of rows are brought into order if they have at least about this mean length.
const LONG_RUN: usize = 64;

/// Returns the runs of rows in the order of their keys. Returns `None` if they are in this order already, if a key has a
/// null, or if the runs would be short.
pub(super) fn in_key_order(keys: &Keys) -> Option<Vec<Range<usize>>> {
    if keys.is_increasing() || keys.has_nulls() {
        return None;
    }
    let most = keys.len() / LONG_RUN + LONG_RUN;
    let mut starts = vec![0];
    starts.extend((1..keys.len()).filter(|row| keys.order_of(row - 1, *row).is_ge()).take(most));
    if starts.len() > most {
        return None;
    }
    let ends = starts[1..].iter().copied().chain([keys.len()]);
    merge(keys, starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect(), most)
}

/// Merges runs into at most about `most`.
fn merge(keys: &Keys, mut runs: Vec<Range<usize>>, most: usize) -> Option<Vec<Range<usize>>> {
    // The run with the least first key is the last one.
    runs.sort_by(|left, right| keys.order_of(right.start, left.start));
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(runs.len());
    while let Some(run) = runs.pop() {
        let end = match runs.last() {
            Some(next) => first_not_less(keys, &run, next.start),
            None => run.end,
        };
        // Equal keys in two runs: no order makes them increase.
        if end == run.start || merged.len() > most {
            return None;
        }
        merged.push(run.start..end);
        if end < run.end {
            let at = runs.partition_point(|other| keys.order_of(other.start, end).is_gt());
            runs.insert(at, end..run.end);
        }
    }
    Some(merged)
}

/// Returns the first row of an increasing run whose key is not less than that of `row`, or the end of the run.
fn first_not_less(keys: &Keys, run: &Range<usize>, row: usize) -> usize {
    let (mut low, mut high) = (run.start, run.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match keys.order_of(middle, row).is_lt() {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use proptest::prelude::*;

    use super::*;

    fn keys_of(numbers: &[i64]) -> Keys {
        let column: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
        Keys::within(vec![column]).expect("keys")
    }

    proptest! {
        #[test]
        fn runs_are_merged(ends in proptest::collection::vec((0_usize..4, 1_i64..400), 1..40)) {
            let (mut files, mut next) = (vec![Vec::new(); 4], 0);
            for (file, count) in ends {
                files[file].extend(next..next + count);
                next += count;
            }
            let numbers: Vec<i64> = files.concat();
            let keys = keys_of(&numbers);
            match in_key_order(&keys) {
                None => prop_assert!(keys.is_increasing()),
                Some(runs) => {
                    let found = runs.into_iter().flat_map(|run| numbers[run].to_vec());
                    prop_assert!(found.eq(0..next));
                }
            }
        }
    }

    #[test]
    fn short_runs_and_equal_keys_are_left_alone() {
        let descending: Vec<i64> = (0..10_000).rev().collect();
        let twice: Vec<i64> = (0..500).chain(0..500).collect();
        assert!(in_key_order(&keys_of(&descending)).is_none());
        assert!(in_key_order(&keys_of(&twice)).is_none());
    }
}
