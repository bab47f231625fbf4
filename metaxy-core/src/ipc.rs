//! Encodes batches as bytes, which are checked before they are decoded.
//!
//! It is for batches in files of a store or a spool. The bytes are an Arrow IPC file in a frame with its length and
//! checksum. [`decode`] checks the frame first: Arrow's decoder trusts the lengths that it reads, and a damaged file
//! could make it allocate more memory than there is, or return other values than were written.
//!
//! ```
//! # use metaxy_core::arrow::{array::{ArrayRef, Int64Array, RecordBatch}};
//! # use std::sync::Arc;
//! use metaxy_core::ipc;
//!
//! # fn example() -> metaxy_core::Result<()> {
//! # let batch = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)])?;
//! let bytes = ipc::encode(batch.schema_ref(), &[batch.clone()])?;
//! assert_eq!(ipc::decode("videos", &bytes)?, (batch.schema(), vec![batch]));
//! # Ok(())
//! # }
//! # example().unwrap();
//! ```

use std::fmt;
use std::io::Cursor;
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use arrow::ipc::{Block, MessageHeader, root_as_footer, root_as_message};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Error, Result};
use crate::fence;

const MAGIC: &[u8; 8] = b"METAXY\x00\x01";
/// The magic, the length of what follows the frame, and its checksum.
const FRAME: usize = 32;

/// The magic at the start and end of Arrow IPC files.
const ARROW: &[u8; 6] = b"ARROW1";
/// The size of what follows the footer of such a file: the length of the footer, and the magic.
const TRAILER: usize = 10;

/// Encodes batches that all have the schema.
///
/// # Errors
/// [`Error::Arrow`] for values that Arrow's format cannot represent.
pub fn encode(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut writer = FileWriter::try_new(vec![0; FRAME], schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    let mut bytes = writer.into_inner()?;
    let (frame, payload) = bytes.split_at_mut(FRAME);
    frame[..8].copy_from_slice(MAGIC);
    frame[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    frame[16..].copy_from_slice(&xxh3_128(payload).to_le_bytes());
    Ok(bytes)
}

/// Decodes batches and their schema. `name` is the table or file that the error names.
///
/// # Errors
/// [`Error::Corrupt`] for bytes that [`encode`] has not written.
pub fn decode(name: impl fmt::Display, bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let name = name.to_string();
    let payload = framed(bytes).map_err(|reason| damaged(&name, reason))?;
    decode_bare(&name, payload)
}

/// Encodes a schema alone, as an Arrow IPC stream without batches.
///
/// # Errors
/// [`Error::Arrow`] for values that Arrow's format cannot represent.
pub fn encode_schema(schema: &Schema) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

/// Decodes a schema of [`encode_schema`]. `name` is the table or file that the error names.
///
/// # Errors
/// [`Error::Corrupt`] for bytes without a schema.
pub fn decode_schema(name: impl fmt::Display, bytes: &[u8]) -> Result<SchemaRef> {
    let name = name.to_string();
    fence::decode(&name, || {
        check_message(bytes).map_err(|reason| damaged(&name, reason))?;
        let reader = StreamReader::try_new(bytes, None).map_err(|error| unreadable(&name, error))?;
        Ok(reader.schema())
    })
}

/// Checks the length of the message at the start of a stream.
fn check_message(stream: &[u8]) -> Result<(), &'static str> {
    let message = stream.strip_prefix(&[0xff; 4]).unwrap_or(stream);
    let (length, rest) = message.split_first_chunk::<4>().ok_or("its schema is too short")?;
    match usize::try_from(i32::from_le_bytes(*length)) {
        Ok(length) if length <= rest.len() => Ok(()),
        _ => Err("its schema is longer than the file"),
    }
}

/// Decodes an Arrow IPC file without a frame. Damaged lengths are found, damaged values are not.
pub(crate) fn decode_bare(name: &str, bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    fence::decode(name, || {
        check_lengths(bytes).map_err(|reason| damaged(name, reason))?;
        let reader = FileReader::try_new(Cursor::new(bytes), None).map_err(|error| unreadable(name, error))?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<_, _>>().map_err(|error| unreadable(name, error))?;
        Ok((schema, batches))
    })
}

/// Returns whether bytes are an Arrow IPC file without a frame.
pub(crate) fn is_bare(bytes: &[u8]) -> bool {
    bytes.starts_with(ARROW)
}

fn damaged(name: &str, reason: impl Into<String>) -> Error {
    Error::corrupt(name, reason)
}

fn unreadable(name: &str, error: ArrowError) -> Error {
    damaged(name, error.to_string()).with_source(error)
}

/// Returns the content of the frame.
fn framed(bytes: &[u8]) -> Result<&[u8], String> {
    let Some((frame, payload)) = bytes.split_at_checked(FRAME).filter(|(frame, _)| frame.starts_with(MAGIC)) else {
        return Err("its first bytes are not those of such a file".to_owned());
    };
    let length = u64::from_le_bytes(array(&frame[8..16]));
    if payload.len() as u64 != length {
        return Err(format!("it should have {length} bytes, but has {}", payload.len()));
    }
    if xxh3_128(payload) != u128::from_le_bytes(array(&frame[16..])) {
        return Err("its checksum does not match its bytes".to_owned());
    }
    Ok(payload)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

/// Checks every length that the decoder trusts against the size of the file.
fn check_lengths(file: &[u8]) -> Result<(), String> {
    let (rest, trailer) = file.split_last_chunk::<TRAILER>().ok_or("it is too short")?;
    if !file.starts_with(ARROW) || &trailer[4..] != ARROW {
        return Err("it is not an Arrow file, or a part of one".to_owned());
    }
    let length = i32::from_le_bytes(array(&trailer[..4]));
    let start = usize::try_from(length).ok().and_then(|length| rest.len().checked_sub(length));
    let footer = root_as_footer(&rest[start.ok_or("its footer is longer than the file")?..]);
    let footer = footer.map_err(|error| format!("its footer cannot be read: {error}"))?;
    let blocks = footer.dictionaries().into_iter().flatten().chain(footer.recordBatches().into_iter().flatten());
    blocks.into_iter().try_for_each(|block| check_block(file, block))
}

/// Checks a message and its buffers.
fn check_block(file: &[u8], block: &Block) -> Result<(), String> {
    let (head, body) = bounds(file, block).ok_or("a part of it is outside of the file")?;
    let head = &file[head];
    let head = head.strip_prefix(&[0xff; 4]).unwrap_or(head);
    let message = head.get(4..).ok_or("a message is too short")?;
    let message = root_as_message(message).map_err(|error| format!("a message cannot be read: {error}"))?;
    let batch = match message.header_type() {
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|batch| batch.data()),
        _ => message.header_as_record_batch(),
    };
    let batch = batch.ok_or("a message has no rows")?;
    if batch.compression().is_some() {
        return Err("its rows are compressed, which this format does not allow".to_owned());
    }
    let fits = |offset: i64, length: i64| {
        let end = offset.checked_add(length).and_then(|end| usize::try_from(end).ok());
        offset >= 0 && length >= 0 && end.is_some_and(|end| end <= body.len())
    };
    match batch.buffers().into_iter().flatten().all(|buffer| fits(buffer.offset(), buffer.length())) {
        true => Ok(()),
        false => Err("a column is outside of its batch".to_owned()),
    }
}

/// Returns the positions of the head and the body of a message.
fn bounds(file: &[u8], block: &Block) -> Option<(Range<usize>, Range<usize>)> {
    let start = usize::try_from(block.offset()).ok()?;
    let middle = start.checked_add(usize::try_from(block.metaDataLength()).ok()?)?;
    let end = middle.checked_add(usize::try_from(block.bodyLength()).ok()?)?;
    (end <= file.len()).then_some((start..middle, middle..end))
}
