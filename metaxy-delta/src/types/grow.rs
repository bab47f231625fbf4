//! How the type of a column gains what rows bring beside it.

use arrow::datatypes::{DataType, FieldRef, Fields};

use super::forms::{Forms, Result, forms, list_forms, member_forms, struct_of};

/// What becomes of a column for which rows of some type have come.
pub(super) enum Growth {
    /// They fit into it as it is.
    None,
    /// Structs gain members.
    To(Forms),
    /// They do not fit.
    Mismatch,
}

/// The forms of a column after rows of a type have come in: struct members that it lacks are added.
pub(super) fn growth(known: &Forms, given: &DataType) -> Result<Growth> {
    let fitting = |fits: bool| Ok(if fits { Growth::None } else { Growth::Mismatch });
    match (&known.logical, &known.stored, given) {
        (logical, _, given) if logical == given => Ok(Growth::None),
        (DataType::Struct(logical), DataType::Struct(stored), DataType::Struct(given)) => {
            growth_of_struct(logical, stored, given)
        }
        (
            DataType::List(logical),
            DataType::List(stored),
            DataType::List(given)
            | DataType::LargeList(given)
            | DataType::ListView(given)
            | DataType::LargeListView(given)
            | DataType::FixedSizeList(given, _),
        ) => Ok(match growth(&pair(logical, stored), given.data_type())? {
            Growth::To(item) => Growth::To(list_forms(item)),
            other => other,
        }),
        // Members of a map's values do not grow.
        (DataType::Map(logical, _), DataType::Map(stored, _), DataType::Map(given, _)) => {
            fitting(matches!(growth(&pair(logical, stored), given.data_type())?, Growth::None))
        }
        (logical, _, given) if logical.is_integer() && given.is_integer() => Ok(Growth::None),
        (logical, _, given) => fitting(forms(given).is_ok_and(|given| given.logical == *logical)),
    }
}

fn growth_of_struct(logical: &Fields, stored: &Fields, given: &Fields) -> Result<Growth> {
    let mut members = Vec::with_capacity(logical.len());
    let mut grows = false;
    for (logical, stored) in logical.iter().zip(stored) {
        let known = pair(logical, stored);
        let growth = match given.iter().find(|given| given.name() == logical.name()) {
            Some(given) => growth(&known, given.data_type())?,
            None => Growth::None,
        };
        grows |= matches!(growth, Growth::To(_));
        let member = match growth {
            Growth::None => known,
            Growth::To(forms) => forms,
            Growth::Mismatch => return Ok(Growth::Mismatch),
        };
        members.push((logical.name().clone(), member));
    }
    let is_new = |given: &&FieldRef| !logical.iter().any(|member| member.name() == given.name());
    for member in given.iter().filter(is_new) {
        grows = true;
        members.push(member_forms(member)?);
    }
    Ok(if grows { Growth::To(struct_of(members)?) } else { Growth::None })
}

fn pair(logical: &FieldRef, stored: &FieldRef) -> Forms {
    Forms { logical: logical.data_type().clone(), stored: stored.data_type().clone() }
}
