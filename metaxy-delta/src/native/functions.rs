//! Functions of the core on columns, for DataFusion: where the two would differ, a query calls the core.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::row::{RowConverter, SortField};
use deltalake::datafusion::error::{DataFusionError, Result as DataFusionResult};
use deltalake::datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use metaxy_core::filter::Predicate;
use metaxy_core::{Result, executor};

/// What a function does with its arguments.
type Run = dyn Fn(&ScalarFunctionArgs) -> Result<ArrayRef> + Send + Sync;

/// A function of arrays, or of values that are the same in every row. Two of one name do the same.
pub(super) struct CoreFunction {
    name: String,
    signature: Signature,
    returns: DataType,
    run: Box<Run>,
}

impl CoreFunction {
    /// Returns a call of a function.
    pub(super) fn call(
        name: impl Into<String>,
        returns: DataType,
        arguments: Vec<Expr>,
        run: impl Fn(&ScalarFunctionArgs) -> Result<ArrayRef> + Send + Sync + 'static,
    ) -> Expr {
        let signature = Signature::variadic_any(Volatility::Immutable);
        ScalarUDF::from(Self { name: name.into(), signature, returns, run: Box::new(run) }).call(arguments)
    }

    /// Returns a call of a function of arrays.
    fn of_arrays(
        name: impl Into<String>,
        returns: DataType,
        arguments: Vec<Expr>,
        run: impl Fn(&[ArrayRef]) -> Result<ArrayRef> + Send + Sync + 'static,
    ) -> Expr {
        Self::call(name, returns, arguments, move |arguments| {
            let array = |argument: &ColumnarValue| argument.to_array(arguments.number_rows);
            let arrays = arguments.args.iter().map(array).collect::<DataFusionResult<Vec<_>>>();
            run(&arrays.map_err(arrow::error::ArrowError::from)?)
        })
    }
}

impl fmt::Debug for CoreFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreFunction").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for CoreFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.returns == other.returns
    }
}

impl Eq for CoreFunction {}

impl Hash for CoreFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for CoreFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let array = (self.run)(&arguments).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(ColumnarValue::Array(array))
    }
}

/// Returns the value of a predicate; `columns` are its columns, with their names in the table.
pub(super) fn condition(predicate: &Predicate, columns: Vec<(Field, Expr)>) -> Expr {
    let (fields, mut arguments): (Vec<Field>, Vec<Expr>) = columns.into_iter().unzip();
    let (schema, predicate) = (Arc::new(Schema::new(fields)), predicate.clone());
    let name = format!("condition({predicate})");
    // A function has at least one argument.
    arguments.push(lit(true));
    CoreFunction::of_arrays(name, DataType::Boolean, arguments, move |arrays| {
        let rows = arrays.last().map_or(0, |array| array.len());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let arrays = arrays[..schema.fields().len()].to_vec();
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?;
        Ok(Arc::new(predicate.evaluate(&batch)?))
    })
}

/// Returns the values of a key column in the form in which a key type compares them.
pub(super) fn key(column: Expr, data_type: &DataType, key_type: &DataType) -> Expr {
    let compared = executor::compared_type(key_type);
    if *data_type == compared {
        return if compared.is_nested() { row_key(column, &compared) } else { column };
    }
    let wanted = key_type.clone();
    let name = format!("key({wanted})");
    let key = CoreFunction::of_arrays(name, compared.clone(), vec![column], move |arrays| {
        executor::comparable(&arrays[0], &wanted)
    });
    if compared.is_nested() { row_key(key, &compared) } else { key }
}

/// Returns nested values as bytes, which are equal if the values are; null for null.
fn row_key(column: Expr, data_type: &DataType) -> Expr {
    let data_type = data_type.clone();
    CoreFunction::of_arrays("row_key", DataType::Binary, vec![column], move |arrays| {
        let rows = encoded(std::slice::from_ref(&data_type), arrays)?;
        let nulls = arrays[0].logical_nulls();
        let (offsets, values, _) = rows.into_parts();
        Ok(Arc::new(BinaryArray::try_new(offsets, values, nulls)?))
    })
}

/// Returns the order of rows by some columns, ascending and nulls first, as bytes.
pub(super) fn sort_key(columns: Vec<(DataType, Expr)>) -> Expr {
    if columns.is_empty() {
        return lit(Vec::<u8>::new());
    }
    let (types, arguments): (Vec<DataType>, Vec<Expr>) = columns.into_iter().unzip();
    CoreFunction::of_arrays("sort_key", DataType::Binary, arguments, move |arrays| {
        Ok(Arc::new(encoded(&types, arrays)?))
    })
}

fn encoded(types: &[DataType], arrays: &[ArrayRef]) -> Result<BinaryArray> {
    let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
    Ok(converter.convert_columns(arrays)?.try_into_binary()?)
}

/// Returns the data versions of a field from a by-field column.
pub(super) fn member(by_field: Expr, field: &str) -> Expr {
    let field = field.to_owned();
    let name = format!("member({field})");
    CoreFunction::of_arrays(name, DataType::Utf8, vec![by_field], move |arrays| {
        Ok(Arc::new(executor::member(&arrays[0], &field)?))
    })
}

/// Returns the texts of a column.
pub(super) fn text(column: Expr, data_type: &DataType) -> Expr {
    if *data_type == DataType::Utf8 {
        return column;
    }
    CoreFunction::of_arrays("text", DataType::Utf8, vec![column], |arrays| Ok(Arc::new(executor::text(&arrays[0])?)))
}
