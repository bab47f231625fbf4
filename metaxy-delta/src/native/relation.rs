//! The rows of a scan as a query: row filter, keep-latest, filter.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use deltalake::datafusion::common::ScalarValue;
use deltalake::datafusion::functions::expr_fn::coalesce;
use deltalake::datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, ident, lit};
use metaxy_core::filter::Predicate;
use metaxy_core::{ScanRequest, ScanStage, columns, executor};

use super::forms::Forms;
use super::names::OrderColumns;
use super::rows::column_name;
use super::{Declined, Part};

/// The rows of a table that a request selects, with its columns under their names inside of the query.
#[derive(Clone)]
pub(super) struct Relation {
    pub(super) query: LogicalPlanBuilder,
    /// The columns, by their names in the table.
    fields: Vec<FieldRef>,
    table: String,
    forms: Forms,
}

impl Relation {
    /// Returns the rows of a scan.
    pub(super) fn new(part: &Arc<Part>, request: &ScanRequest, forms: &Forms) -> Result<Self, Declined> {
        let scanned = Self::scan(part, request, forms)?;
        let latest = match &request.keep_latest {
            Some(ids) => scanned.latest_of(ids)?,
            None => scanned,
        };
        match &request.filter {
            Some(filter) => {
                let condition = latest.condition(filter)?;
                Ok(Self { query: latest.query.filter(condition)?, ..latest })
            }
            None => Ok(latest),
        }
    }

    fn scan(part: &Arc<Part>, request: &ScanRequest, forms: &Forms) -> Result<Self, Declined> {
        let schema = &part.state.schema;
        let names = request.columns_needed(&schema.logical, ScanStage::RowFilter);
        let fields = names.iter().filter_map(|name| schema.column(name)).map(|column| column.logical.clone()).collect();
        let query = forms.scan(part, &names, request.row_filter.as_ref())?;
        Ok(Self { query, fields, table: part.key.to_string(), forms: forms.clone() })
    }

    /// Returns a column of the table, with its type.
    pub(super) fn column(&self, name: &str) -> Result<(Expr, &DataType), Declined> {
        self.find(name).ok_or_else(|| Declined(format!("`{}` has no column `{name}`", self.table)))
    }

    fn find(&self, name: &str) -> Option<(Expr, &DataType)> {
        let number = self.fields.iter().position(|field| field.name() == name)?;
        Some((ident(column_name(number)), self.fields[number].data_type()))
    }

    /// Returns all columns, by their names in the table.
    pub(super) fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// Returns a key column in the form in which this type compares it.
    pub(super) fn key(&self, name: &str, key_type: &DataType) -> Result<Expr, Declined> {
        let (column, data_type) = self.column(name)?;
        self.forms.key(column, data_type, key_type)
    }

    /// Returns a key column in a form in which it is compared with itself.
    pub(super) fn own_key(&self, name: &str) -> Result<Expr, Declined> {
        let (column, data_type) = self.column(name)?;
        let key_type = executor::common_type(data_type, data_type);
        let key_type = key_type.ok_or_else(|| {
            Declined(format!("rows of `{}` are matched by `{name}`, which is {data_type}", self.table))
        })?;
        self.forms.key(column, data_type, &key_type)
    }

    /// Returns the columns of an order.
    pub(super) fn order(&self, names: &[String]) -> Result<OrderColumns, Declined> {
        let column = |name: &String| self.column(name).map(|(column, data_type)| (data_type.clone(), column));
        names.iter().map(column).collect()
    }

    /// Returns the data versions of a field.
    pub(super) fn version(&self, field: &str) -> Result<Expr, Declined> {
        match self.find(columns::DATA_VERSION_BY_FIELD) {
            Some(by_field) => self.forms.version(by_field, field),
            None => Ok(cast(lit(""), DataType::Utf8)),
        }
    }

    /// Returns the texts of a column.
    pub(super) fn text(&self, name: &str) -> Result<Expr, Declined> {
        let (column, data_type) = self.column(name)?;
        self.forms.text(column, data_type)
    }

    /// Returns the value of a predicate.
    pub(super) fn condition(&self, predicate: &Predicate) -> Result<Expr, Declined> {
        let column = |name: String| {
            let (column, data_type) = self.column(&name)?;
            Ok((Field::new(name, data_type.clone(), true), column))
        };
        let columns = predicate.columns().into_iter().map(column).collect::<Result<_, Declined>>()?;
        self.forms.condition(predicate, columns)
    }

    /// Keeps the row of each key that was written or deleted last; of several with one time that with the greatest
    /// values, as the core does.
    pub(super) fn latest_of(&self, ids: &[String]) -> Result<Self, Declined> {
        let keys = ids.iter().map(|id| self.own_key(id)).collect::<Result<Vec<_>, _>>()?;
        let column = |number: usize| (self.fields[number].data_type().clone(), ident(column_name(number)));
        let values = self.newest_order().into_iter().map(column);
        let order = std::iter::once((MICROS, self.last_touched())).chain(values).collect();
        let columns: Vec<String> = (0..self.fields.len()).map(column_name).collect();
        let query = self.forms.latest(self.query.clone(), keys, order, &columns)?;
        Ok(Self { query, ..self.clone() })
    }

    /// Returns the numbers of all columns, in the order in which they decide between rows of one time.
    fn newest_order(&self) -> Vec<usize> {
        let place = |number: &usize| {
            let name = self.fields[*number].name();
            columns::VERSION_ORDER.iter().position(|version| version == name).unwrap_or(columns::VERSION_ORDER.len())
        };
        let mut numbers: Vec<usize> = (0..self.fields.len()).collect();
        numbers.sort_by_key(place);
        numbers
    }

    /// Returns when a row was deleted or else written; null if it has no time.
    fn last_touched(&self) -> Expr {
        let times = [columns::DELETED_AT, columns::UPDATED_AT].map(|name| self.time(name));
        coalesce(times.into_iter().flatten().chain([lit(ScalarValue::TimestampMicrosecond(None, None))]).collect())
    }

    /// Returns a column of times.
    pub(super) fn time(&self, name: &str) -> Option<Expr> {
        self.find(name).map(|(column, _)| cast(column, MICROS))
    }
}

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
