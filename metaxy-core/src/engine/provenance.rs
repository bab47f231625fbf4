//! Provenance of expected rows: one hash for each field, and one over all of them.

use arrow::array::{ArrayRef, StringArray};

use crate::columns;
use crate::error::Result;
use crate::hash::RowHasher;
use crate::plan::ProvenanceRecipe;

use super::by_field;
use super::input::Input;
use super::join::Joined;
use super::table::NO_ROW;

/// The source of the texts that are hashed for a row.
pub(crate) struct Hashing<'a> {
    hasher: RowHasher,
    fields: Vec<FieldHashing<'a>>,
    joined: &'a Joined,
}

struct FieldHashing<'a> {
    prefix: &'a str,
    parents: Vec<ParentVersions<'a>>,
}

struct ParentVersions<'a> {
    /// `|feature.field|`.
    separator: String,
    input: usize,
    versions: Box<dyn Fn(usize) -> &'a str + Send + Sync + 'a>,
}

/// The hashes of some rows.
struct Hashes {
    fields: Vec<StringArray>,
    provenance: StringArray,
}

impl<'a> Hashing<'a> {
    pub(crate) fn new(recipe: &'a ProvenanceRecipe, inputs: &'a [Input], joined: &'a Joined) -> Self {
        let fields = recipe
            .fields
            .iter()
            .map(|field| FieldHashing {
                prefix: &field.prefix,
                parents: field
                    .parents
                    .iter()
                    .map(|parent| ParentVersions {
                        separator: format!("|{}|", parent.name),
                        input: parent.input,
                        versions: Box::new(inputs[parent.input].versions(&parent.struct_key)),
                    })
                    .collect(),
            })
            .collect();
        Self { hasher: recipe.hasher, fields, joined }
    }

    /// Hashes some rows, field by field: a hasher of many texts takes several at once.
    fn hashes(&self, rows: &[u32]) -> Result<Hashes> {
        let of_field = |field| {
            by_field::hashed(0..rows.len(), self.hasher, |at, text| self.write_field(field, rows[at] as usize, text))
        };
        let fields: Vec<StringArray> = self.fields.iter().map(of_field).collect();
        let provenance = by_field::combined_hash(&fields, rows.len(), self.hasher)?;
        Ok(Hashes { fields, provenance })
    }

    /// Appends the text that is hashed for a field of a row.
    fn write_field(&self, field: &FieldHashing<'_>, row: usize, text: &mut Vec<u8>) {
        text.extend_from_slice(field.prefix.as_bytes());
        for parent in &field.parents {
            text.extend_from_slice(parent.separator.as_bytes());
            let input_row = self.joined.rows[parent.input][row];
            if input_row != NO_ROW {
                text.extend_from_slice((parent.versions)(input_row as usize).as_bytes());
            }
        }
    }

    /// Returns the provenance of some expected rows.
    pub(crate) fn provenance(&self, rows: &[u32]) -> Result<StringArray> {
        Ok(self.hashes(rows)?.provenance)
    }

    /// Returns the four version columns of some expected rows.
    pub(crate) fn columns(&self, struct_keys: &[String], rows: &[u32]) -> Result<Vec<(String, ArrayRef)>> {
        let Hashes { fields, provenance } = self.hashes(rows)?;
        let by_field = by_field::build(struct_keys, fields, rows.len())?;
        let provenance: ArrayRef = std::sync::Arc::new(provenance);
        Ok(vec![
            (columns::PROVENANCE_BY_FIELD.to_owned(), by_field.clone()),
            (columns::PROVENANCE.to_owned(), provenance.clone()),
            (columns::DATA_VERSION_BY_FIELD.to_owned(), by_field),
            (columns::DATA_VERSION.to_owned(), provenance),
        ])
    }
}
