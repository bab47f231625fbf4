//! The two forms of a query: with functions and readers of this crate, or with what DataFusion has alone.
//!
//! Queries are built once, by calls of these methods. What executors of plain Ballista could compute otherwise than the
//! Arrow engine has no stock form.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use deltalake::datafusion::datasource::provider_as_source;
use deltalake::datafusion::logical_expr::{Expr, LogicalPlanBuilder, SortExpr};
use metaxy_core::filter::Predicate;
use metaxy_core::hash::RowHasher;
use metaxy_core::plan::sql::HashPart;

use super::names::OrderColumns;
use super::rows::{Failure, LiveRows};
#[cfg(feature = "ballista")]
use super::stock_scan::PlainTables;
use super::{Declined, Part, functions, group_hash, hash, latest};
#[cfg(feature = "ballista")]
use super::{stock, stock_condition};

/// How a query is written.
#[derive(Clone)]
pub(super) enum Forms {
    /// With functions and readers of this crate. The readers keep their first error here.
    Ours(Failure),
    /// With what executors of plain Ballista know, on these tables.
    #[cfg(feature = "ballista")]
    Stock(Arc<PlainTables>),
}

impl Forms {
    /// Returns the rows of a table for which a predicate is true, with some columns under their names inside of queries.
    pub(super) fn scan(
        &self,
        part: &Arc<Part>,
        names: &[String],
        filter: Option<&Predicate>,
    ) -> Result<LogicalPlanBuilder, Declined> {
        match self {
            Self::Ours(failure) => {
                let rows = LiveRows::new(part, names, filter.cloned(), failure);
                Ok(LogicalPlanBuilder::scan("rows", provider_as_source(Arc::new(rows)), None)?)
            }
            #[cfg(feature = "ballista")]
            Self::Stock(tables) => tables.scan(part, names, filter),
        }
    }

    /// Returns the value of a predicate; `columns` are its columns, with their names in the table.
    pub(super) fn condition(&self, predicate: &Predicate, columns: Vec<(Field, Expr)>) -> Result<Expr, Declined> {
        match self {
            Self::Ours(_) => Ok(functions::condition(predicate, columns)),
            #[cfg(feature = "ballista")]
            Self::Stock(_) => stock_condition::condition(predicate, &columns),
        }
    }

    /// Returns the values of a key column in the form in which a key type compares them.
    pub(super) fn key(&self, column: Expr, data_type: &DataType, key_type: &DataType) -> Result<Expr, Declined> {
        match self {
            Self::Ours(_) => Ok(functions::key(column, data_type, key_type)),
            #[cfg(feature = "ballista")]
            Self::Stock(_) => stock::key(column, data_type, key_type),
        }
    }

    /// Returns what sorts rows by some columns.
    pub(super) fn order(&self, columns: OrderColumns) -> Result<Vec<SortExpr>, Declined> {
        match self {
            Self::Ours(_) => Ok(vec![functions::sort_key(columns).sort(true, true)]),
            #[cfg(feature = "ballista")]
            Self::Stock(_) => stock::order(columns),
        }
    }

    /// Returns the row of each key that is the last in an order, which has all `columns` of the query.
    pub(super) fn latest(
        &self,
        query: LogicalPlanBuilder,
        keys: Vec<Expr>,
        order: OrderColumns,
        columns: &[String],
    ) -> Result<LogicalPlanBuilder, Declined> {
        match self {
            Self::Ours(_) => latest::latest(query, keys, order, columns),
            #[cfg(feature = "ballista")]
            Self::Stock(_) => stock::latest(query, keys, order, columns),
        }
    }

    /// Returns the data versions of a field from a by-field column and its type.
    pub(super) fn version(&self, by_field: (Expr, &DataType), field: &str) -> Result<Expr, Declined> {
        match self {
            Self::Ours(_) => Ok(functions::member(by_field.0, field)),
            #[cfg(feature = "ballista")]
            Self::Stock(_) => stock::version(by_field.0, by_field.1, field),
        }
    }

    /// Returns the texts of a column.
    pub(super) fn text(&self, column: Expr, data_type: &DataType) -> Result<Expr, Declined> {
        match self {
            Self::Ours(_) => Ok(functions::text(column, data_type)),
            #[cfg(feature = "ballista")]
            Self::Stock(_) => stock::text(column, data_type),
        }
    }

    /// Returns the hash of texts that consist of parts.
    pub(super) fn hash(&self, hasher: RowHasher, parts: Vec<HashPart>) -> Result<Expr, Declined> {
        match self {
            Self::Ours(_) => Ok(hash::hash(hasher, parts)),
            #[cfg(feature = "ballista")]
            Self::Stock(_) => stock::hash(hasher, parts),
        }
    }

    /// Returns a row for each key, with the hashes of the data versions of its rows, joined by `|` in an order; a null
    /// counts as the empty text. `versions` are the columns of data versions with the names of their hashes.
    pub(super) fn group_hashes(
        &self,
        query: LogicalPlanBuilder,
        keys: Vec<Expr>,
        hasher: RowHasher,
        order: OrderColumns,
        versions: Vec<(Expr, String)>,
    ) -> Result<LogicalPlanBuilder, Declined> {
        match self {
            Self::Ours(_) => group_hash::group_hashes(query, keys, hasher, order, versions),
            #[cfg(feature = "ballista")]
            Self::Stock(_) => stock::group_hashes(query, keys, hasher, order, versions),
        }
    }
}
