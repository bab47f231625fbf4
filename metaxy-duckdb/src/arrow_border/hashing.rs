//! The row hashes as SQL functions, which run in this program: DuckDB itself has only two of them, and would download
//! an extension for the others.

use duckdb::core::{DataChunkHandle, LogicalTypeHandle, LogicalTypeId};
use duckdb::vscalar::{ScalarFunctionSignature, VScalar};
use duckdb::vtab::arrow::WritableVector;
use metaxy_core::hash::RowHasher;

use super::texts::{NewTexts, Texts};

/// Returns the name of the function that hashes like `hasher`. It hashes the concatenation of any number of texts; with
/// a null among them, the result is null, as always in SQL.
pub(crate) fn name(hasher: RowHasher) -> String {
    format!("metaxy_{}_{}", hasher.algorithm(), hasher.truncation())
}

/// The SQL function.
pub(crate) struct Hash;

impl VScalar for Hash {
    type State = RowHasher;

    fn invoke(
        hasher: &RowHasher,
        input: &mut DataChunkHandle,
        output: &mut dyn WritableVector,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let parts: Vec<Texts<'_>> = (0..input.num_columns()).map(|column| Texts::new(input, column)).collect();
        let mut output = NewTexts::new(output.flat_vector());
        let mut position = 0;
        let mut hashes = hasher.many(|hash| {
            output.set(position, hash);
            position += 1;
        });
        for row in 0..input.len() {
            hashes.push(parts.iter().map(|part| part.get(row)));
        }
        hashes.finish();
        Ok(())
    }

    fn signatures() -> Vec<ScalarFunctionSignature> {
        let text = || LogicalTypeHandle::from(LogicalTypeId::Varchar);
        vec![ScalarFunctionSignature::variadic(text(), text())]
    }
}
