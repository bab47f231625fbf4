//! Column mapping: columns and members have separate names in the files of a table, which do not change when they are
//! renamed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::error::ArrowError;
use deltalake::kernel::{DataType as DeltaType, MetadataValue, StructField};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

const NAME: &str = "delta.columnMapping.physicalName";
const ID: &str = "delta.columnMapping.id";

/// How the columns of a table are found in its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// By their names in the table.
    #[default]
    None,
    /// By their names in files.
    Name,
    /// By their numbers in files.
    Id,
}

impl Mapping {
    /// Parses the mapping of a table; `None` if it is unknown.
    pub fn parse(stated: Option<&str>) -> Option<Self> {
        match stated.unwrap_or("none") {
            "none" => Some(Self::None),
            "name" => Some(Self::Name),
            "id" => Some(Self::Id),
            _ => None,
        }
    }

    /// Returns a column as it is in files, given its Arrow type in the table.
    pub fn in_file(self, field: &StructField, data_type: &DataType) -> Field {
        if self == Self::None {
            return Field::new(field.name(), data_type.clone(), true);
        }
        let name = match field.metadata.get(NAME) {
            Some(MetadataValue::String(name)) => name,
            _ => field.name(),
        };
        let id = match field.metadata.get(ID) {
            Some(MetadataValue::Number(id)) => HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]),
            _ => HashMap::new(),
        };
        Field::new(name, self.type_in_file(field.data_type(), data_type), true).with_metadata(id)
    }

    fn type_in_file(self, delta: &DeltaType, data_type: &DataType) -> DataType {
        let inner = |delta: &DeltaType, field: &FieldRef| -> FieldRef {
            Arc::new(field.as_ref().clone().with_data_type(self.type_in_file(delta, field.data_type())))
        };
        match (delta, data_type) {
            (DeltaType::Struct(delta), DataType::Struct(members)) => {
                let members =
                    delta.fields().zip(members).map(|(delta, member)| self.in_file(delta, member.data_type()));
                DataType::Struct(members.collect())
            }
            (DeltaType::Array(delta), DataType::List(item)) => DataType::List(inner(delta.element_type(), item)),
            (DeltaType::Map(delta), DataType::Map(entries, sorted)) => {
                let DataType::Struct(pair) = entries.data_type() else { return data_type.clone() };
                let [key, value] = pair.as_ref() else { return data_type.clone() };
                let pair: Fields =
                    [inner(delta.key_type(), key), inner(delta.value_type(), value)].into_iter().collect();
                let entries = entries.as_ref().clone().with_data_type(DataType::Struct(pair));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => data_type.clone(),
        }
    }
}

/// Returns the number of a column in a file, if it has one.
pub(super) fn id_of(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// Returns the same values with other names, from a type of the same structure.
pub(crate) fn renamed(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == target {
        return Ok(array.clone());
    }
    let nulls = array.nulls().cloned();
    Ok(match (array.data_type(), target) {
        (DataType::Struct(_), DataType::Struct(members)) => {
            let columns = array.as_struct().columns().iter().zip(members);
            let columns =
                columns.map(|(values, member)| renamed(values, member.data_type())).collect::<Result<_, _>>()?;
            Arc::new(StructArray::try_new_with_length(members.clone(), columns, nulls, array.len())?)
        }
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = renamed(list.values(), item.data_type())?;
            Arc::new(ListArray::try_new(item.clone(), list.offsets().clone(), values, nulls)?)
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let map = array.as_map();
            let own: ArrayRef = Arc::new(map.entries().clone());
            let values = renamed(&own, entries.data_type())?.as_struct().clone();
            Arc::new(MapArray::try_new(entries.clone(), map.offsets().clone(), values, nulls, *sorted)?)
        }
        _ => array.clone(),
    })
}
