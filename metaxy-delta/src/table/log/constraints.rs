//! Conditions that a table sets for its rows: check constraints, and invariants of columns.
//!
//! They are SQL. Conditions in the language of filters are checked; tables with any other condition are not written to.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::Schema;
use deltalake::kernel::MetadataValue;
use metaxy_core::error::{Error, Result};
use metaxy_core::filter::{Filter, Predicate};
use metaxy_core::{FeatureKey, schema};

use crate::types::TableSchema;

use super::protocol::{OTHER_PROGRAM, refused};
use super::state::TableState;

const CONSTRAINT: &str = "delta.constraints.";
const INVARIANTS: &str = "delta.invariants";

/// A condition for every row.
pub(crate) struct Constraint {
    name: String,
    text: String,
    condition: Predicate,
}

impl Constraint {
    /// Returns the conditions of a table.
    pub fn all(table: &str, state: &TableState) -> Result<Vec<Self>> {
        let settings = state.metadata.configuration().iter();
        let checks = settings.filter_map(|(key, text)| Some((key.strip_prefix(CONSTRAINT)?.to_owned(), text.clone())));
        let invariants = state.schema.delta.fields().filter_map(|field| match field.metadata.get(INVARIANTS)? {
            MetadataValue::String(text) => Some((field.name().clone(), invariant(text))),
            other => Some((field.name().clone(), other.to_string())),
        });
        checks.chain(invariants).map(|(name, text)| Self::new(table, state, name, text)).collect()
    }

    fn new(table: &str, state: &TableState, name: String, text: String) -> Result<Self> {
        let filter = text.parse::<Filter>().and_then(|filter| filter.bind(&state.schema.logical));
        match filter {
            Ok(condition) => Ok(Self { name, text, condition }),
            Err(error) => {
                let what = format!("writing under the constraint `{name}` ({text}), which cannot be parsed: {error}");
                Err(refused(table, what, OTHER_PROGRAM))
            }
        }
    }

    /// Checks that the condition is true for all rows.
    pub fn check(&self, table: &FeatureKey, schema: &TableSchema, rows: &RecordBatch) -> Result<()> {
        let fulfilled = self.condition.evaluate(&self.operands(table, schema, rows)?)?;
        let is_true = |row: usize| fulfilled.is_valid(row) && fulfilled.value(row);
        match (0..rows.num_rows()).find(|row| !is_true(*row)) {
            None => Ok(()),
            Some(row) => Err(Error::InvalidValue {
                table: table.table_name(),
                column: self.condition.columns().into_iter().collect::<Vec<_>>().join("`, `"),
                row,
                reason: format!("the table's constraint `{}` ({}) is not satisfied", self.name, self.text),
            }),
        }
    }

    /// Returns the columns in the condition, with their types in the table.
    fn operands(&self, table: &FeatureKey, schema: &TableSchema, rows: &RecordBatch) -> Result<RecordBatch> {
        let names = self.condition.columns();
        let columns: Vec<_> = names.iter().filter_map(|name| schema.column(name)).collect();
        let fields: Vec<_> = columns.iter().map(|column| column.logical.clone()).collect();
        let values = columns.iter().map(|column| match rows.column_by_name(column.logical.name()) {
            Some(given) => schema::convert(table, column.logical.name(), given, column.logical.data_type()),
            None => Ok(new_null_array(column.logical.data_type(), rows.num_rows())),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let values = values.collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), values, &options)?)
    }
}

/// Returns the expression of an invariant, which is in JSON: `{"expression": {"expression": "x > 3"}}`.
fn invariant(text: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let found = json.as_ref().and_then(|json| json["expression"]["expression"].as_str());
    found.unwrap_or(text).to_owned()
}
