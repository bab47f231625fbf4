//! The rows of a scan as a query: row filter, keep-latest, filter.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use deltalake::datafusion::common::ScalarValue;
use deltalake::datafusion::datasource::provider_as_source;
use deltalake::datafusion::functions::expr_fn::coalesce;
use deltalake::datafusion::functions_aggregate::expr_fn::max;
use deltalake::datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, ident, lit};
use metaxy_core::filter::Predicate;
use metaxy_core::{ScanRequest, ScanStage, columns, executor};

use super::functions::{condition, has_sort_key, key, member, sort_key, sorted_column, sorted_columns, text};
use super::rows::{Failure, LiveRows, column_name};
use super::{Declined, Part};

/// The names of columns for a moment: no others begin with this letter.
const NEWEST: &str = "newest";
const NEWEST_ROW: &str = "newest_row";

/// The rows of a table that a request selects, with its columns under their names inside of the query.
#[derive(Clone)]
pub(super) struct Relation {
    pub(super) query: LogicalPlanBuilder,
    /// The columns, by their names in the table.
    fields: Vec<FieldRef>,
    table: String,
}

impl Relation {
    /// Returns the rows of a scan.
    pub(super) fn new(part: &Arc<Part>, request: &ScanRequest, failure: &Failure) -> Result<Self, Declined> {
        let scanned = Self::scan(part, request, failure)?;
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

    fn scan(part: &Arc<Part>, request: &ScanRequest, failure: &Failure) -> Result<Self, Declined> {
        let schema = &part.state.schema;
        let names = request.columns_needed(&schema.logical, ScanStage::RowFilter);
        let rows = LiveRows::new(part, &names, request.row_filter.clone(), failure);
        let fields = names.iter().filter_map(|name| schema.column(name)).map(|column| column.logical.clone()).collect();
        let query = LogicalPlanBuilder::scan("rows", provider_as_source(Arc::new(rows)), None)?;
        Ok(Self { query, fields, table: part.key.to_string() })
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
        Ok(key(column, data_type, key_type))
    }

    /// Returns a key column in a form in which it is compared with itself.
    pub(super) fn own_key(&self, name: &str) -> Result<Expr, Declined> {
        let (column, data_type) = self.column(name)?;
        let key_type = executor::common_type(data_type, data_type);
        let key_type = key_type.ok_or_else(|| {
            Declined(format!("rows of `{}` are matched by `{name}`, which is {data_type}", self.table))
        })?;
        Ok(key(column, data_type, &key_type))
    }

    /// Returns the order of rows by some columns.
    pub(super) fn sort_key(&self, names: &[String]) -> Result<Vec<(DataType, Expr)>, Declined> {
        let column = |name: &String| self.column(name).map(|(column, data_type)| (data_type.clone(), column));
        names.iter().map(column).collect()
    }

    /// Returns the data versions of a field.
    pub(super) fn version(&self, field: &str) -> Expr {
        match self.find(columns::DATA_VERSION_BY_FIELD) {
            Some((by_field, _)) => member(by_field, field),
            None => cast(lit(""), DataType::Utf8),
        }
    }

    /// Returns the texts of a column.
    pub(super) fn text(&self, name: &str) -> Result<Expr, Declined> {
        let (column, data_type) = self.column(name)?;
        Ok(text(column, data_type))
    }

    /// Returns the value of a predicate.
    pub(super) fn condition(&self, predicate: &Predicate) -> Result<Expr, Declined> {
        let column = |name: String| {
            let (column, data_type) = self.column(&name)?;
            Ok((Field::new(name, data_type.clone(), true), column))
        };
        Ok(condition(predicate, predicate.columns().into_iter().map(column).collect::<Result<_, Declined>>()?))
    }

    /// Keeps the row of each key that was written or deleted last; of several with one time that with the greatest
    /// values, as the core does. It is the greatest of the rows as bytes: DataFusion's windows are slow if there are many.
    pub(super) fn latest_of(&self, ids: &[String]) -> Result<Self, Declined> {
        let keys = ids.iter().map(|id| self.own_key(id)).collect::<Result<Vec<_>, _>>()?;
        let order = self.newest_order();
        let columns =
            order.iter().map(|number| (self.fields[*number].data_type().clone(), ident(column_name(*number))));
        let columns: Vec<_> = std::iter::once((MICROS, self.last_touched())).chain(columns).collect();
        let types: Vec<DataType> = columns.iter().map(|(data_type, _)| data_type.clone()).collect();
        if let Some(unknown) = types.iter().find(|data_type| !has_sort_key(data_type)) {
            return Err(Declined(format!("rows of `{}` with {unknown} have no order in DataFusion", self.table)));
        }
        let newest = max(sort_key(columns)).alias(NEWEST);
        let group_keys = keys.iter().enumerate().map(|(number, key)| match key {
            // It stays under its name, so that DataFusion knows how the rows are divided.
            Expr::Column(_) => key.clone(),
            computed => computed.clone().alias(format!("{NEWEST}{number}")),
        });
        let groups = self.query.clone().aggregate(group_keys.collect::<Vec<_>>(), [newest])?;
        // Without keys there is a group also of no rows.
        let groups = groups.filter(ident(NEWEST).is_not_null())?;
        let plain: Vec<Expr> = keys.into_iter().filter(|key| matches!(key, Expr::Column(_))).collect();
        let read = sorted_columns(types, ident(NEWEST)).alias(NEWEST_ROW);
        let rows = groups.project(plain.iter().cloned().chain([read]).collect::<Vec<_>>())?;
        let columns = (0..self.fields.len()).map(|number| {
            let column = ident(column_name(number));
            let place = order.iter().position(|other| *other == number).map_or(0, |place| place + 1);
            match plain.contains(&column) {
                true => column,
                false => sorted_column(ident(NEWEST_ROW), place).alias(column_name(number)),
            }
        });
        let query = rows.project(columns.collect::<Vec<_>>())?;
        Ok(Self { query, fields: self.fields.clone(), table: self.table.clone() })
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
