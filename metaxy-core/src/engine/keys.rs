//! Keys of rows: hashing, comparing, looking up.

use std::borrow::Borrow;

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

/// The key columns of a table.
pub(crate) struct Keys {
    columns: Vec<KeyColumn>,
    hashes: Vec<u64>,
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
        let mut hashes = Vec::new();
        for (array, data_type) in columns {
            let array = comparable(array, data_type)?;
            nulls = NullBuffer::union(nulls.as_ref(), array.logical_nulls().as_ref());
            let column = KeyColumn::new(array)?;
            column.hash_into(&mut hashes);
            keys.push(column);
        }
        Ok(Self { columns: keys, hashes, nulls })
    }

    /// Reads the keys of rows that are compared only with each other.
    pub(crate) fn within(columns: Vec<ArrayRef>) -> Result<Self> {
        let typed = columns.into_iter().map(|array| Ok((key_type(array.data_type())?, array)));
        let typed =
            typed.map(|typed| typed.map(|(data_type, array)| (array, data_type))).collect::<Result<Vec<_>>>()?;
        Self::new(&typed)
    }

    pub(crate) fn into_hashes(self) -> Vec<u64> {
        self.hashes
    }

    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
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
        let mut firsts: Vec<u32> = Vec::new();
        let mut of_row = Vec::with_capacity(self.len());
        let mut table: HashTable<u32> = HashTable::with_capacity(self.len());
        for row in 0..self.len() {
            let hash = self.hashes[row];
            let same = |group: &u32| self.equal(firsts[*group as usize] as usize, self, row);
            let found = table.find(hash, same).copied();
            let group = found.unwrap_or(firsts.len() as u32);
            if found.is_none() {
                table.insert_unique(hash, group, |group| self.hashes[firsts[*group as usize] as usize]);
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
        if table.find(keys.hashes[row], same).is_none() {
            table.insert_unique(keys.hashes[row], (keys, row), |(keys, row)| keys.hashes[*row]);
        }
    }
    table.len()
}

/// Finds rows by their key.
pub(crate) struct KeyIndex<K> {
    keys: K,
    /// Whether a key with a null is found.
    finds_nulls: bool,
    table: HashTable<u32>,
    /// For each row, the next one with the same key.
    next: Vec<u32>,
}

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
        let mut table: HashTable<u32> = HashTable::with_capacity(keys.len());
        let mut next = Vec::new();
        for row in (0..keys.len()).filter(|row| finds_nulls || !keys.is_null(*row)) {
            let hash = keys.hashes[row];
            match table.find_mut(hash, |other| keys.equal(*other as usize, keys, row)) {
                Some(head) => {
                    next.resize(keys.len(), NO_ROW);
                    next[row] = *head;
                    *head = row as u32;
                }
                None => {
                    table.insert_unique(hash, row as u32, |row| keys.hashes[*row as usize]);
                }
            }
        }
        Self { keys: owner, finds_nulls, table, next }
    }

    /// Returns one row with the key of `row` in `other`, or [`NO_ROW`].
    pub(crate) fn find(&self, other: &Keys, row: usize) -> u32 {
        if !self.finds_nulls && other.is_null(row) {
            return NO_ROW;
        }
        let keys = self.keys.borrow();
        let same = |own: &u32| keys.equal(*own as usize, other, row);
        self.table.find(other.hashes[row], same).copied().unwrap_or(NO_ROW)
    }

    /// Returns all rows with the key of `row` in `other`.
    pub(crate) fn find_all(&self, other: &Keys, row: usize) -> impl Iterator<Item = u32> + '_ {
        let first = self.find(other, row);
        std::iter::successors((first != NO_ROW).then_some(first), |row| {
            self.next.get(*row as usize).copied().filter(|next| *next != NO_ROW)
        })
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
