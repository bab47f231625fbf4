//! The parts of a plan in SQL that are the same in every dialect, for backends that run plans themselves.
//!
//! A backend writes a `SELECT` for each input: its keys ([`key_name`]), the columns of the increment ([`column_name`])
//! and the data versions of its fields ([`version_name`]). [`JoinedInputs`] joins them, [`hash_parts`] lists what is
//! hashed, and [`NativeIncrement::push`] sorts the rows of the result by their [`RowKind`].

use arrow::array::{Array, ArrayRef, BooleanArray, Int16Array, RecordBatch, StructArray};
use arrow::compute::filter_record_batch;

use super::{FieldRecipe, IncrementPlan, InputPlan, NativeIncrement, ProvenanceRecipe, RowKind};
use crate::columns;
use crate::error::Result;

/// Returns the name of join column number `index` in the `SELECT` of an input.
pub fn key_name(input: usize, index: usize) -> String {
    format!("i{input}_k{index}")
}

/// Returns the name of column number `index` of an input in its `SELECT`.
pub fn column_name(input: usize, index: usize) -> String {
    format!("i{input}_c{index}")
}

/// Returns the name of the data version of field number `index` of an input in its `SELECT`.
pub fn version_name(input: usize, index: usize) -> String {
    format!("i{input}_d{index}")
}

/// The joined inputs of a plan: required ones by inner joins, optional ones by left joins; all by full joins if none is
/// required.
pub struct JoinedInputs<'a> {
    plan: &'a IncrementPlan,
    all_optional: bool,
}

impl<'a> JoinedInputs<'a> {
    /// Joins the inputs of `plan`; the error says why there is nothing to join.
    pub fn new(plan: &'a IncrementPlan) -> Result<Self, String> {
        match plan.inputs.is_empty() {
            true => Err("a root has no inputs in the store".to_owned()),
            false => Ok(Self { plan, all_optional: plan.inputs.iter().all(|input| input.optional) }),
        }
    }

    /// Returns the text after `FROM`, from one `SELECT` for each input.
    pub fn from(&self, selects: &[String]) -> String {
        let mut from = String::new();
        for (number, (select, input)) in selects.iter().zip(&self.plan.inputs).enumerate() {
            let select = format!("({select}) AS i{number}");
            if number == 0 {
                from = select;
                continue;
            }
            let kind = match input.optional {
                _ if self.all_optional => "FULL JOIN",
                true => "LEFT JOIN",
                false => "JOIN",
            };
            let on: Vec<String> = (0..self.plan.join_columns.len())
                .map(|index| format!("{} = {}", self.key_of_first(number, index), key_name(number, index)))
                .collect();
            from = format!("{from} {kind} {select} ON {}", on.join(" AND "));
        }
        from
    }

    /// Returns join column number `index`.
    pub fn key(&self, index: usize) -> String {
        self.key_of_first(self.plan.inputs.len(), index)
    }

    /// Returns a join column of the first inputs.
    fn key_of_first(&self, inputs: usize, index: usize) -> String {
        if !self.all_optional || inputs == 1 {
            return key_name(0, index);
        }
        let keys: Vec<String> = (0..inputs).map(|number| key_name(number, index)).collect();
        format!("coalesce({})", keys.join(", "))
    }

    /// Returns a column of the increment, with this type in SQL; `first` is the number of the first input that has it.
    /// A join column comes from the first input that has a row.
    pub fn column(&self, first: usize, name: &str, sql_type: &str) -> String {
        let place = |number: usize| {
            let columns = self.plan.inputs.get(number).map(|input| input.columns.as_slice()).unwrap_or_default();
            columns.iter().position(|column| column.name == name).map(|index| column_name(number, index))
        };
        let own = place(first).unwrap_or_default();
        if !self.all_optional || !self.plan.join_columns.iter().any(|column| column == name) {
            return own;
        }
        let others = (first + 1..self.plan.inputs.len()).filter_map(place);
        let others: Vec<String> = others.map(|other| format!(", {other}::{sql_type}")).collect();
        if others.is_empty() { own } else { format!("coalesce({own}{})", others.concat()) }
    }
}

/// A part of the text that is hashed for a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashPart {
    /// The same text in every row.
    Fixed(String),
    /// A data version, by its [`version_name`]; null counts as the empty text.
    Version(String),
}

/// Returns the parts of the text that is hashed for a field. The inner error says why SQL cannot express it.
pub fn hash_parts(plan: &IncrementPlan, field: &FieldRecipe) -> Result<Vec<HashPart>, String> {
    let mut parts = Vec::new();
    let mut fixed = field.prefix.clone();
    for parent in &field.parents {
        fixed.push_str(&format!("|{}|", parent.name));
        let input = plan.inputs.get(parent.input).ok_or("a parent has no input")?;
        let index = input.fields.iter().position(|key| *key == parent.struct_key).ok_or("a parent has no field")?;
        parts.push(HashPart::Fixed(std::mem::take(&mut fixed)));
        parts.push(HashPart::Version(version_name(parent.input, index)));
    }
    if !fixed.is_empty() {
        parts.push(HashPart::Fixed(fixed));
    }
    let has_nul = |part: &HashPart| matches!(part, HashPart::Fixed(text) if text.contains('\0'));
    if parts.iter().any(has_nul) { Err("a code version holds a NUL character".to_owned()) } else { Ok(parts) }
}

impl InputPlan {
    /// Returns the name that a column of the increment has in the upstream table.
    pub fn source_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.columns.iter().find(|column| column.name == name).map_or(name, |column| &column.source)
    }
}

impl RowKind {
    /// Returns the kind as an SQL literal, a `SMALLINT`.
    pub fn sql(self) -> String {
        format!("{}::SMALLINT", self as i16)
    }

    /// Returns which rows are of this kind.
    pub fn mask(self, kinds: &Int16Array) -> BooleanArray {
        kinds.iter().map(|kind| Some(kind == Some(self as i16))).collect()
    }
}

impl NativeIncrement {
    /// Adds the rows of one kind; `kinds` has the kind of each row.
    ///
    /// # Errors
    /// [`Error::Arrow`](crate::Error::Arrow) if the lengths differ.
    pub fn push(&mut self, kind: RowKind, kinds: &Int16Array, rows: &RecordBatch) -> Result<()> {
        let batches = match kind {
            RowKind::New => &mut self.new,
            RowKind::Stale => &mut self.stale,
            RowKind::Orphaned => &mut self.orphaned,
        };
        let wanted = kind.mask(kinds);
        match wanted.true_count() {
            0 => {}
            all if all == rows.num_rows() => batches.push(rows.clone()),
            _ => batches.push(filter_record_batch(rows, &wanted)?),
        }
        Ok(())
    }
}

impl ProvenanceRecipe {
    /// Returns the four version columns of expected rows, from the hash of each field and, last, the hash over all of them.
    ///
    /// # Errors
    /// [`Error::Arrow`](crate::Error::Arrow) if `hashes` is not one array of texts for each field and one more.
    pub fn version_columns(&self, hashes: &[ArrayRef]) -> Result<Vec<(String, ArrayRef)>> {
        let Some((provenance, fields)) = hashes.split_last() else { return Ok(Vec::new()) };
        let members = columns::by_field_fields(self.fields.iter().map(|field| &field.struct_key));
        let by_field = StructArray::try_new_with_length(members, fields.to_vec(), None, provenance.len())?;
        let by_field: ArrayRef = std::sync::Arc::new(by_field);
        Ok(vec![
            (columns::PROVENANCE_BY_FIELD.to_owned(), by_field.clone()),
            (columns::PROVENANCE.to_owned(), provenance.clone()),
            (columns::DATA_VERSION_BY_FIELD.to_owned(), by_field),
            (columns::DATA_VERSION.to_owned(), provenance.clone()),
        ])
    }
}
