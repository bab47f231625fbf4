//! The parts of a query that DataFusion cannot send itself, as bytes. They begin with the version of this crate: other
//! versions may compute other increments, and are refused.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use deltalake::datafusion::error::{DataFusionError, Result};
use metaxy_core::filter::Predicate;
use metaxy_core::hash::RowHasher;
use metaxy_core::ipc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::table::files::Filters;

use super::functions::Function;
use super::rows::{Failure, LiveRows, Source};
use super::sent_part::{NamedPart, SentPart};
use super::sent_predicate;
use super::sent_write::SentWrite;
use super::write_rows::Write;

/// The first bytes. No message of Ballista begins with them.
const MARK: &[u8] = b"metaxy ";
/// The version of this crate.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Begins the message of an error about versions, by which the client recognizes it.
pub(super) const MISMATCH: &str = "versions of metaxy that do not match:";

/// Rows of a table, without the way to their storage.
#[derive(Serialize, Deserialize)]
struct SentRows {
    part: Arc<SentPart>,
    names: Vec<String>,
    #[serde(with = "sent_predicate::optional")]
    filter: Option<Predicate>,
    schema: SchemaRef,
    shares: usize,
}

/// A table of a query.
pub(super) enum Table {
    /// Rows of a table of the store.
    Rows(LiveRows),
    /// Keys that the client sends along.
    Keys(SchemaRef, Vec<RecordBatch>),
    /// A write, and the query of the rows, unless it is sent otherwise.
    Write(Box<Write>, Vec<u8>),
}

/// What a table begins with, if it is not keys.
#[derive(Serialize, Deserialize)]
enum Sent {
    Rows(SentRows),
    Write(SentWrite),
}

/// Returns whether bytes are a part of a query of this crate, of any version.
pub(super) fn is_ours(bytes: &[u8]) -> bool {
    bytes.starts_with(MARK)
}

pub(super) fn function(function: &Function, out: &mut Vec<u8>) -> Result<()> {
    json(function, out)
}

pub(super) fn read_function(bytes: &[u8]) -> Result<Function> {
    read_json(content(bytes)?)
}

pub(super) fn hasher(hasher: RowHasher, out: &mut Vec<u8>) -> Result<()> {
    json(&hasher, out)
}

pub(super) fn read_hasher(bytes: &[u8]) -> Result<RowHasher> {
    read_json(content(bytes)?)
}

pub(super) fn rows(rows: &LiveRows, out: &mut Vec<u8>) -> Result<()> {
    let part = match &rows.source {
        Source::Named(part) => part.sent.clone(),
        Source::Open(part) => {
            let filters = Filters { rows: rows.filter.clone(), ..Filters::default() };
            Arc::new(SentPart::new(part, |file| filters.may_match(&part.state.schema, file.stats())))
        }
    };
    let LiveRows { names, filter, schema, shares, .. } = rows.clone();
    json(&Sent::Rows(SentRows { part, names, filter, schema, shares }), out)
}

/// Sends a write; `query` has the query of its rows.
pub(super) fn write(write: &Write, query: &[u8], out: &mut Vec<u8>) -> Result<()> {
    json(&Sent::Write(SentWrite::new(write)?), out)?;
    out.extend(query);
    Ok(())
}

pub(super) fn keys(schema: &SchemaRef, batches: &[RecordBatch], out: &mut Vec<u8>) -> Result<()> {
    begin(out);
    out.extend(ipc::encode(schema, batches).map_err(|error| DataFusionError::External(Box::new(error)))?);
    Ok(())
}

pub(super) fn read_table(bytes: &[u8]) -> Result<Table> {
    let content = content(bytes)?;
    if content.first() != Some(&b'{') {
        let keys = ipc::decode("the keys of a query", content);
        let (schema, batches) = keys.map_err(|error| DataFusionError::External(Box::new(error)))?;
        return Ok(Table::Keys(schema, batches));
    }
    let mut sent = serde_json::Deserializer::from_slice(content).into_iter::<Sent>();
    let unreadable = || DataFusionError::Plan("a table of the query is damaged".to_owned());
    let first = sent.next().ok_or_else(unreadable)?.map_err(|error| DataFusionError::External(Box::new(error)))?;
    let SentRows { part, names, filter, schema, shares } = match first {
        Sent::Rows(rows) => rows,
        Sent::Write(write) => return Ok(Table::Write(Box::new(write.read()?), content[sent.byte_offset()..].to_vec())),
    };
    let (source, failure) = (Source::Named(Arc::new(NamedPart::new(part))), Failure::default());
    Ok(Table::Rows(LiveRows { source, names, filter, schema, shares, failure }))
}

fn begin(out: &mut Vec<u8>) {
    out.extend([MARK, VERSION.as_bytes(), b"\n"].concat());
}

/// Returns what follows the version, if that is ours.
fn content(bytes: &[u8]) -> Result<&[u8]> {
    let unreadable = || DataFusionError::Plan("the query was not sent by metaxy, or is damaged".to_owned());
    let marked = bytes.strip_prefix(MARK).ok_or_else(unreadable)?;
    let end = marked.iter().position(|byte| *byte == b'\n').ok_or_else(unreadable)?;
    let version = String::from_utf8_lossy(&marked[..end]);
    if version != VERSION {
        let reason = format!("{MISMATCH} the query is from {version}, and this process of the cluster is {VERSION};");
        return Err(DataFusionError::Plan(reason));
    }
    Ok(&marked[end + 1..])
}

fn json(content: &impl Serialize, out: &mut Vec<u8>) -> Result<()> {
    begin(out);
    serde_json::to_writer(out, content).map_err(|error| DataFusionError::External(Box::new(error)))
}

fn read_json<T: DeserializeOwned>(content: &[u8]) -> Result<T> {
    serde_json::from_slice(content).map_err(|error| DataFusionError::External(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use metaxy_core::HashAlgorithm;

    use super::*;

    #[test]
    fn functions_return_as_they_were() {
        let list = DataType::new_list(DataType::Decimal128(10, 2), true);
        let hasher = RowHasher::new(HashAlgorithm::Wyhash, 12).unwrap();
        for sent in [Function::SortKey(vec![list.clone(), DataType::Utf8]), Function::Key(list), Function::Hash(hasher)]
        {
            let mut bytes = Vec::new();
            function(&sent, &mut bytes).unwrap();
            assert!(is_ours(&bytes));
            assert_eq!(read_function(&bytes).unwrap(), sent);
        }
    }

    #[test]
    fn another_version_is_refused_and_both_are_named() {
        let mut bytes = Vec::new();
        function(&Function::Text, &mut bytes).unwrap();
        let other = [MARK, b"9.8.7", &bytes[MARK.len() + VERSION.len()..]].concat();
        let error = read_function(&other).unwrap_err().to_string();
        assert!(error.contains(MISMATCH) && error.contains("9.8.7") && error.contains(VERSION), "{error}");
        assert!(read_function(&bytes[1..]).is_err());
    }
}
