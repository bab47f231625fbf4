//! The hashes of the rows of a batch, by the algorithms that DataFusion has no function for.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, StringBuilder};
use deltalake::datafusion::common::ScalarValue;
use deltalake::datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use metaxy_core::hash::RowHasher;
use metaxy_core::{Result, executor};

/// A part of the hashed texts.
enum Part {
    Fixed(String),
    Rows(StringArray),
}

impl Part {
    fn new(argument: &ColumnarValue) -> Result<Self> {
        Ok(match argument {
            ColumnarValue::Scalar(ScalarValue::Utf8(text)) => Self::Fixed(text.clone().unwrap_or_default()),
            ColumnarValue::Scalar(other) => Self::Fixed(other.to_string()),
            ColumnarValue::Array(array) => Self::Rows(executor::text(array)?),
        })
    }

    fn text(&self, row: usize) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Rows(texts) => texts.value(row),
        }
    }
}

/// Returns the hash of each row's parts, joined.
pub(super) fn hashes(hasher: RowHasher, arguments: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let parts = arguments.args.iter().map(Part::new).collect::<Result<Vec<_>>>()?;
    let mut builder = StringBuilder::new();
    let mut many = hasher.many(|hash| builder.append_value(hash));
    for row in 0..arguments.number_rows {
        many.push(parts.iter().map(|part| part.text(row)));
    }
    many.finish();
    Ok(Arc::new(builder.finish()))
}
