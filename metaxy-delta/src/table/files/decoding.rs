//! Decoding of data files: the Arrow types of their columns, and the number of rows of a batch.
//!
//! INT96 timestamps consist of days and nanoseconds. They are decoded directly into microseconds, which Delta uses,
//! because 64 bits of nanoseconds only reach from the year 1677 to 2262.
//! - Values that repeat take little space in a file and a lot in memory: if the rows of a file may reach the end of
//!   32-bit offsets, they are decoded into types without such offsets, and cut into batches of bounded bytes
//!   afterwards.

use std::slice::Iter;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Fields, Schema, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::schema::types::ColumnDescPtr;

/// How many rows are decoded at a time, unless they have many bytes.
const BATCH_ROWS: usize = 65_536;
/// Up to so many bytes of values a file is decoded into plain types: any part of it fits into 32-bit offsets.
const PLAIN_BYTES: u64 = 256 << 20;
/// About how many bytes are decoded at a time: a scan holds several batches of each of its workers.
const BATCH_BYTES: u64 = 8 << 20;
/// The size of one element of a column of views.
const VIEW_BYTES: u64 = 16;

/// How some row groups of a file are decoded.
pub(crate) struct Decoding {
    /// The file, with the types that it is decoded into.
    pub metadata: ArrowReaderMetadata,
    /// How many rows at a time.
    pub batch_rows: usize,
    /// Whether the batches have to be cut before their values fit into the types of the table.
    pub is_wide: bool,
}

impl Decoding {
    /// Chooses how the columns of the mask are decoded.
    pub fn new(file: &ArrowReaderMetadata, mask: &ProjectionMask, groups: &[&RowGroupMetaData]) -> Result<Self> {
        let sizes = Sizes::of(mask, groups);
        let is_wide = sizes.values > PLAIN_BYTES;
        let bytes = if is_wide { sizes.shared } else { sizes.values };
        Ok(Self { metadata: retyped(file, is_wide)?, batch_rows: batch_rows(sizes.rows, bytes), is_wide })
    }
}

/// Returns the file with the types that it is decoded into.
fn retyped(file: &ArrowReaderMetadata, is_wide: bool) -> Result<ArrowReaderMetadata> {
    let leaves = file.parquet_schema().columns();
    if !is_wide && !leaves.iter().any(|leaf| leaf.physical_type() == PhysicalType::INT96) {
        return Ok(file.clone());
    }
    let mut leaves = leaves.iter();
    let fields: Fields =
        file.schema().fields().iter().map(|field| decoded_field(field, &mut leaves, is_wide)).collect();
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
    ArrowReaderMetadata::try_new(file.metadata().clone(), options)
}

fn decoded_field(field: &FieldRef, leaves: &mut Iter<'_, ColumnDescPtr>, is_wide: bool) -> FieldRef {
    let data_type = decoded_type(field.data_type(), leaves, is_wide);
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// Returns the type that a column is decoded into, given the one that Arrow proposes, and the leaves of the file from
/// it on.
fn decoded_type(proposed: &DataType, leaves: &mut Iter<'_, ColumnDescPtr>, is_wide: bool) -> DataType {
    let mut inner = |field: &FieldRef| decoded_field(field, leaves, is_wide);
    match proposed {
        DataType::List(item) if is_wide => DataType::LargeList(inner(item)),
        DataType::List(item) => DataType::List(inner(item)),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        DataType::Struct(members) => DataType::Struct(members.iter().map(inner).collect()),
        leaf => match (leaves.next().map(|column| column.physical_type()), leaf) {
            (Some(PhysicalType::INT96), _) => DataType::Timestamp(TimeUnit::Microsecond, None),
            (_, DataType::Utf8) if is_wide => DataType::Utf8View,
            (_, DataType::Binary) if is_wide => DataType::BinaryView,
            (_, leaf) => leaf.clone(),
        },
    }
}

/// How much memory rows take.
#[derive(Default)]
struct Sizes {
    rows: u64,
    /// Each value by itself; at least as much as there is.
    values: u64,
    /// In the types without 32-bit offsets, in which values that repeat are shared.
    shared: u64,
}

impl Sizes {
    fn of(mask: &ProjectionMask, groups: &[&RowGroupMetaData]) -> Self {
        let mut sizes = Self::default();
        for group in groups {
            sizes.rows = sizes.rows.saturating_add(unsigned(group.num_rows()));
            let chunks = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
            chunks.for_each(|(_, chunk)| sizes.add(chunk));
        }
        sizes
    }

    fn add(&mut self, chunk: &ColumnChunkMetaData) {
        let (values, shared) = match chunk.column_type() {
            PhysicalType::BYTE_ARRAY => {
                let values = byte_array_bytes(chunk);
                let is_shared = chunk.encodings().all(|encoding| encoding != Encoding::DELTA_BYTE_ARRAY);
                let decoded = if is_shared { unsigned(chunk.uncompressed_size()) } else { values };
                let views = unsigned(chunk.num_values()).saturating_mul(VIEW_BYTES);
                (values, decoded.saturating_add(views))
            }
            fixed => {
                let values = unsigned(chunk.num_values()).saturating_mul(width(fixed, chunk));
                (values, values)
            }
        };
        self.values = self.values.saturating_add(values);
        self.shared = self.shared.saturating_add(shared);
    }
}

/// Returns how many rows of some that take `bytes` together take [`BATCH_BYTES`] on average.
fn batch_rows(rows: u64, bytes: u64) -> usize {
    let rows = u128::from(rows) * u128::from(BATCH_BYTES) / u128::from(bytes.max(1));
    usize::try_from(rows).unwrap_or(usize::MAX).clamp(1, BATCH_ROWS)
}

/// Returns the bytes of all values, or more: if the writer has not stated it, each may be as long as the whole column.
fn byte_array_bytes(chunk: &ColumnChunkMetaData) -> u64 {
    let size = unsigned(chunk.uncompressed_size());
    match chunk.unencoded_byte_array_data_bytes() {
        Some(bytes) => unsigned(bytes),
        None if chunk.encodings().any(repeats_values) => unsigned(chunk.num_values()).saturating_mul(size),
        None => size,
    }
}

/// Returns whether a value that repeats takes less space than it has bytes.
fn repeats_values(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY | Encoding::DELTA_BYTE_ARRAY)
}

fn width(physical: PhysicalType, chunk: &ColumnChunkMetaData) -> u64 {
    match physical {
        PhysicalType::FIXED_LEN_BYTE_ARRAY => unsigned(i64::from(chunk.column_descr().type_length())),
        PhysicalType::BOOLEAN => 1,
        PhysicalType::INT32 | PhysicalType::FLOAT => 4,
        _ => 8,
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
