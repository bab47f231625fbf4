//! The rows of a scan as a query: row filter, keep-latest, filter.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use deltalake::datafusion::common::ScalarValue;
use deltalake::datafusion::datasource::provider_as_source;
use deltalake::datafusion::functions::expr_fn::coalesce;
use deltalake::datafusion::functions_window::expr_fn::row_number;
use deltalake::datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlanBuilder, SortExpr, cast, ident, lit};
use metaxy_core::filter::Predicate;
use metaxy_core::{ScanRequest, ScanStage, columns, executor};

use super::functions::{condition, key, member, text};
use super::rows::{Failure, LiveRows, column_name};
use super::{Declined, Part};

/// The names of columns for a moment: no others begin with this letter.
const RANK: &str = "rank";
const RANKED: &str = "ranked";

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
    /// values, as the core does.
    pub(super) fn latest_of(&self, ids: &[String]) -> Result<Self, Declined> {
        let columns = (0..self.fields.len()).map(|number| ident(column_name(number)));
        let keys = ids.iter().map(|id| self.own_key(id)).collect::<Result<Vec<_>, _>>()?;
        // Rows are divided among processes by plain columns. A second name of a column would hide its order.
        let (mut partitions, mut computed) = (Vec::new(), Vec::new());
        for (number, key) in keys.into_iter().enumerate() {
            if matches!(key, Expr::Column(_)) {
                partitions.push(key);
            } else {
                let name = format!("{RANKED}{number}");
                partitions.push(ident(&name));
                computed.push(key.alias(name));
            }
        }
        let with_keys = match computed.is_empty() {
            true => self.query.clone(),
            false => self.query.clone().project(columns.clone().chain(computed).collect::<Vec<_>>())?,
        };
        let rank = row_number().partition_by(partitions).order_by(self.newest_first()).build()?;
        let ranked = with_keys.window([rank.alias(RANK)])?;
        let query = ranked.filter(ident(RANK).eq(lit(1_u64)))?.project(columns)?;
        Ok(Self { query, fields: self.fields.clone(), table: self.table.clone() })
    }

    fn newest_first(&self) -> Vec<SortExpr> {
        let others =
            self.fields.iter().map(|field| field.name().as_str()).filter(|name| !columns::VERSION_ORDER.contains(name));
        let values = columns::VERSION_ORDER.into_iter().chain(others).filter_map(|name| self.find(name));
        let values = values.map(|(column, _)| column.sort(false, false));
        std::iter::once(self.last_touched().sort(false, false)).chain(values).collect()
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
