//! Provenance of expected rows: one hash for each field, and one over all of them.

use arrow::array::{ArrayRef, StringArray, StringBuilder};

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

/// Buffers that are reused from row to row.
#[derive(Default)]
pub(crate) struct Scratch {
    text: String,
    field: String,
    joined: String,
    /// The provenance of the row that was hashed last.
    pub(crate) provenance: String,
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

    /// Hashes a row; calls `each` with the number and hash of every field.
    pub(crate) fn hash_row(&self, row: usize, scratch: &mut Scratch, mut each: impl FnMut(usize, &str)) {
        scratch.joined.clear();
        for (number, field) in self.fields.iter().enumerate() {
            self.field_text(field, row, &mut scratch.text);
            scratch.field.clear();
            self.hasher.hash_into(scratch.text.as_bytes(), &mut scratch.field);
            each(number, &scratch.field);
            scratch.joined.push_str(if number == 0 { "" } else { "|" });
            scratch.joined.push_str(&scratch.field);
        }
        scratch.provenance.clear();
        self.hasher.hash_into(scratch.joined.as_bytes(), &mut scratch.provenance);
    }

    fn field_text(&self, field: &FieldHashing<'_>, row: usize, text: &mut String) {
        text.clear();
        text.push_str(field.prefix);
        for parent in &field.parents {
            text.push_str(&parent.separator);
            let input_row = self.joined.rows[parent.input][row];
            if input_row != NO_ROW {
                text.push_str((parent.versions)(input_row as usize));
            }
        }
    }

    /// Returns the four version columns of some expected rows.
    pub(crate) fn columns(&self, struct_keys: &[String], rows: &[u32]) -> Result<Vec<(String, ArrayRef)>> {
        let mut fields: Vec<StringBuilder> = self.fields.iter().map(|_| StringBuilder::new()).collect();
        let mut provenance = StringBuilder::new();
        let mut scratch = Scratch::default();
        for row in rows {
            self.hash_row(*row as usize, &mut scratch, |field, hash| fields[field].append_value(hash));
            provenance.append_value(&scratch.provenance);
        }
        let values: Vec<StringArray> = fields.iter_mut().map(StringBuilder::finish).collect();
        let by_field = by_field::build(struct_keys, values, rows.len())?;
        let provenance: ArrayRef = std::sync::Arc::new(provenance.finish());
        Ok(vec![
            (columns::PROVENANCE_BY_FIELD.to_owned(), by_field.clone()),
            (columns::PROVENANCE.to_owned(), provenance.clone()),
            (columns::DATA_VERSION_BY_FIELD.to_owned(), by_field),
            (columns::DATA_VERSION.to_owned(), provenance),
        ])
    }
}
