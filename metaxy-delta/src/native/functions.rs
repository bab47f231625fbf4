//! Functions of the core on columns, for DataFusion: where the two would differ, a query calls the core.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use deltalake::datafusion::error::{DataFusionError, Result as DataFusionResult};
use deltalake::datafusion::functions::core::expr_fn::get_field;
use deltalake::datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use metaxy_core::filter::Predicate;
use metaxy_core::hash::RowHasher;
use metaxy_core::{Result, executor};

use super::hashed_rows::hashes;

/// What a function does: its whole definition, which another process can be told.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "ballista", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Function {
    /// The value of a predicate on columns of these names.
    Condition {
        #[cfg_attr(feature = "ballista", serde(with = "super::sent_predicate"))]
        predicate: Predicate,
        columns: SchemaRef,
    },
    /// The values of a key column in the form in which a type compares them.
    Key(DataType),
    /// Nested values of a type as bytes.
    RowKey(DataType),
    /// The order of rows by columns of these types, as bytes.
    SortKey(Vec<DataType>),
    /// The columns of such bytes, as a struct.
    SortedColumns(Vec<DataType>),
    /// The data versions of a field.
    Member(String),
    /// Texts.
    Text,
    /// Hashes of texts that consist of parts.
    Hash(RowHasher),
}

impl Function {
    fn name(&self) -> String {
        match self {
            Self::Condition { predicate, .. } => format!("condition({predicate})"),
            Self::Key(key_type) => format!("key({key_type})"),
            Self::RowKey(_) => "row_key".to_owned(),
            Self::SortKey(_) => "sort_key".to_owned(),
            Self::SortedColumns(_) => "sorted_columns".to_owned(),
            Self::Member(field) => format!("member({field})"),
            Self::Text => "text".to_owned(),
            Self::Hash(hasher) => format!("{}_{}", hasher.algorithm(), hasher.truncation()),
        }
    }

    fn returns(&self) -> DataType {
        match self {
            Self::Condition { .. } => DataType::Boolean,
            Self::Key(key_type) => executor::compared_type(key_type),
            Self::RowKey(_) | Self::SortKey(_) => DataType::Binary,
            Self::SortedColumns(types) => DataType::Struct(sorted_fields(types)),
            Self::Member(_) | Self::Text | Self::Hash(_) => DataType::Utf8,
        }
    }

    fn run(&self, arguments: &ScalarFunctionArgs) -> Result<ArrayRef> {
        if let Self::Hash(hasher) = self {
            return hashes(*hasher, arguments);
        }
        let array = |argument: &ColumnarValue| argument.to_array(arguments.number_rows);
        let arrays = arguments.args.iter().map(array).collect::<DataFusionResult<Vec<_>>>();
        self.run_on(&arrays.map_err(arrow::error::ArrowError::from)?)
    }

    fn run_on(&self, arrays: &[ArrayRef]) -> Result<ArrayRef> {
        Ok(match self {
            Self::Condition { predicate, columns } => {
                let rows = arrays.last().map_or(0, |array| array.len());
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                let arrays = arrays[..columns.fields().len()].to_vec();
                let batch = RecordBatch::try_new_with_options(columns.clone(), arrays, &options)?;
                Arc::new(predicate.evaluate(&batch)?)
            }
            Self::Key(key_type) => executor::comparable(&arrays[0], key_type)?,
            Self::RowKey(data_type) => {
                let rows = encoded(std::slice::from_ref(data_type), arrays)?;
                let nulls = arrays[0].logical_nulls();
                let (offsets, values, _) = rows.into_parts();
                Arc::new(BinaryArray::try_new(offsets, values, nulls)?)
            }
            Self::SortKey(types) => Arc::new(encoded(types, arrays)?),
            Self::SortedColumns(types) => Arc::new(decoded(types, &arrays[0])?),
            Self::Member(field) => Arc::new(executor::member(&arrays[0], field)?),
            Self::Text | Self::Hash(_) => Arc::new(executor::text(&arrays[0])?),
        })
    }

    /// Returns a call of the function.
    pub(super) fn call(self, arguments: Vec<Expr>) -> Expr {
        ScalarUDF::from(CoreFunction::new(self)).call(arguments)
    }
}

fn converter(types: &[DataType]) -> Result<RowConverter> {
    Ok(RowConverter::new(types.iter().cloned().map(SortField::new).collect())?)
}

fn encoded(types: &[DataType], arrays: &[ArrayRef]) -> Result<BinaryArray> {
    Ok(converter(types)?.convert_columns(arrays)?.try_into_binary()?)
}

fn decoded(types: &[DataType], keys: &ArrayRef) -> Result<StructArray> {
    let converter = converter(types)?;
    // They are parsed one by one: to take them as an array copies all that its buffer has, of which they may be few.
    let parser = converter.parser();
    let columns = converter.convert_rows(keys.as_binary::<i32>().iter().flatten().map(|key| parser.parse(key)))?;
    Ok(StructArray::try_new_with_length(sorted_fields(types), columns, None, keys.len())?)
}

fn sorted_fields(types: &[DataType]) -> Fields {
    types.iter().enumerate().map(|(place, data_type)| Field::new(sorted_name(place), data_type.clone(), true)).collect()
}

fn sorted_name(place: usize) -> String {
    format!("s{place}")
}

/// A function of arrays, or of values that are the same in every row.
#[derive(Debug)]
pub(super) struct CoreFunction {
    pub(super) function: Function,
    name: String,
    signature: Signature,
}

impl CoreFunction {
    pub(super) fn new(function: Function) -> Self {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Self { name: function.name(), signature, function }
    }
}

impl PartialEq for CoreFunction {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function
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
        Ok(self.function.returns())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let array = self.function.run(&arguments).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(ColumnarValue::Array(array))
    }
}

/// Returns the value of a predicate; `columns` are its columns, with their names in the table.
pub(super) fn condition(predicate: &Predicate, columns: Vec<(Field, Expr)>) -> Expr {
    let (fields, mut arguments): (Vec<Field>, Vec<Expr>) = columns.into_iter().unzip();
    // A function has at least one argument.
    arguments.push(lit(true));
    Function::Condition { predicate: predicate.clone(), columns: Arc::new(Schema::new(fields)) }.call(arguments)
}

/// Returns the values of a key column in the form in which a key type compares them; nested values as bytes, which are
/// equal if the values are, and null for null.
pub(super) fn key(column: Expr, data_type: &DataType, key_type: &DataType) -> Expr {
    let compared = executor::compared_type(key_type);
    let key = match *data_type == compared {
        true => column,
        false => Function::Key(key_type.clone()).call(vec![column]),
    };
    if compared.is_nested() { Function::RowKey(compared).call(vec![key]) } else { key }
}

/// Returns the order of rows by some columns, ascending and nulls first, as bytes.
pub(super) fn sort_key(columns: Vec<(DataType, Expr)>) -> Expr {
    if columns.is_empty() {
        return lit(Vec::<u8>::new());
    }
    let (types, arguments): (Vec<DataType>, Vec<Expr>) = columns.into_iter().unzip();
    Function::SortKey(types).call(arguments)
}

/// Returns whether values of a type can be part of a [`sort_key`].
pub(super) fn has_sort_key(data_type: &DataType) -> bool {
    RowConverter::supports_fields(&[SortField::new(data_type.clone())])
}

/// Returns the columns of a [`sort_key`] of columns of these types, for [`sorted_column`].
pub(super) fn sorted_columns(types: Vec<DataType>, key: Expr) -> Expr {
    Function::SortedColumns(types).call(vec![key])
}

/// Returns the column at a place of a sort key.
pub(super) fn sorted_column(columns: Expr, place: usize) -> Expr {
    get_field(columns, sorted_name(place))
}

/// Returns the data versions of a field from a by-field column.
pub(super) fn member(by_field: Expr, field: &str) -> Expr {
    Function::Member(field.to_owned()).call(vec![by_field])
}

/// Returns the texts of a column.
pub(super) fn text(column: Expr, data_type: &DataType) -> Expr {
    if *data_type == DataType::Utf8 { column } else { Function::Text.call(vec![column]) }
}
