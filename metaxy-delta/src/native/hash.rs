//! Hashes of texts: DataFusion's functions for MD5 and SHA-256, which every executor of its plans has, and those of the
//! core for the other algorithms.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use deltalake::datafusion::common::ScalarValue;
use deltalake::datafusion::functions::expr_fn::{coalesce, concat, encode, left, md5, sha256};
use deltalake::datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, cast, ident, lit};
use metaxy_core::hash::RowHasher;
use metaxy_core::plan::sql::HashPart;
use metaxy_core::{HashAlgorithm, Result, executor};

use super::functions::CoreFunction;

/// Returns the hash of texts that consist of parts.
pub(super) fn hash(hasher: RowHasher, parts: Vec<HashPart>) -> Expr {
    let parts = parts.into_iter().map(|part| match part {
        HashPart::Fixed(text) => lit(text),
        HashPart::Version(column) => coalesce(vec![ident(column), lit("")]),
    });
    let parts: Vec<Expr> = parts.collect();
    let kept = lit(i64::try_from(hasher.truncation()).unwrap_or(i64::MAX));
    match hasher.algorithm() {
        HashAlgorithm::Md5 => cast(left(md5(concat(parts)), kept), DataType::Utf8),
        HashAlgorithm::Sha256 => cast(left(encode(sha256(concat(parts)), lit("hex")), kept), DataType::Utf8),
        other => {
            let name = format!("{other}_{}", hasher.truncation());
            CoreFunction::call(name, DataType::Utf8, parts, move |parts| hashes(hasher, parts))
        }
    }
}

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

fn hashes(hasher: RowHasher, arguments: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let parts = arguments.args.iter().map(Part::new).collect::<Result<Vec<_>>>()?;
    let mut builder = StringBuilder::new();
    let mut many = hasher.many(|hash| builder.append_value(hash));
    for row in 0..arguments.number_rows {
        many.push(parts.iter().map(|part| part.text(row)));
    }
    many.finish();
    Ok(Arc::new(builder.finish()))
}
