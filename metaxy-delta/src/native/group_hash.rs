//! The hash over the data versions of a group, in their order: an aggregate function.

use std::hash::{Hash, Hasher};
use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use deltalake::datafusion::common::ScalarValue;
use deltalake::datafusion::error::Result;
use deltalake::datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use deltalake::datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlanBuilder, Signature, Volatility,
};
use metaxy_core::hash::RowHasher;

use super::Declined;
use super::functions::sort_key;
use super::names::OrderColumns;

/// Returns a row for each key, with the hashes of its data versions, joined by `|` in an order; a null counts as the empty
/// text.
pub(super) fn group_hashes(
    query: LogicalPlanBuilder,
    keys: Vec<Expr>,
    hasher: RowHasher,
    order: OrderColumns,
    versions: Vec<(Expr, String)>,
) -> std::result::Result<LogicalPlanBuilder, Declined> {
    let order = sort_key(order);
    let hash = |(version, name): (Expr, String)| {
        AggregateUDF::from(GroupHash::new(hasher)).call(vec![order.clone(), version]).alias(name)
    };
    Ok(query.aggregate(keys, versions.into_iter().map(hash).collect::<Vec<_>>())?)
}

#[derive(Debug)]
pub(super) struct GroupHash {
    pub(super) hasher: RowHasher,
    name: String,
    signature: Signature,
}

impl GroupHash {
    pub(super) fn new(hasher: RowHasher) -> Self {
        let name = format!("group_hash_{}_{}", hasher.algorithm(), hasher.truncation());
        let signature = Signature::exact(vec![DataType::Binary, DataType::Utf8], Volatility::Immutable);
        Self { hasher, name, signature }
    }
}

impl PartialEq for GroupHash {
    fn eq(&self, other: &Self) -> bool {
        self.hasher == other.hasher
    }
}

impl Eq for GroupHash {}

impl Hash for GroupHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for GroupHash {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Versions { hasher: self.hasher, rows: Vec::new(), bytes: 0 }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let list = |name: &str, item: DataType| {
            let name = format!("{}[{name}]", args.name);
            Arc::new(Field::new_list(name, Field::new_list_field(item, true), true))
        };
        Ok(vec![list("sort keys", DataType::Binary), list("versions", DataType::Utf8)])
    }
}

/// The versions of a group, each with its place in the order.
#[derive(Debug)]
struct Versions {
    hasher: RowHasher,
    rows: Vec<(Box<[u8]>, Box<str>)>,
    bytes: usize,
}

impl Versions {
    fn add(&mut self, sort_keys: &BinaryArray, versions: &StringArray) {
        for (sort_key, version) in sort_keys.iter().zip(versions) {
            let (sort_key, version) = (sort_key.unwrap_or_default(), version.unwrap_or_default());
            self.bytes += sort_key.len() + version.len();
            self.rows.push((sort_key.into(), version.into()));
        }
    }
}

impl Accumulator for Versions {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values[0].as_binary(), values[1].as_string());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.rows.sort();
        let versions: Vec<&str> = self.rows.iter().map(|(_, version)| version.as_ref()).collect();
        Ok(ScalarValue::Utf8(Some(self.hasher.hash(&versions.join("|")))))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.rows.capacity() * size_of::<(Box<[u8]>, Box<str>)>() + self.bytes
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (sort_keys, versions): (Vec<_>, Vec<_>) = std::mem::take(&mut self.rows).into_iter().unzip();
        self.bytes = 0;
        let sort_keys: ArrayRef = Arc::new(BinaryArray::from_iter_values(sort_keys));
        let versions: ArrayRef = Arc::new(StringArray::from_iter_values(versions));
        Ok(vec![list_of(sort_keys)?, list_of(versions)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for (sort_keys, versions) in states[0].as_list::<i32>().iter().zip(states[1].as_list::<i32>().iter()) {
            if let (Some(sort_keys), Some(versions)) = (sort_keys, versions) {
                self.add(sort_keys.as_binary(), versions.as_string());
            }
        }
        Ok(())
    }
}

/// Returns a list of all values.
fn list_of(values: ArrayRef) -> Result<ScalarValue> {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([values.len()]);
    Ok(ScalarValue::List(Arc::new(ListArray::try_new(field, offsets, values, None)?)))
}
