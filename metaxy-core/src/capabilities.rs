//! What a storage system can do.

use arrow::datatypes::{DataType, FieldRef};

use crate::schema::{item_of, plain_type};

/// What a storage system can do. The default is everything; a backend names what it cannot do, and refuses it with an
/// error that says so. The suite of `metaxy-testkit` checks both.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// Returns whether values of a type can be stored. Asked about the type of a column and about every type inside it;
    /// never about Null, of which no table has a column, or about an encoding (dictionary, runs).
    pub stores_type: fn(&DataType) -> bool,
    /// Which stores may have a place open for writing at the same time.
    pub writers: Writers,
    /// When other processes can read what this one writes.
    pub other_processes: OtherProcesses,
}

/// Which stores may have a place open for writing at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Those of any number of processes.
    AnyProcess,
    /// Any number of stores of one process. A store of another process gets [`Error::Locked`](crate::Error::Locked),
    /// when it is opened or when it writes.
    OneProcess,
    /// A single store. Any other gets [`Error::Locked`](crate::Error::Locked) or
    /// [`Error::Conflict`](crate::Error::Conflict), when it is opened or when it writes.
    OneStore,
}

/// When other processes can read what this one writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherProcesses {
    /// At any time, also while this one writes.
    AtAnyTime,
    /// When this one has closed its stores. Until then they get [`Error::Locked`](crate::Error::Locked).
    AfterClose,
    /// Never: the rows live in the memory of this process.
    Never,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { stores_type: |_| true, writers: Writers::AnyProcess, other_processes: OtherProcesses::AtAnyTime }
    }
}

impl Capabilities {
    /// Returns whether a column of a type can be stored.
    pub fn stores(&self, data_type: &DataType) -> bool {
        self.stores_all_of(&plain_type(data_type))
    }

    fn stores_all_of(&self, data_type: &DataType) -> bool {
        let stores = |field: &FieldRef| self.stores_all_of(field.data_type());
        let stores_inner = match data_type {
            DataType::Null => return true,
            DataType::Struct(members) => members.iter().all(stores),
            DataType::Map(entries, _) => stores(entries),
            DataType::Union(variants, _) => variants.iter().all(|(_, variant)| stores(variant)),
            other => item_of(other).is_none_or(stores),
        };
        stores_inner && (self.stores_type)(data_type)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Fields, IntervalUnit};

    use super::*;

    #[test]
    fn types_inside_others_are_asked_about() {
        let no_intervals =
            Capabilities { stores_type: |given| !matches!(given, DataType::Interval(_)), ..Capabilities::default() };
        let interval = DataType::Interval(IntervalUnit::DayTime);
        let list = |item: &DataType| DataType::new_list(item.clone(), true);
        let member = |inner: &DataType| DataType::Struct(Fields::from(vec![Field::new("m", inner.clone(), true)]));
        let encoded = |values: &DataType| DataType::Dictionary(DataType::Int8.into(), values.clone().into());
        let map = |value: &DataType| {
            let pair = vec![Field::new("keys", DataType::Utf8, false), Field::new("values", value.clone(), true)];
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
        };
        for (inner, stored) in [(DataType::Int64, true), (DataType::Null, true), (interval, false)] {
            for data_type in [inner.clone(), list(&inner), member(&list(&inner)), encoded(&inner), map(&inner)] {
                assert_eq!(no_intervals.stores(&data_type), stored, "{data_type}");
            }
        }
    }
}
