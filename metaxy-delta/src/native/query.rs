//! The whole query, which compares the expected rows with the current ones.

use std::sync::Arc;

use arrow::array::{AsArray, Int16Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, FieldRef, Int16Type};
use deltalake::datafusion::common::{JoinType, NullEquality};
#[cfg(feature = "ballista")]
use deltalake::datafusion::logical_expr::LogicalPlanBuilder;
use deltalake::datafusion::logical_expr::{Expr, LogicalPlan, Operator, binary_expr, ident, lit, when};
use metaxy_core::Result;
use metaxy_core::plan::{IncrementPlan, ProvenanceRecipe, RowKind};
use metaxy_core::schema::plain_type;

use super::current::CurrentRows;
use super::expected::{Expected, expected};
use super::forms::Forms;
#[cfg(feature = "ballista")]
use super::names::all_of;
use super::names::{batch_of, columns_of, key_names};
use super::{Declined, Part};
use crate::types::conform;

/// The query of new and stale rows, and of the keys of orphaned ones. Its rows have the expected columns, a hash for each
/// field and the one over all; and if there are current rows, the kind, and the key of the current row.
pub(super) struct Query {
    pub(super) query: LogicalPlan,
    expected: ExpectedRows,
    keys: usize,
}

/// The columns of new and stale rows in a result, which come first.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "ballista", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct ExpectedRows {
    columns: Vec<FieldRef>,
    recipe: ProvenanceRecipe,
}

impl ExpectedRows {
    /// Returns the number of columns in the result.
    fn len(&self) -> usize {
        self.columns.len() + self.recipe.fields.len() + 1
    }

    /// Returns the rows as the increment has them.
    pub(super) fn of(&self, result: &RecordBatch) -> Result<RecordBatch> {
        let (columns, hashes) = result.columns()[..self.len()].split_at(self.columns.len());
        let mut named = Vec::with_capacity(columns.len() + 4);
        for (column, array) in self.columns.iter().zip(columns) {
            named.push((column.name().clone(), conform(array, &plain_type(column.data_type()))?));
        }
        named.extend(self.recipe.version_columns(hashes)?);
        batch_of(named, result.num_rows())
    }
}

impl Query {
    pub(super) fn new(
        plan: &IncrementPlan,
        parts: &[Arc<Part>],
        current: Option<&CurrentRows>,
        keys: &[(String, DataType)],
        forms: &Forms,
    ) -> Result<Self, Declined> {
        let Expected { query, columns } = expected(plan, parts, keys, forms)?;
        let fields = plan.recipe.fields.len();
        let expected = ExpectedRows { columns, recipe: plan.recipe.clone() };
        let names = (0..expected.columns.len()).map(|index| format!("o{index}"));
        let names = names.chain((0..fields).map(|index| format!("f{index}"))).chain(["p".to_owned()]);
        let mut outputs: Vec<Expr> = names.map(ident).collect();
        let Some(current) = current else {
            return Ok(Self { query: query.project(outputs)?.build()?, expected, keys: 0 });
        };
        let (expected_keys, current_keys) = (key_names("k", keys.len()), key_names("q", keys.len()));
        let on = (columns_of(&expected_keys), columns_of(&current_keys));
        let rows = current.compared(forms)?.build()?;
        let compared = query.join_detailed(rows, JoinType::Full, on, None, NullEquality::NullEqualsNothing)?;
        let (is_new, is_orphaned) = (ident("here").is_null(), ident("p").is_null());
        let differs = |column: &str| binary_expr(ident(column), Operator::IsDistinctFrom, ident("p"));
        let is_stale = differs("low").or(differs("high")).or(ident("forced"));
        let kind = when(is_new.clone(), lit(RowKind::New as i16))
            .when(is_orphaned.clone(), lit(RowKind::Orphaned as i16))
            .otherwise(lit(RowKind::Stale as i16))?;
        outputs.push(kind.alias("kind"));
        outputs.extend(current_keys.iter().map(ident));
        let changed = compared.filter(is_new.or(is_orphaned).or(is_stale))?.project(outputs)?;
        Ok(Self { query: changed.build()?, expected, keys: keys.len() })
    }

    /// Returns the query of new and stale rows alone, and what its columns are.
    #[cfg(feature = "ballista")]
    pub(super) fn changed(self) -> Result<(LogicalPlan, ExpectedRows), Declined> {
        let changed = LogicalPlanBuilder::from(self.query).filter(ident("p").is_not_null())?;
        let outputs: Vec<Expr> = all_of(&changed).take(self.expected.len()).collect();
        Ok((changed.project(outputs)?.build()?, self.expected))
    }

    /// Splits some rows of the result into new and stale ones, and the keys of orphaned ones.
    pub(super) fn split(&self, batch: &RecordBatch) -> Result<Split> {
        let rows = self.expected.of(batch)?;
        let rest = &batch.columns()[self.expected.len()..];
        let Some((kinds, keys)) = rest.split_first() else {
            return Ok(Split { rows: vec![(RowKind::New, rows)], orphaned: None });
        };
        let kinds = kinds.as_primitive::<Int16Type>();
        let mut split = Split { rows: Vec::new(), orphaned: None };
        for kind in [RowKind::New, RowKind::Stale] {
            split.rows.extend(rows_of(kind, kinds, &rows)?.map(|rows| (kind, rows)));
        }
        let keys = key_names("k", self.keys).into_iter().zip(keys.iter().cloned()).collect();
        split.orphaned = rows_of(RowKind::Orphaned, kinds, &batch_of(keys, batch.num_rows())?)?;
        Ok(split)
    }
}

/// Rows of a result by their kinds.
pub(super) struct Split {
    pub(super) rows: Vec<(RowKind, RecordBatch)>,
    /// The keys of orphaned rows.
    pub(super) orphaned: Option<RecordBatch>,
}

/// Returns the rows of a kind; `None` if there are none.
fn rows_of(kind: RowKind, kinds: &Int16Array, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
    let wanted = kind.mask(kinds);
    Ok(match wanted.true_count() {
        0 => None,
        all if all == rows.num_rows() => Some(rows.clone()),
        _ => Some(filter_record_batch(rows, &wanted)?),
    })
}
