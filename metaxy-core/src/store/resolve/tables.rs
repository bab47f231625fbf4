//! The tables that take part in a resolve.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::future::try_join_all;

use crate::error::Result;
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;
use crate::plan::{IncrementPlan, InputColumn, InputPlan, PlanTable};

use super::super::chain::FeatureSource;
use super::super::{MetadataStore, check_system_columns};

/// The tables of a resolve, located in the stores that serve them.
pub(super) struct Tables {
    /// The upstream tables by feature; an optional one may be missing.
    pub(super) upstream: HashMap<FeatureKey, FeatureSource>,
    /// The schema of the feature's own table, if there is one.
    pub(super) current: Option<SchemaRef>,
}

impl Tables {
    /// Locates only the feature's own table.
    pub(super) async fn own(store: &MetadataStore, key: &FeatureKey) -> Result<Self> {
        let current = store.own_table(key).await?;
        if let Some(schema) = &current {
            check_system_columns(key, schema)?;
        }
        Ok(Self { upstream: HashMap::new(), current })
    }

    /// Locates all tables concurrently: on an object store each lookup is a round trip.
    pub(super) async fn locate(store: &MetadataStore, key: &FeatureKey) -> Result<Self> {
        let deps = &store.plan(key)?.spec.deps;
        let upstream = try_join_all(deps.iter().map(|dep| async move {
            match store.serving(dep.feature()).await? {
                Some(source) => check_system_columns(dep.feature(), &source.schema).map(|()| Some(source)),
                None if dep.optional => Ok(None),
                None => Err(store.not_found(dep.feature()).await),
            }
        }));
        let (mut tables, upstream) = futures::try_join!(Self::own(store, key), upstream)?;
        let found = deps.iter().zip(upstream).filter_map(|(dep, source)| Some((dep.feature().clone(), source?)));
        tables.upstream = found.collect();
        Ok(tables)
    }

    /// Returns the feature's own table as an input of a plan.
    pub(super) fn current_in_plan(&self, feature: &FeaturePlan) -> Option<PlanTable> {
        let schema = self.current.clone()?;
        Some(PlanTable { schema, feature_version: feature.feature_version.clone() })
    }

    /// Returns the schemas of the inputs of a plan. A missing optional table has only its id columns, with the types of
    /// the other inputs or, if there is none, of the feature's own table.
    pub(super) fn input_schemas(&self, plan: &IncrementPlan) -> Vec<SchemaRef> {
        let known = |name: &str| {
            let upstream = plan.inputs.iter().find_map(|input| self.column_type(input, name));
            upstream.or_else(|| type_in(self.current.as_ref()?, name))
        };
        let schema = |input: &InputPlan| match self.upstream.get(&input.feature) {
            Some(source) => source.schema.clone(),
            None => {
                let field = |column: &InputColumn| {
                    Field::new(&column.source, known(&column.name).unwrap_or(DataType::Utf8), true)
                };
                Arc::new(Schema::new(input.columns.iter().map(field).collect::<Vec<_>>()))
            }
        };
        plan.inputs.iter().map(schema).collect()
    }

    /// Returns the type of an input's column, by its name in the increment.
    fn column_type(&self, input: &InputPlan, name: &str) -> Option<DataType> {
        let schema = &self.upstream.get(&input.feature)?.schema;
        let column = input.columns.iter().find(|column| column.name == name)?;
        type_in(schema, &column.source)
    }
}

fn type_in(schema: &Schema, name: &str) -> Option<DataType> {
    Some(schema.field_with_name(name).ok()?.data_type().clone())
}
