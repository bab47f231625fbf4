//! How the type of a column gains what rows bring beside it.

use arrow::datatypes::{DataType, FieldRef, Fields};

use super::forms::{Forms, Result, forms, list_forms, member_forms, struct_of};

/// The forms of a column after rows of a type have come in: struct members that it lacks are added. `None` where the rows
/// do not fit.
pub(super) fn grown(known: &Forms, given: &DataType) -> Result<Option<Forms>> {
    match (&known.logical, &known.stored, given) {
        (logical, _, given) if logical == given => Ok(Some(known.clone())),
        (DataType::Struct(logical), DataType::Struct(stored), DataType::Struct(given)) => {
            grown_struct(logical, stored, given)
        }
        (
            DataType::List(logical),
            DataType::List(stored),
            DataType::List(given)
            | DataType::LargeList(given)
            | DataType::ListView(given)
            | DataType::LargeListView(given)
            | DataType::FixedSizeList(given, _),
        ) => Ok(grown(&pair(logical, stored), given.data_type())?.map(list_forms)),
        (DataType::Map(logical, _), DataType::Map(stored, _), DataType::Map(given, _)) => {
            // Members of a map's values do not grow.
            let inner = grown(&pair(logical, stored), given.data_type())?;
            Ok(inner.filter(|inner| inner.logical == *logical.data_type()).map(|_| known.clone()))
        }
        (logical, _, given) if logical.is_integer() && given.is_integer() => Ok(Some(known.clone())),
        (logical, _, given) => {
            let fits = forms(given).is_ok_and(|given| given.logical == *logical);
            Ok(fits.then(|| known.clone()))
        }
    }
}

fn grown_struct(logical: &Fields, stored: &Fields, given: &Fields) -> Result<Option<Forms>> {
    let mut members = Vec::with_capacity(logical.len());
    for (logical, stored) in logical.iter().zip(stored) {
        let known = pair(logical, stored);
        let member = match given.iter().find(|given| given.name() == logical.name()) {
            Some(given) => grown(&known, given.data_type())?,
            None => Some(known),
        };
        let Some(member) = member else { return Ok(None) };
        members.push((logical.name().clone(), member));
    }
    let is_new = |given: &&FieldRef| !logical.iter().any(|member| member.name() == given.name());
    for member in given.iter().filter(is_new) {
        members.push(member_forms(member)?);
    }
    struct_of(members).map(Some)
}

fn pair(logical: &FieldRef, stored: &FieldRef) -> Forms {
    Forms { logical: logical.data_type().clone(), stored: stored.data_type().clone() }
}
