//! Hashes of texts: DataFusion's functions for MD5 and SHA-256, which every executor of its plans has, and those of the
//! core for the other algorithms.

use arrow::datatypes::DataType;
use deltalake::datafusion::functions::expr_fn::{coalesce, concat, encode, left, md5, sha256};
use deltalake::datafusion::logical_expr::{Expr, cast, ident, lit};
use metaxy_core::HashAlgorithm;
use metaxy_core::hash::RowHasher;
use metaxy_core::plan::sql::HashPart;

use super::functions::Function;

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
        _ => Function::Hash(hasher).call(parts),
    }
}
