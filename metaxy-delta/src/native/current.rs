//! The current rows of the feature as queries: what is compared of them, and those that are orphaned.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use deltalake::datafusion::common::{JoinType, NullEquality, ScalarValue};
use deltalake::datafusion::datasource::{MemTable, provider_as_source};
use deltalake::datafusion::functions_aggregate::expr_fn::{bool_or, max, min};
use deltalake::datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident, lit, when};
use metaxy_core::plan::CurrentPlan;
use metaxy_core::{Result, ScanRequest, columns};

use super::forms::Forms;
use super::names::{all_of, batch_of, columns_of, key_names};
use super::relation::Relation;
use super::{Declined, Part};

/// The current rows of the feature.
pub(super) struct CurrentRows {
    pub(super) plan: CurrentPlan,
    pub(super) part: Arc<Part>,
    /// The join columns, and the types in which they are compared.
    pub(super) keys: Vec<(String, DataType)>,
    /// How orphaned rows are read.
    pub(super) forms: Forms,
}

impl CurrentRows {
    /// Returns a row for each key (`q0`, …): the least and the greatest provenance of its rows (`low`, `high`), whether one
    /// of them is stale whatever its provenance (`forced`), and `here`.
    pub(super) fn compared(&self, forms: &Forms) -> Result<LogicalPlanBuilder, Declined> {
        let mut relation = Relation::new(&self.part, &self.plan.request, forms)?;
        if self.plan.collapse {
            relation = relation.latest_of(&self.names())?;
        }
        let provenance = relation.text(columns::PROVENANCE)?;
        let forced = match &self.plan.staleness {
            Some(predicate) => relation.condition(predicate)?,
            None => lit(false),
        };
        let query = match self.has_unique_keys() {
            true => self.single(relation, provenance, forced)?,
            false => self.grouped(relation, provenance, forced)?,
        };
        let outputs = all_of(&query).chain([lit(true).alias("here")]).collect::<Vec<_>>();
        Ok(query.project(outputs)?)
    }

    /// Returns whether there is at most one row for each key.
    fn has_unique_keys(&self) -> bool {
        let ids = self.plan.request.keep_latest.as_deref().unwrap_or_default();
        self.plan.collapse || (!ids.is_empty() && ids.iter().all(|id| self.names().contains(id)))
    }

    fn single(&self, rows: Relation, provenance: Expr, forced: Expr) -> Result<LogicalPlanBuilder, Declined> {
        let mut outputs = self.key_columns(&rows)?;
        outputs.extend([provenance.clone().alias("low"), provenance.alias("high"), forced.alias("forced")]);
        Ok(rows.query.project(outputs)?)
    }

    fn grouped(&self, rows: Relation, provenance: Expr, forced: Expr) -> Result<LogicalPlanBuilder, Declined> {
        let of_group = [
            min(provenance.clone()).alias("least"),
            max(provenance.clone()).alias("high"),
            bool_or(provenance.is_null()).alias("incomplete"),
            bool_or(forced).alias("forced"),
        ];
        let keys = self.key_columns(&rows)?;
        let groups = rows.query.aggregate(keys, of_group)?;
        // A null among several provenances makes the key stale, but `min` ignores it.
        let low = when(ident("incomplete"), lit(ScalarValue::Utf8(None))).otherwise(ident("least"))?;
        let outputs = all_of(&groups).chain([low.alias("low")]).collect::<Vec<_>>();
        Ok(groups.project(outputs)?)
    }

    /// Returns the rows of some keys (`k0`, …), in the columns of orphaned rows.
    pub(super) fn of_keys(&self, wanted: Vec<RecordBatch>) -> Result<LogicalPlan, Declined> {
        let request = ScanRequest { columns: None, ..self.plan.request.clone() };
        let mut relation = Relation::new(&self.part, &request, &self.forms)?;
        let schema = wanted.first().map(RecordBatch::schema).ok_or("no row is orphaned")?;
        let wanted = provider_as_source(Arc::new(MemTable::try_new(schema, vec![wanted])?));
        let wanted = LogicalPlanBuilder::scan("keys", wanted, None)?.build()?;
        let columns: Vec<Expr> = all_of(&relation.query).collect();
        let with_keys = columns.iter().cloned().chain(self.key_columns(&relation)?);
        let rows = relation.query.project(with_keys.collect::<Vec<_>>())?;
        let count = self.keys.len();
        let on = (columns_of(&key_names("q", count)), columns_of(&key_names("k", count)));
        let found = rows.join_detailed(wanted, JoinType::LeftSemi, on, None, NullEquality::NullEqualsNull)?;
        relation.query = found.project(columns)?;
        if self.plan.collapse {
            relation = relation.latest_of(&self.names())?;
        }
        let columns = self.plan.orphan_columns.iter().map(|name| relation.column(name).map(|(column, _)| column));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(relation.query.project(columns)?.build()?)
    }

    /// Names the columns of orphaned rows.
    pub(super) fn named(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let named = self.plan.orphan_columns.iter().cloned().zip(batch.columns().iter().cloned());
        batch_of(named.collect(), batch.num_rows())
    }

    fn names(&self) -> Vec<String> {
        self.keys.iter().map(|(name, _)| name.clone()).collect()
    }

    fn key_columns(&self, rows: &Relation) -> Result<Vec<Expr>, Declined> {
        let names = key_names("q", self.keys.len());
        let keys = self.keys.iter().zip(names);
        keys.map(|((name, key_type), alias)| Ok(rows.key(name, key_type)?.alias(alias))).collect()
    }
}
