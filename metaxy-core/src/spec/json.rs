//! The JSON form of definitions.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::deferred::Deferred;
use crate::key::{FeatureKey, FieldKey, InvalidKey};

use super::{FeatureDep, FieldDeps, FieldSelection, FieldSpec, FieldsMapping, INITIAL_CODE_VERSION, Lineage};

/// The JSON word for "all upstream fields".
const ALL_DEP: &str = "__METAXY_ALL_DEP__";

/// Writes a key; an invalid one as it was given.
pub(super) fn serialize_key<K: Serialize, S: Serializer>(
    key: &Deferred<K, InvalidKey>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match key.get() {
        Ok(key) => key.serialize(serializer),
        Err(invalid) => invalid.key.serialize(serializer),
    }
}

impl<'de> Deserialize<'de> for FieldSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Key(FieldKey),
            Full {
                key: FieldKey,
                #[serde(default = "initial_code_version")]
                code_version: String,
                #[serde(default)]
                deps: FieldDeps,
            },
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Key(key) => Self::new(key),
            Form::Full { key, code_version, deps } => Self { code_version, deps, ..Self::new(key) },
        })
    }
}

fn initial_code_version() -> String {
    INITIAL_CODE_VERSION.to_owned()
}

impl Serialize for FieldDeps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => ALL_DEP.serialize(serializer),
            Self::Listed(deps) => deps.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FieldDeps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(list_or_all(deserializer)?.map_or(Self::All, Self::Listed))
    }
}

impl Serialize for FieldSelection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => ALL_DEP.serialize(serializer),
            Self::Only(fields) => fields.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FieldSelection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(list_or_all(deserializer)?.map_or(Self::All, Self::Only))
    }
}

/// Reads a list, or `None` for the word that means all.
fn list_or_all<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form<T> {
        Word(String),
        List(Vec<T>),
    }
    match Form::deserialize(deserializer)? {
        Form::List(items) => Ok(Some(items)),
        Form::Word(word) if word == ALL_DEP => Ok(None),
        Form::Word(word) => {
            Err(serde::de::Error::custom(format!("expected a list or \"{ALL_DEP}\", found \"{word}\"")))
        }
    }
}

impl<'de> Deserialize<'de> for FeatureDep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Full {
            feature: FeatureKey,
            #[serde(default)]
            select: Option<Vec<String>>,
            #[serde(default)]
            rename: Option<IndexMap<String, String>>,
            #[serde(default)]
            fields_mapping: FieldsMapping,
            #[serde(default, alias = "filters")]
            sql_filters: Option<Vec<String>>,
            #[serde(default)]
            lineage: Lineage,
            #[serde(default)]
            optional: bool,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Key(FeatureKey),
            Full(Box<Full>),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Key(key) => Self::new(key),
            Form::Full(full) => Self {
                select: full.select,
                rename: full.rename,
                fields_mapping: full.fields_mapping,
                filters: full.sql_filters,
                lineage: full.lineage,
                optional: full.optional,
                ..Self::new(full.feature)
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum MappingForm {
    Default {
        #[serde(default)]
        match_suffix: bool,
        #[serde(default)]
        exclude_fields: Vec<FieldKey>,
    },
    Specific {
        mapping: IndexMap<FieldKey, Vec<Vec<String>>>,
    },
    All {},
    None {},
}

#[derive(Serialize, Deserialize)]
struct MappingEnvelope {
    mapping: MappingForm,
}

impl Serialize for FieldsMapping {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mapping = match self.clone() {
            Self::Default { match_suffix, exclude_fields } => MappingForm::Default { match_suffix, exclude_fields },
            Self::All => MappingForm::All {},
            Self::None => MappingForm::None {},
            Self::Specific(mapping) => MappingForm::Specific {
                mapping: mapping
                    .into_iter()
                    .map(|(key, fields)| (key, fields.iter().map(|field| field.parts().to_vec()).collect()))
                    .collect(),
            },
        };
        MappingEnvelope { mapping }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FieldsMapping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match MappingEnvelope::deserialize(deserializer)?.mapping {
            MappingForm::Default { match_suffix, exclude_fields } => Self::Default { match_suffix, exclude_fields },
            MappingForm::All {} => Self::All,
            MappingForm::None {} => Self::None,
            MappingForm::Specific { mapping } => Self::Specific(
                mapping
                    .into_iter()
                    .map(|(key, fields)| {
                        let fields =
                            fields.into_iter().map(FieldKey::from_parts).collect::<Result<BTreeSet<_>, _>>()?;
                        Ok((key, fields))
                    })
                    .collect::<Result<_, InvalidKey>>()
                    .map_err(serde::de::Error::custom)?,
            ),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum LineageForm {
    #[serde(rename = "1:1")]
    Identity {},
    #[serde(rename = "N:1")]
    Aggregation {
        #[serde(default)]
        on: Option<Vec<String>>,
    },
    #[serde(rename = "1:N")]
    Expansion {
        on: Vec<String>,
        #[serde(default)]
        id_generation_pattern: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
struct LineageEnvelope {
    relationship: LineageForm,
}

impl Serialize for Lineage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let relationship = match self.clone() {
            Self::Identity => LineageForm::Identity {},
            Self::Aggregation { on } => LineageForm::Aggregation { on },
            Self::Expansion { on, id_generation_pattern } => LineageForm::Expansion { on, id_generation_pattern },
        };
        LineageEnvelope { relationship }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lineage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match LineageEnvelope::deserialize(deserializer)?.relationship {
            LineageForm::Identity {} => Self::Identity,
            LineageForm::Aggregation { on } => Self::Aggregation { on },
            LineageForm::Expansion { on, id_generation_pattern } => Self::Expansion { on, id_generation_pattern },
        })
    }
}
