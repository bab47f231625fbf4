//! The growth of a table by the new columns, and members of structs, of written rows.
//!
//! The core decides which rows a table accepts, and which columns it has afterwards. Here each new part gets a stored
//! type, a name and an entry in the log.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::{MetadataValue, StructField, StructType};
use metaxy_core::FeatureKey;
use metaxy_core::error::{Error, Result};
use metaxy_core::schema::{distinct_name, grown_schema};

use crate::KIND;

use super::forms::{self, Forms, forms, list_forms, struct_of};
use super::{Column, Mapping, NAME_KEY, TYPE_KEY, TableSchema, unsupported};

/// The separator before the number in the name of a column whose name is taken.
const SEPARATOR: &str = "__";

impl TableSchema {
    /// Returns this schema, or that of a new table, with the additions of `given`, and whether there were any.
    pub fn merge(table: &FeatureKey, existing: Option<&Self>, given: &Schema) -> Result<(Self, bool)> {
        let nothing = Schema::empty();
        let grown = grown_schema(table, existing.map_or(&nothing, |schema| schema.logical.as_ref()), given)?;
        let mut columns = existing.map(|schema| schema.columns.clone()).unwrap_or_default();
        let mut fields: Vec<StructField> =
            existing.map(|schema| schema.delta.fields().cloned().collect()).unwrap_or_default();
        let mut taken: HashSet<String> = columns.iter().map(|column| column.stored_name.to_lowercase()).collect();
        let mut changed = existing.is_none();
        for (at, field) in grown.fields().iter().enumerate() {
            match columns.get_mut(at) {
                Some(column) => {
                    let Some(forms) = column.extended(field)? else { continue };
                    let (grown, delta) = new_column(field.name(), column.stored_name.clone(), forms)?;
                    *column = Column { is_partition: column.is_partition, ..grown };
                    fields[at] = with_own_metadata(&fields[at], delta);
                }
                None => {
                    let forms = forms_of(field)?;
                    let stored_name = distinct_name(field.name(), SEPARATOR, str::to_lowercase, &mut taken);
                    let (column, delta) = new_column(field.name(), stored_name, forms)?;
                    columns.push(column);
                    fields.push(delta);
                }
            }
            changed = true;
        }
        let mapping = existing.map_or(Mapping::None, |schema| schema.mapping);
        if changed && mapping != Mapping::None {
            return Err(Error::Unsupported {
                what: format!("table `{}`: a new column or member in a table with column mapping", table.table_name()),
                hint: "add the column with the program that created the table".to_owned(),
            });
        }
        let delta = StructType::try_new(fields)
            .map_err(|error| Error::table(KIND, "merging the schema", table.table_name(), error.to_string()))?;
        Ok((Self { mapping, ..Self::new(columns, delta) }, changed))
    }
}

impl Column {
    /// Returns the forms of a column that has grown; `None` if it has no additions.
    fn extended(&self, grown: &Field) -> Result<Option<Forms>> {
        let known = Forms { logical: self.logical.data_type().clone(), stored: self.stored_type.clone() };
        extended(&known, grown.data_type()).map_err(|hint| unsupported(grown.name(), grown.data_type(), hint))
    }
}

fn extended(known: &Forms, grown: &DataType) -> forms::Result<Option<Forms>> {
    match (&known.logical, &known.stored, grown) {
        (logical, _, grown) if logical == grown => Ok(None),
        // It had no type before.
        (DataType::Null, _, grown) => forms(grown).map(Some),
        (DataType::Struct(logical), DataType::Struct(stored), DataType::Struct(grown)) => {
            extended_struct(logical, stored, grown)
        }
        (
            DataType::List(logical) | DataType::LargeList(logical),
            DataType::List(stored),
            DataType::List(grown) | DataType::LargeList(grown),
        ) => Ok(extended(&pair(logical, stored), grown.data_type())?.map(list_forms)),
        // Other types differ only in nullability.
        _ => Ok(None),
    }
}

fn extended_struct(logical: &Fields, stored: &Fields, grown: &Fields) -> forms::Result<Option<Forms>> {
    let mut is_extended = false;
    let mut members = Vec::with_capacity(grown.len());
    for member in grown {
        let known = logical.iter().zip(stored).find(|(own, _)| own.name() == member.name());
        let known = known.map(|(logical, stored)| pair(logical, stored));
        let new = match &known {
            Some(known) => extended(known, member.data_type())?,
            None => Some(forms(member.data_type())?),
        };
        is_extended |= new.is_some();
        members.extend(new.or(known).map(|forms| (member.name().clone(), forms)));
    }
    Ok(if is_extended { Some(struct_of(members)?) } else { None })
}

fn pair(logical: &FieldRef, stored: &FieldRef) -> Forms {
    Forms { logical: logical.data_type().clone(), stored: stored.data_type().clone() }
}

fn forms_of(field: &Field) -> Result<Forms> {
    if field.name().is_empty() {
        return Err(unsupported("", field.data_type(), "give the column a name"));
    }
    forms(field.data_type()).map_err(|hint| unsupported(field.name(), field.data_type(), hint))
}

/// Returns a column, and its entry in the log.
fn new_column(name: &str, stored_name: String, forms: Forms) -> Result<(Column, StructField)> {
    let logical = Field::new(name, forms.logical, true);
    let delta = delta_field(&logical, &stored_name, &forms.stored)?;
    let in_file = Arc::new(Field::new(&stored_name, forms.stored.clone(), true));
    let (logical, stored_type) = (Arc::new(logical), forms.stored);
    Ok((Column { logical, stored_name, stored_type, in_file, is_partition: false }, delta))
}

fn delta_field(logical: &Field, stored_name: &str, stored_type: &DataType) -> Result<StructField> {
    let field: StructField = (&Field::new(stored_name, stored_type.clone(), true))
        .try_into_kernel()
        .map_err(|_| unsupported(logical.name(), logical.data_type(), "Delta Lake has no such type"))?;
    let mut metadata: Vec<(String, MetadataValue)> = Vec::new();
    if logical.data_type() != stored_type {
        let stated = logical.data_type().to_string();
        if stated.parse::<DataType>().ok().as_ref() != Some(logical.data_type()) {
            return Err(unsupported(logical.name(), logical.data_type(), "cast it to a type of Delta Lake"));
        }
        metadata.push((TYPE_KEY.to_owned(), MetadataValue::String(stated)));
    }
    if logical.name() != stored_name {
        metadata.push((NAME_KEY.to_owned(), MetadataValue::String(logical.name().clone())));
    }
    Ok(field.with_metadata(metadata))
}

/// Returns the field of a grown column, with the metadata that other programs have added to the old one.
fn with_own_metadata(known: &StructField, grown: StructField) -> StructField {
    let mut metadata: Vec<(String, MetadataValue)> =
        known.metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    metadata.extend(grown.metadata.clone());
    StructField::new(grown.name(), grown.data_type().clone(), known.is_nullable()).with_metadata(metadata)
}
