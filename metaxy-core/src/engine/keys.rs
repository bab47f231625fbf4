//! Keys of rows: hashing, comparing, looking up.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::OnceLock;

use ahash::RandomState;
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::HashTable;

use crate::error::Result;

use super::key_type::{comparable, key_type};
use super::table::NO_ROW;

/// One hash function for all tables, so that their keys can be looked up in each other.
const HASHER: RandomState = RandomState::with_seeds(0x6d65, 0x7461, 0x7879, 0x2e72);

/// The size of a block of keys, in bits of an integer and in characters of a text.
const BLOCK_BITS: u32 = 10;
const BLOCK_CHARACTERS: usize = 3;

/// The key columns of a table.
pub(crate) struct Keys {
    columns: Vec<KeyColumn>,
    len: usize,
    hashes: OnceLock<Vec<u64>>,
    is_increasing: OnceLock<bool>,
    /// Rows with a null in a key column.
    nulls: Option<NullBuffer>,
}

enum KeyColumn {
    Int(PrimitiveArray<Int64Type>),
    Text(StringArray),
    Other(Rows),
}

impl Keys {
    /// Reads the keys of the rows in `columns`, each compared in the given type.
    pub(crate) fn new(columns: &[(ArrayRef, DataType)]) -> Result<Self> {
        let mut nulls: Option<NullBuffer> = None;
        let mut keys = Vec::with_capacity(columns.len());
        for (array, data_type) in columns {
            let array = comparable(array, data_type)?;
            nulls = NullBuffer::union(nulls.as_ref(), array.logical_nulls().as_ref());
            keys.push(KeyColumn::new(array)?);
        }
        let len = columns.first().map_or(0, |(array, _)| array.len());
        Ok(Self { columns: keys, len, hashes: OnceLock::new(), is_increasing: OnceLock::new(), nulls })
    }

    /// Reads the keys of rows that are compared only with each other.
    pub(crate) fn within(columns: Vec<ArrayRef>) -> Result<Self> {
        let typed = columns.into_iter().map(|array| Ok((key_type(array.data_type())?, array)));
        let typed =
            typed.map(|typed| typed.map(|(data_type, array)| (array, data_type))).collect::<Result<Vec<_>>>()?;
        Self::new(&typed)
    }

    /// Returns a hash of each key. Computed when it is first needed.
    pub(crate) fn hashes(&self) -> &[u64] {
        self.hashes.get_or_init(|| {
            let mut hashes = Vec::new();
            self.columns.iter().for_each(|column| column.hash_into(&mut hashes));
            hashes
        })
    }

    /// Returns a hash of the block of each key. Neighbours in an order of keys are mostly in one block: those whose last
    /// column differs only in its lowest bits or last characters.
    pub(super) fn block_hashes(&self) -> Vec<u64> {
        let mut hashes = Vec::new();
        if let Some((last, others)) = self.columns.split_last() {
            others.iter().for_each(|column| column.hash_into(&mut hashes));
            last.hash_blocks_into(&mut hashes);
        }
        hashes
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns whether each key is greater than the one before it, as in a table that was written in the order of its
    /// ids. Such keys are distinct, and are found without a hash table.
    pub(super) fn is_increasing(&self) -> bool {
        *self.is_increasing.get_or_init(|| match self.columns.as_slice() {
            _ if self.has_nulls() => false,
            [KeyColumn::Int(values)] => values.values().is_sorted_by(|left, right| left < right),
            _ => (1..self.len).all(|row| self.compare(row - 1, self, row).is_lt()),
        })
    }

    /// Returns whether the last of these keys is less than the first of the others; a key with a null is not.
    pub(super) fn precede(&self, others: &Keys) -> bool {
        let (Some(last), false) = (self.len.checked_sub(1), others.len == 0) else { return true };
        !self.is_null(last) && !others.is_null(0) && self.compare(last, others, 0).is_lt()
    }

    /// Returns whether a key has a null.
    pub(super) fn has_nulls(&self) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.null_count() > 0)
    }

    /// Compares two of these keys, which have no nulls.
    pub(super) fn order_of(&self, row: usize, other: usize) -> Ordering {
        self.compare(row, self, other)
    }

    /// Compares two keys without nulls.
    fn compare(&self, row: usize, other: &Keys, other_row: usize) -> Ordering {
        let columns = self.columns.iter().zip(&other.columns);
        let mut orders = columns.map(|(left, right)| left.compare(row, right, other_row));
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Returns whether two keys are equal; nulls equal nulls.
    fn equal(&self, row: usize, other: &Keys, other_row: usize) -> bool {
        self.is_null(row) == other.is_null(other_row)
            && self.columns.iter().zip(&other.columns).all(|(left, right)| left.equal(row, right, other_row))
    }

    /// Numbers the distinct keys in the order of their first row.
    pub(crate) fn groups(&self) -> Groups {
        if self.is_increasing() {
            let rows: Vec<u32> = (0..self.len as u32).collect();
            return Groups { of_row: rows.clone(), firsts: rows };
        }
        let hashes = self.hashes();
        let mut firsts: Vec<u32> = Vec::new();
        let mut of_row = Vec::with_capacity(self.len());
        let mut table: HashTable<u32> = HashTable::with_capacity(self.len());
        for row in 0..self.len() {
            let hash = hashes[row];
            let same = |group: &u32| self.equal(firsts[*group as usize] as usize, self, row);
            let found = table.find(hash, same).copied();
            let group = found.unwrap_or(firsts.len() as u32);
            if found.is_none() {
                table.insert_unique(hash, group, |group| hashes[firsts[*group as usize] as usize]);
                firsts.push(row as u32);
            }
            of_row.push(group);
        }
        Groups { of_row, firsts }
    }
}

/// Rows grouped by key.
pub(crate) struct Groups {
    /// The group of each row.
    pub(crate) of_row: Vec<u32>,
    /// The first row of each group.
    pub(crate) firsts: Vec<u32>,
}

/// Returns how many distinct keys there are among rows of several tables.
pub(crate) fn count_distinct<'a>(rows: impl Iterator<Item = (&'a Keys, usize)>) -> usize {
    let mut table: HashTable<(&Keys, usize)> = HashTable::new();
    for (keys, row) in rows {
        let same = |(other, other_row): &(&Keys, usize)| other.equal(*other_row, keys, row);
        let hash = keys.hashes()[row];
        if table.find(hash, same).is_none() {
            table.insert_unique(hash, (keys, row), |(keys, row)| keys.hashes()[*row]);
        }
    }
    table.len()
}

/// Finds rows by their key.
pub(crate) struct KeyIndex<K> {
    keys: K,
    /// Whether a key with a null is found.
    finds_nulls: bool,
    /// Rows by the hash of their key; `None` if the keys are increasing.
    table: Option<HashTable<u32>>,
    /// For each row, the next one with the same key.
    next: Vec<u32>,
}

/// Looks up one key after the other. Keys that come in the order of an index are found fastest.
pub(crate) struct Cursor<'a, K> {
    index: &'a KeyIndex<K>,
    /// The row of increasing keys after the one that was found last.
    position: usize,
}

/// The number of increasing keys that are looked at from the position of a cursor before all are searched.
const STEPS: usize = 8;

impl<K: Borrow<Keys>> KeyIndex<K> {
    /// Creates an index for joins: as in SQL, a key with a null equals no other key.
    pub(crate) fn new(keys: K) -> Self {
        Self::of(keys, false)
    }

    /// Creates an index in which a key with a null is found by a key that has nulls in the same columns.
    pub(crate) fn with_nulls(keys: K) -> Self {
        Self::of(keys, true)
    }

    fn of(owner: K, finds_nulls: bool) -> Self {
        let keys = owner.borrow();
        if keys.is_increasing() {
            return Self { keys: owner, finds_nulls, table: None, next: Vec::new() };
        }
        let hashes = keys.hashes();
        let mut table: HashTable<u32> = HashTable::with_capacity(keys.len());
        let mut next = Vec::new();
        for row in (0..keys.len()).filter(|row| finds_nulls || !keys.is_null(*row)) {
            match table.find_mut(hashes[row], |other| keys.equal(*other as usize, keys, row)) {
                Some(head) => {
                    next.resize(keys.len(), NO_ROW);
                    next[row] = *head;
                    *head = row as u32;
                }
                None => {
                    table.insert_unique(hashes[row], row as u32, |row| hashes[*row as usize]);
                }
            }
        }
        Self { keys: owner, finds_nulls, table: Some(table), next }
    }

    pub(crate) fn cursor(&self) -> Cursor<'_, K> {
        Cursor { index: self, position: 0 }
    }
}

impl<'a, K: Borrow<Keys>> Cursor<'a, K> {
    /// Returns one row with the key of `row` in `other`, or [`NO_ROW`].
    pub(crate) fn find(&mut self, other: &Keys, row: usize) -> u32 {
        let is_null = other.is_null(row);
        match &self.index.table {
            _ if is_null && !self.index.finds_nulls => NO_ROW,
            // Increasing keys have no nulls.
            None if is_null => NO_ROW,
            None => self.find_increasing(other, row).map_or(NO_ROW, |found| found as u32),
            Some(table) => {
                let keys = self.index.keys.borrow();
                let same = |own: &u32| keys.equal(*own as usize, other, row);
                table.find(other.hashes()[row], same).copied().unwrap_or(NO_ROW)
            }
        }
    }

    /// Returns all rows with the key of `row` in `other`.
    pub(crate) fn find_all(&mut self, other: &Keys, row: usize) -> impl Iterator<Item = u32> + use<'a, K> {
        let first = self.find(other, row);
        let next = &self.index.next;
        std::iter::successors((first != NO_ROW).then_some(first), move |row| {
            next.get(*row as usize).copied().filter(|next| *next != NO_ROW)
        })
    }

    /// Finds a key among increasing ones: among the next few, or else by binary search.
    fn find_increasing(&mut self, other: &Keys, row: usize) -> Option<usize> {
        let keys = self.index.keys.borrow();
        let compare = |at: usize| keys.compare(at, other, row);
        let is_next = |at: usize| at == 0 || compare(at - 1).is_lt();
        let near = (self.position..keys.len()).take(STEPS).find(|at| compare(*at).is_ge());
        let at = match near {
            Some(at) if at > self.position || is_next(at) => at,
            _ => self.search(other, row),
        };
        let found = at < keys.len() && compare(at).is_eq();
        self.position = if found { at + 1 } else { at };
        found.then_some(at)
    }

    /// Returns the first of the increasing keys that is not less than another key.
    fn search(&self, other: &Keys, row: usize) -> usize {
        let keys = self.index.keys.borrow();
        let (mut low, mut high) = (0, keys.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match keys.compare(middle, other, row) {
                Ordering::Less => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }
}

impl KeyColumn {
    fn new(array: ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Int64 => Self::Int(array.as_primitive::<Int64Type>().clone()),
            DataType::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            other => {
                let converter = RowConverter::new(vec![SortField::new(other.clone())])?;
                Self::Other(converter.convert_columns(&[array])?)
            }
        })
    }

    fn hash_into(&self, hashes: &mut Vec<u64>) {
        match self {
            Self::Int(array) if array.null_count() == 0 => {
                combine(hashes, array.values().iter().map(|value| HASHER.hash_one(value)));
            }
            Self::Int(array) => combine(hashes, array.iter().map(|value| HASHER.hash_one(value.unwrap_or_default()))),
            Self::Text(array) => {
                let bytes = |row: usize| if array.is_valid(row) { array.value(row).as_bytes() } else { &[] };
                combine(hashes, (0..array.len()).map(|row| HASHER.hash_one(bytes(row))));
            }
            Self::Other(rows) => combine(hashes, rows.iter().map(|row| HASHER.hash_one(row.as_ref()))),
        }
    }

    fn hash_blocks_into(&self, hashes: &mut Vec<u64>) {
        match self {
            Self::Int(array) => {
                let block = |value: Option<i64>| HASHER.hash_one(value.unwrap_or_default() >> BLOCK_BITS);
                combine(hashes, array.iter().map(block));
            }
            Self::Text(array) => {
                let block = |row: usize| {
                    let text = if array.is_valid(row) { array.value(row).as_bytes() } else { &[] };
                    HASHER.hash_one(&text[..text.len().saturating_sub(BLOCK_CHARACTERS)])
                };
                combine(hashes, (0..array.len()).map(block));
            }
            Self::Other(_) => self.hash_into(hashes),
        }
    }

    fn compare(&self, row: usize, other: &KeyColumn, other_row: usize) -> Ordering {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => left.value(row).cmp(&right.value(other_row)),
            (Self::Text(left), Self::Text(right)) => left.value(row).cmp(right.value(other_row)),
            (Self::Other(left), Self::Other(right)) => left.row(row).as_ref().cmp(right.row(other_row).as_ref()),
            // Keys are compared in one type.
            _ => Ordering::Equal,
        }
    }

    fn equal(&self, row: usize, other: &KeyColumn, other_row: usize) -> bool {
        // The value behind a null is undefined.
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => match (left.is_valid(row), right.is_valid(other_row)) {
                (true, true) => left.values()[row] == right.values()[other_row],
                (left, right) => left == right,
            },
            (Self::Text(left), Self::Text(right)) => match (left.is_valid(row), right.is_valid(other_row)) {
                (true, true) => left.value(row) == right.value(other_row),
                (left, right) => left == right,
            },
            (Self::Other(left), Self::Other(right)) => left.row(row).as_ref() == right.row(other_row).as_ref(),
            _ => false,
        }
    }
}

fn combine(hashes: &mut Vec<u64>, column: impl ExactSizeIterator<Item = u64>) {
    if hashes.is_empty() {
        hashes.extend(column);
    } else {
        hashes
            .iter_mut()
            .zip(column)
            .for_each(|(hash, value)| *hash = hash.rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Int64Array};
    use proptest::prelude::*;

    use super::*;

    /// Returns the same numbers as keys of several types, whose order is that of the numbers.
    fn keys_of(numbers: &[Option<i64>]) -> Vec<Keys> {
        let ints: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
        let text = |number: &Option<i64>| number.map(|number| format!("{number:03}"));
        let texts: ArrayRef = Arc::new(numbers.iter().map(text).collect::<StringArray>());
        let decimals: ArrayRef = Arc::new(numbers.iter().map(|n| n.map(i128::from)).collect::<Decimal128Array>());
        let tens: ArrayRef = Arc::new(numbers.iter().map(|n| n.map(|n| n / 10)).collect::<Int64Array>());
        let all = [vec![ints], vec![texts.clone()], vec![decimals], vec![tens, texts]];
        all.into_iter().map(|columns| Keys::within(columns).expect("keys")).collect()
    }

    fn numbers() -> impl Strategy<Value = Vec<Option<i64>>> {
        proptest::collection::vec(proptest::option::weighted(0.9, 0_i64..120), 0..60)
    }

    proptest! {
        #[test]
        fn every_key_is_found(
            stored in proptest::collection::btree_set(0_i64..120, 0..60),
            mut others in numbers(),
            shuffled in any::<bool>(),
            sorted in any::<bool>(),
            finds_nulls in any::<bool>(),
        ) {
            let mut stored: Vec<Option<i64>> = stored.into_iter().map(Some).collect();
            if shuffled {
                stored.reverse();
                stored.push(None);
            }
            if sorted {
                others.sort();
            }
            for (keys, other) in keys_of(&stored).into_iter().zip(keys_of(&others)) {
                prop_assert_eq!(keys.is_increasing(), !shuffled);
                let groups = keys.groups();
                prop_assert_eq!((groups.firsts.len(), groups.of_row.len()), (stored.len(), stored.len()));
                let (blocks, of_others) = (keys.block_hashes(), other.block_hashes());
                let index = KeyIndex::of(keys, finds_nulls);
                let mut cursor = index.cursor();
                for (row, number) in others.iter().enumerate() {
                    let expected = stored.iter().position(|stored| stored == number);
                    let expected = expected.filter(|_| number.is_some() || finds_nulls);
                    let found: Vec<u32> = cursor.find_all(&other, row).collect();
                    prop_assert!(found.iter().all(|found| blocks[*found as usize] == of_others[row]));
                    prop_assert_eq!(found, expected.into_iter().map(|row| row as u32).collect::<Vec<_>>());
                }
            }
        }
    }
}
