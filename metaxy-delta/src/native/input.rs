//! One input as a query: the rows of a scan with their keys, their columns, and the data versions of the fields.

use std::sync::Arc;

use arrow::datatypes::DataType;
use deltalake::datafusion::common::{Column, JoinType, NullEquality, ScalarValue};
use deltalake::datafusion::functions_aggregate::count::count_udaf;
use deltalake::datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use deltalake::datafusion::functions_window::expr_fn::row_number;
use deltalake::datafusion::logical_expr::expr::WindowFunction;
use deltalake::datafusion::logical_expr::{
    AggregateUDF, Expr, ExprFunctionExt, LogicalPlanBuilder, WindowFunctionDefinition, cast, ident, lit, when,
};
use metaxy_core::columns;
use metaxy_core::hash::RowHasher;
use metaxy_core::plan::sql::{column_name, key_name, version_name};
use metaxy_core::plan::{GroupOrder, InputLineage, InputPlan};

use super::forms::Forms;
use super::relation::Relation;
use super::{Declined, Part};

/// Returns the query of an input; `keys` has the name of each join column, and the type in which it is compared.
pub(super) fn input(
    number: usize,
    plan: &InputPlan,
    part: &Arc<Part>,
    keys: &[(String, DataType)],
    hasher: RowHasher,
    forms: &Forms,
) -> Result<LogicalPlanBuilder, Declined> {
    let relation = Relation::new(part, &plan.request, forms)?;
    let mut outputs = Vec::new();
    for (index, (name, key_type)) in keys.iter().enumerate() {
        outputs.push(relation.key(plan.source_of(name), key_type)?.alias(key_name(number, index)));
    }
    for (index, column) in plan.columns.iter().enumerate() {
        outputs.push(relation.column(&column.source)?.0.alias(column_name(number, index)));
    }
    match &plan.lineage {
        InputLineage::Rows => {
            for (index, field) in plan.fields.iter().enumerate() {
                outputs.push(relation.version(field)?.alias(version_name(number, index)));
            }
            Ok(relation.query.project(outputs)?)
        }
        InputLineage::Groups { on, order } => {
            let groups = Groups { number, plan, relation: relation.clone(), on, order, forms };
            outputs.extend(groups.keys("g")?);
            let rows = relation.query.project(outputs)?;
            groups.join_to(rows, hasher)
        }
    }
}

/// The groups of an input's rows, of which each has one version for every field.
struct Groups<'a> {
    number: usize,
    plan: &'a InputPlan,
    relation: Relation,
    on: &'a [String],
    order: &'a GroupOrder,
    forms: &'a Forms,
}

impl Groups<'_> {
    /// Returns the columns that identify a group, under names with a prefix.
    fn keys(&self, prefix: &str) -> Result<Vec<Expr>, Declined> {
        let key = |(index, name): (usize, &String)| {
            let key = self.relation.own_key(self.plan.source_of(name))?;
            Ok(key.alias(self.key_name(prefix, index)))
        };
        self.on.iter().enumerate().map(key).collect()
    }

    fn key_name(&self, prefix: &str, index: usize) -> String {
        format!("i{}_{prefix}{index}", self.number)
    }

    fn key_columns(&self, prefix: &str) -> Vec<Column> {
        (0..self.on.len()).map(|index| Column::new_unqualified(self.key_name(prefix, index))).collect()
    }

    /// Adds the versions of its group to each row.
    fn join_to(&self, rows: LogicalPlanBuilder, hasher: RowHasher) -> Result<LogicalPlanBuilder, Declined> {
        let (query, order) = match self.order {
            GroupOrder::Ids(ids) => (self.relation.query.clone(), self.relation.order(ids)?),
            GroupOrder::Arrival { kept, ids } => {
                let mut order = self.relation.order(kept)?;
                order.push((DataType::Int64, ident(ARRIVAL)));
                (self.numbered(ids)?, order)
            }
        };
        let version =
            |(index, field): (usize, &String)| Ok((self.relation.version(field)?, version_name(self.number, index)));
        let versions = self.plan.fields.iter().enumerate().map(version).collect::<Result<Vec<_>, Declined>>()?;
        if versions.is_empty() {
            return Ok(rows);
        }
        let groups = self.forms.group_hashes(query, self.keys("h")?, hasher, order, versions)?.build()?;
        let on = (self.key_columns("g"), self.key_columns("h"));
        Ok(rows.join_detailed(groups, JoinType::Inner, on, None, NullEquality::NullEqualsNull)?)
    }

    /// Numbers the rows in the order of [`GroupOrder::Arrival`].
    fn numbered(&self, ids: &[String]) -> Result<LogicalPlanBuilder, Declined> {
        let updated = self.relation.time(columns::UPDATED_AT);
        let updated = updated.unwrap_or_else(|| lit(ScalarValue::TimestampMicrosecond(None, None)));
        let mut order = vec![updated.clone().sort(false, false)];
        order.extend(self.forms.order(self.relation.order(ids)?)?);
        let number = row_number().order_by(order).build()?;
        let of_all = |function: Arc<AggregateUDF>, argument: Expr| {
            let function = WindowFunctionDefinition::AggregateUDF(function);
            Expr::from(WindowFunction::new(function, vec![argument]))
        };
        let windows = [
            of_all(count_udaf(), lit(1_i64)).alias("total"),
            of_all(count_udaf(), updated.clone()).alias("times"),
            of_all(min_udaf(), updated.clone()).alias("first"),
            of_all(max_udaf(), updated).alias("last"),
        ];
        let query = self.relation.query.clone().window([number.alias("number")])?.window(windows)?;
        let (number, total) = (cast(ident("number"), DataType::Int64) - lit(1_i64), ident("total"));
        // If all rows come from a single write, the second half comes first.
        let half = (total.clone() + lit(1_i64)) / lit(2_i64);
        let rotated = (number.clone() - half + total.clone()) % total.clone();
        let is_single =
            ident("times").eq(lit(0_i64)).or(ident("times").eq(total).and(ident("first").eq(ident("last"))));
        let arrival = when(is_single, rotated).otherwise(number)?;
        let fields = (0..self.relation.fields().len()).map(|number| ident(super::rows::column_name(number)));
        Ok(query.project(fields.chain([arrival.alias(ARRIVAL)]))?)
    }
}

/// The name of the column with the number of a row in the order of arrival.
const ARRIVAL: &str = "arrival";
