//! What the operators of this crate share: each has one input, and as many partitions as it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use deltalake::datafusion::error::{DataFusionError, Result};
use deltalake::datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use deltalake::datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use deltalake::datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, PlanProperties};

/// Returns the properties of an operator that makes rows of a schema from each partition of its input.
pub(super) fn properties_of(
    input: &Arc<dyn ExecutionPlan>,
    schema: &SchemaRef,
    emission: EmissionType,
) -> Arc<PlanProperties> {
    let partitions = Partitioning::UnknownPartitioning(input.output_partitioning().partition_count());
    let order = EquivalenceProperties::new(schema.clone());
    Arc::new(PlanProperties::new(order, partitions, emission, Boundedness::Bounded))
}

/// Returns the one input that an operator is given.
pub(super) fn only_input(inputs: Vec<Arc<dyn ExecutionPlan>>, operator: &str) -> Result<Arc<dyn ExecutionPlan>> {
    let [input] = inputs.try_into().map_err(|_| DataFusionError::Internal(format!("{operator} has one input")))?;
    Ok(input)
}
