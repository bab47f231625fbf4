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
    let parts = texts(parts);
    stock_hash(hasher, &parts).unwrap_or_else(|| Function::Hash(hasher).call(parts))
}

/// Returns the parts of a text.
pub(super) fn texts(parts: Vec<HashPart>) -> Vec<Expr> {
    let text = |part| match part {
        HashPart::Fixed(text) => lit(text),
        HashPart::Version(column) => coalesce(vec![ident(column), lit("")]),
    };
    parts.into_iter().map(text).collect()
}

/// Returns the hash of texts that consist of parts, if DataFusion has a function for it.
pub(super) fn stock_hash(hasher: RowHasher, parts: &[Expr]) -> Option<Expr> {
    let text = concat(parts.to_vec());
    let digits = match hasher.algorithm() {
        HashAlgorithm::Md5 => md5(text),
        HashAlgorithm::Sha256 => encode(sha256(text), lit("hex")),
        _ => return None,
    };
    let kept = lit(i64::try_from(hasher.truncation()).unwrap_or(i64::MAX));
    Some(cast(left(digits, kept), DataType::Utf8))
}
