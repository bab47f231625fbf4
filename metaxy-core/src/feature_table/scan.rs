//! The read behind a query.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, TryFutureExt};

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::key::FeatureKey;
use crate::store::MetadataStore;

/// The columns and filters of a read, which begins when DataFusion executes its query.
#[derive(Debug)]
pub(super) struct FeatureScan {
    store: MetadataStore,
    feature: FeatureKey,
    schema: SchemaRef,
    filters: Vec<Filter>,
}

impl FeatureScan {
    pub(super) fn new(store: MetadataStore, feature: FeatureKey, schema: SchemaRef, filters: Vec<Filter>) -> Self {
        Self { store, feature, schema, filters }
    }
}

impl PartitionStream for FeatureScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let read = self.store.read(&self.feature).columns(self.schema.fields().iter().map(|field| field.name()));
        let read = self.filters.iter().fold(read, |read, filter| read.filter(filter));
        let schema = self.schema.clone();
        let rows = read.into_future().try_flatten_stream().map(move |batch| planned(&schema, batch?));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows.map(|batch| batch.map_err(external))))
    }
}

/// Returns a batch under the schema of the plan: that of a backend may have other metadata.
fn planned(schema: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(error.into())
}
