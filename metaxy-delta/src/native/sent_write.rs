//! A write as other processes get it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use deltalake::datafusion::error::{DataFusionError, Result};
use metaxy_core::backend::Completion;
use metaxy_core::{Error, FeatureKey, ipc};
use serde::{Deserialize, Serialize};

use super::query::ExpectedRows;
use super::rows::Source;
use super::sent_part::{NamedPart, SentPart};
use super::write_rows::Write;

/// A [`Write`], without the way to the storage.
#[derive(Serialize, Deserialize)]
pub(super) struct SentWrite {
    target: Arc<SentPart>,
    directory: String,
    expected: ExpectedRows,
    feature: FeatureKey,
    id_columns: Vec<String>,
    schema: SchemaRef,
    /// In Arrow's IPC format.
    stamp: Vec<u8>,
}

impl SentWrite {
    pub(super) fn new(write: &Write) -> Result<Self> {
        let target = match &write.target {
            Source::Named(part) => part.sent.clone(),
            Source::Open(part) => Arc::new(SentPart::new(part, |_| true)),
        };
        let Completion { feature, id_columns, schema, stamp } = write.completion.clone();
        let stamp = ipc::encode(&stamp.schema(), &[stamp]).map_err(external)?;
        let (directory, expected) = (write.directory.clone(), write.expected.clone());
        Ok(Self { target, directory, expected, feature, id_columns, schema, stamp })
    }

    pub(super) fn read(self) -> Result<Write> {
        let Self { target, directory, expected, feature, id_columns, schema, stamp } = self;
        let (_, stamp) = ipc::decode("the stamp of a write", &stamp).map_err(external)?;
        let [stamp] = stamp.try_into().map_err(|_| DataFusionError::Plan("a write has one stamp".to_owned()))?;
        let completion = Completion { feature, id_columns, schema, stamp };
        Ok(Write { target: Source::Named(Arc::new(NamedPart::new(target))), directory, expected, completion })
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
