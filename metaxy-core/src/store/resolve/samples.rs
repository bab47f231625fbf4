//! Samples that are given as the expected rows of a root feature.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::columns;
use crate::engine::{Table, batch_of};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::graph::FeaturePlan;
use crate::plan::ResolveOptions;

use super::super::MetadataStore;
use super::super::checks::check_ids;
use super::super::data::schema_of;
use super::super::duplicates::one_row_each;

impl MetadataStore {
    /// Completes the versions of samples. The filters on the resolved feature apply to them too, so that a sample whose
    /// row is filtered out does not look new.
    pub(super) fn complete_samples(
        &self,
        feature: &FeaturePlan,
        batches: &[RecordBatch],
        options: &ResolveOptions,
    ) -> Result<Table> {
        let own = options.filters.get(&feature.spec.key).into_iter().flatten();
        let filters: Vec<Filter> = own.chain(&options.global_filters).chain(&options.target_filters).cloned().collect();
        let complete = |batch: &RecordBatch| {
            check_ids(feature, batch)?;
            let batch = batch_of(self.with_versions(feature, batch)?, batch.num_rows())?;
            if filters.is_empty() {
                return Ok(batch);
            }
            let passes = Filter::all(filters.iter().cloned()).bind(batch.schema_ref())?.evaluate(&batch)?;
            Ok(filter_record_batch(&batch, &passes)?)
        };
        let batches = batches.iter().map(complete).collect::<Result<Vec<_>>>()?;
        let schema = schema_of(&batches, || schema_without_samples(feature));
        if let Some(other) = batches.iter().find(|batch| batch.schema_ref().fields() != schema.fields()) {
            return Err(Error::InvalidColumn {
                feature: feature.spec.key.clone(),
                column: "*".to_owned(),
                reason: format!("the batches of samples have different columns: {schema} and {}", other.schema()),
            });
        }
        let batches = one_row_each(&feature.spec, &schema, batches, self.inner.duplicates)?;
        Table::new(schema, batches)
    }
}

fn schema_without_samples(feature: &FeaturePlan) -> SchemaRef {
    let ids = feature.spec.id_columns.iter().map(|id| Field::new(id, DataType::Utf8, true));
    let versions = columns::VERSIONS.iter().filter_map(|name| columns::field(name, feature.spec.struct_keys()));
    Arc::new(Schema::new(ids.chain(versions).collect::<Vec<_>>()))
}
