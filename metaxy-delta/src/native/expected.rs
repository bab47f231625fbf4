//! The expected rows as a query: the joined inputs with their provenance.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use deltalake::datafusion::common::{JoinType, NullEquality};
use deltalake::datafusion::functions::expr_fn::coalesce;
use deltalake::datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, ident};
use metaxy_core::plan::IncrementPlan;
use metaxy_core::plan::sql::{HashPart, column_name, hash_parts, key_name};

use super::forms::Forms;
use super::input::input;
use super::names::{all_of, columns_of};
use super::{Declined, Part};

/// The expected rows.
pub(super) struct Expected {
    /// The keys (`k0`, …), the columns (`o0`, …), the hashes of the fields (`f0`, …) and the one over all (`p`).
    pub(super) query: LogicalPlanBuilder,
    /// The columns, by their names in the increment.
    pub(super) columns: Vec<FieldRef>,
}

pub(super) fn expected(
    plan: &IncrementPlan,
    parts: &[Arc<Part>],
    keys: &[(String, DataType)],
    forms: &Forms,
) -> Result<Expected, Declined> {
    let hasher = plan.recipe.hasher;
    let joined = Joined::new(plan, parts, keys, forms)?;
    let mut outputs: Vec<Expr> =
        joined.keys.iter().enumerate().map(|(index, key)| ident(key).alias(format!("k{index}"))).collect();
    let mut columns = Vec::new();
    for (index, (number, column)) in plan.expected_columns().into_iter().enumerate() {
        let part = parts.get(number).ok_or("an input is missing")?;
        let data_type = part.data_type(&column.source)?;
        outputs.push(joined.column(number, &column.name, data_type).alias(format!("o{index}")));
        columns.push(Arc::new(Field::new(&column.name, data_type.clone(), true)));
    }
    let mut all = Vec::new();
    for (index, field) in plan.recipe.fields.iter().enumerate() {
        let name = format!("f{index}");
        outputs.push(forms.hash(hasher, hash_parts(plan, field)?)?.alias(&name));
        all.extend((index > 0).then(|| HashPart::Fixed("|".to_owned())));
        all.push(HashPart::Version(name));
    }
    let fields = joined.query.project(outputs)?;
    let outputs: Vec<Expr> = all_of(&fields).chain([forms.hash(hasher, all)?.alias("p")]).collect();
    Ok(Expected { query: fields.project(outputs)?, columns })
}

/// The joined inputs: required ones by inner joins, optional ones by left joins; all by full joins if none is required.
struct Joined<'a> {
    plan: &'a IncrementPlan,
    query: LogicalPlanBuilder,
    /// The names of the join columns.
    keys: Vec<String>,
    all_optional: bool,
}

impl<'a> Joined<'a> {
    fn new(
        plan: &'a IncrementPlan,
        parts: &[Arc<Part>],
        keys: &[(String, DataType)],
        forms: &Forms,
    ) -> Result<Self, Declined> {
        let mut inputs = plan.inputs.iter().zip(parts).enumerate().map(|(number, (of_plan, part))| {
            let query = input(number, of_plan, part, keys, plan.recipe.hasher, forms)?;
            Ok::<_, Declined>((number, of_plan.optional, query))
        });
        let (_, _, query) = inputs.next().ok_or("a root has no inputs in the store")??;
        let all_optional = plan.inputs.iter().all(|input| input.optional);
        let mut joined = Self { plan, query, keys: names_of_keys(0, keys.len()), all_optional };
        for input in inputs {
            let (number, optional, query) = input?;
            joined = joined.with(number, optional, query)?;
        }
        Ok(joined)
    }

    /// Joins one more input.
    fn with(self, number: usize, optional: bool, input: LogicalPlanBuilder) -> Result<Self, Declined> {
        let kind = match optional {
            _ if self.all_optional => JoinType::Full,
            true => JoinType::Left,
            false => JoinType::Inner,
        };
        let own = names_of_keys(number, self.keys.len());
        let on = (columns_of(&self.keys), columns_of(&own));
        let query = self.query.join_detailed(input.build()?, kind, on, None, NullEquality::NullEqualsNothing)?;
        if !self.all_optional {
            return Ok(Self { query, ..self });
        }
        let merged: Vec<String> = (0..own.len()).map(|index| format!("m{number}_{index}")).collect();
        let either = self.keys.iter().zip(&own).map(|(left, right)| coalesce(vec![ident(left), ident(right)]));
        let either = either.zip(&merged).map(|(key, name)| key.alias(name));
        let outputs: Vec<Expr> = all_of(&query).chain(either).collect();
        Ok(Self { query: query.project(outputs)?, keys: merged, ..self })
    }

    /// Returns a column of the increment; `first` is the number of the first input that has it. A join column comes from
    /// the first input that has a row.
    fn column(&self, first: usize, name: &str, data_type: &DataType) -> Expr {
        let place = |number: usize| {
            let columns = &self.plan.inputs[number].columns;
            columns.iter().position(|column| column.name == name).map(|index| ident(column_name(number, index)))
        };
        let last = match self.all_optional && self.plan.join_columns.iter().any(|column| column == name) {
            true => self.plan.inputs.len(),
            false => first + 1,
        };
        let mut columns: Vec<Expr> = (first..last).filter_map(place).collect();
        match columns.len() {
            1 => columns.remove(0),
            _ => coalesce(columns.into_iter().map(|column| cast(column, data_type.clone())).collect()),
        }
    }
}

fn names_of_keys(number: usize, count: usize) -> Vec<String> {
    (0..count).map(|index| key_name(number, index)).collect()
}
