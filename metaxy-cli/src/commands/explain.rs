//! `metaxy explain`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use metaxy_core::store::{ExplainedField, ExplainedInput, Explanation, InputRow, SampleState};
use metaxy_core::{AccessMode, MetadataStore};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Table, Tabular, time_text};

use super::Answer;

/// Explains why samples are new, stale or orphaned
///
/// Shows which of their fields have to be made again, the code versions, and the upstream rows that they are made from.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  metaxy explain processed/transcript 2\n  \
                        metaxy explain processed/transcript video_id=2 video_id=3 --format json")]
pub struct Args {
    /// The feature
    feature: String,
    /// The samples: COLUMN=VALUE,... of the columns that its inputs have in common; the value alone if there is one
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

#[derive(Serialize)]
struct Explanations {
    feature: String,
    feature_version: String,
    samples: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    sample: String,
    state: &'static str,
    fields: Vec<Field>,
    inputs: Vec<Input>,
    other_versions: Vec<String>,
}

#[derive(Serialize)]
struct Field {
    field: String,
    code_version: String,
    changed: bool,
    expected: Option<String>,
    stored: Option<String>,
    made_from: Vec<String>,
}

#[derive(Serialize)]
struct Input {
    feature: String,
    optional: bool,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    sample: String,
    updated_at: Option<String>,
    /// Whether it was written after the stored row of the sample.
    later: bool,
    data_versions: BTreeMap<String, Option<String>>,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let store = context.open(AccessMode::ReadOnly).await?;
    let rows = named(args, &store).await?;
    let explained = store.explain(args.feature.as_str(), rows).await?;
    let answer = Explanations {
        feature: args.feature.clone(),
        feature_version: store.graph().feature_version(args.feature.as_str())?.to_owned(),
        samples: explained.iter().map(Sample::of).collect(),
    };
    context.output().print_or(&answer, || answer.text())?;
    Ok(Answer::Yes)
}

/// Returns rows that name the samples, with ids of the types that the store has.
async fn named(args: &Args, store: &MetadataStore) -> Result<RecordBatch> {
    let columns = store.sample_columns(args.feature.as_str())?;
    if store.graph().spec(args.feature.as_str())?.is_root() {
        // The library tells why a root has no explanation.
        let texts = columns.iter().map(|name| (name, Arc::new(StringArray::from(vec![""])) as ArrayRef));
        return Ok(RecordBatch::try_from_iter(texts).map_err(metaxy_core::Error::from)?);
    }
    let ids = args.ids.iter().map(|id| values(id, &columns)).collect::<Result<Vec<_>>>()?;
    let schema = store.resolve_update(args.feature.as_str()).lazy().await?.schema().clone();
    let mut arrays = Vec::new();
    for (at, name) in columns.iter().enumerate() {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|values| values[at])));
        let typed = schema.field_with_name(name).map_err(metaxy_core::Error::from)?.data_type();
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let array = cast_with_options(&texts, typed, &options)
            .map_err(|_| Failure::usage(format!("`{name}` is of type {typed}; {} is not", args.ids.join(", "))))?;
        arrays.push((name, array));
    }
    Ok(RecordBatch::try_from_iter(arrays).map_err(metaxy_core::Error::from)?)
}

/// Returns the values of an id, in the order of the columns.
fn values<'a>(id: &'a str, columns: &[String]) -> Result<Vec<&'a str>> {
    let pairs: Option<Vec<(&str, &str)>> = id.split(',').map(|part| part.split_once('=')).collect();
    if let Some(pairs) = &pairs {
        let value = |name: &String| pairs.iter().find(|(given, _)| given.trim() == name).map(|(_, value)| *value);
        let values: Option<Vec<&str>> = columns.iter().map(value).collect();
        if let Some(values) = values.filter(|values| values.len() == pairs.len()) {
            return Ok(values);
        }
    }
    match columns {
        // A value may have `=` in it, unless a column is named before.
        [_] => Ok(vec![id]),
        _ => Err(Failure::usage(format!(
            "`{id}` names no sample; give {}",
            columns.iter().map(|name| format!("{name}=VALUE")).collect::<Vec<_>>().join(",")
        ))),
    }
}

impl Sample {
    fn of(explanation: &Explanation) -> Self {
        Self {
            sample: explanation.sample.clone(),
            state: match explanation.state {
                SampleState::UpToDate => "up_to_date",
                SampleState::New => "new",
                SampleState::Stale => "stale",
                SampleState::Orphaned => "orphaned",
                SampleState::Absent => "absent",
            },
            fields: explanation.fields.iter().map(Field::of).collect(),
            inputs: explanation.inputs.iter().map(Input::of).collect(),
            other_versions: explanation.other_versions.clone(),
        }
    }

    fn text(&self, feature: &str) -> String {
        let mut text = format!("{feature} {}: {}\n", self.sample, self.state_text());
        for field in self.fields.iter().filter(|_| self.state != "absent") {
            let _ = writeln!(text, "  {}", field.text());
        }
        for input in &self.inputs {
            input.add_to(&mut text);
        }
        if !self.other_versions.is_empty() {
            let _ = writeln!(text, "  stored under other feature versions: {}", self.other_versions.join(", "));
        }
        text
    }

    fn state_text(&self) -> &'static str {
        match self.state {
            "new" => "new, because it is expected and not stored",
            "stale" => "stale, because it was made from something else",
            "orphaned" => "orphaned, because nothing upstream asks for it",
            "absent" => "neither expected nor stored",
            _ => "up to date",
        }
    }
}

impl Field {
    fn of(field: &ExplainedField) -> Self {
        Self {
            field: field.field.to_string(),
            code_version: field.code_version.clone(),
            changed: field.is_changed(),
            expected: field.expected.clone(),
            stored: field.stored.clone(),
            made_from: field.made_from.iter().map(ToString::to_string).collect(),
        }
    }

    fn text(&self) -> String {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        let state = match self.changed {
            true => format!("has to be made: {} → {}", value(&self.stored), value(&self.expected)),
            false => "is unchanged".to_owned(),
        };
        let made_from = self.made_from.join(", ");
        format!("field {} {state} (code {}, from {made_from})", self.field, self.code_version)
    }
}

impl Input {
    fn of(input: &ExplainedInput) -> Self {
        let row = |row: &InputRow| Row {
            sample: row.sample.clone(),
            updated_at: row.updated_at.map(time_text),
            later: row.is_later,
            data_versions: row.data_versions.iter().map(|(field, one)| (field.to_string(), one.clone())).collect(),
        };
        Self {
            feature: input.feature.to_string(),
            optional: input.optional,
            rows: input.rows.iter().map(row).collect(),
        }
    }

    fn add_to(&self, text: &mut String) {
        if self.rows.is_empty() {
            let optional = if self.optional { ", which is optional" } else { "" };
            let _ = writeln!(text, "  from {}: no row{optional}", self.feature);
        }
        for row in &self.rows {
            let later = if row.later { ", after the sample" } else { "" };
            let version = |(field, version): (&String, &Option<String>)| {
                format!("{field}={}", version.as_deref().unwrap_or("null"))
            };
            let versions: Vec<String> = row.data_versions.iter().map(version).collect();
            let at = row.updated_at.as_deref().unwrap_or("at an unknown time");
            let _ =
                writeln!(text, "  from {} {}: {}, written {at}{later}", self.feature, row.sample, versions.join(", "));
        }
    }
}

impl Explanations {
    fn text(&self) -> String {
        self.samples.iter().map(|sample| sample.text(&self.feature)).collect()
    }
}

/// A row for each field of each sample.
impl Tabular for Explanations {
    fn table(&self) -> Table {
        let rows = self.samples.iter().flat_map(|sample| {
            sample.fields.iter().map(|field| {
                let (expected, stored) = (field.expected.clone(), field.stored.clone());
                vec![
                    sample.sample.clone(),
                    sample.state.to_owned(),
                    field.field.clone(),
                    field.changed.to_string(),
                    stored.unwrap_or_default(),
                    expected.unwrap_or_default(),
                ]
            })
        });
        Table { header: vec!["sample", "state", "field", "changed", "stored", "expected"], rows: rows.collect() }
    }
}
