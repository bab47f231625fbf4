//! The shape of the values in a `jsonb` column without a recorded Arrow type: a column of the Python package, or one
//! whose comment is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

/// The kinds of JSON values of a column, or of a part of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    kinds: BTreeSet<String>,
    members: BTreeMap<String, Shape>,
    item: Option<Box<Shape>>,
}

/// Returns a query for the kinds of values at each path of a column: `path` is a JSON list of member names, in which a
/// number means the items of a list.
pub(crate) fn query(table: &str, column: &str) -> String {
    format!(
        "WITH RECURSIVE parts(path, value) AS ( \
           SELECT '[]'::jsonb, t.{column}::jsonb FROM {table} AS t WHERE t.{column} IS NOT NULL \
           UNION ALL \
           SELECT parts.path || part.step, part.value FROM parts CROSS JOIN LATERAL ( \
             SELECT jsonb_build_array(key) AS step, value \
             FROM jsonb_each(CASE jsonb_typeof(parts.value) WHEN 'object' THEN parts.value ELSE '{{}}' END) \
             UNION ALL \
             SELECT '[0]'::jsonb, value \
             FROM jsonb_array_elements(CASE jsonb_typeof(parts.value) WHEN 'array' THEN parts.value ELSE '[]' END) \
           ) AS part) \
         SELECT path::text AS path, CASE \
           WHEN jsonb_typeof(value) <> 'number' THEN jsonb_typeof(value) \
           WHEN value::text !~ '^-?[0-9]+$' THEN 'number' \
           WHEN value::numeric BETWEEN {} AND {} THEN 'integer' \
           ELSE 'large integer' END AS kind \
         FROM parts GROUP BY 1, 2",
        i64::MIN,
        i64::MAX
    )
}

/// Returns a query for whether members of the first objects of a column are not texts (`others`).
pub(crate) fn sample(table: &str, column: &str) -> String {
    format!(
        "SELECT EXISTS (SELECT 1 FROM (SELECT t.{column}::jsonb AS value FROM {table} AS t LIMIT 100) AS first \
         CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(first.value) WHEN 'object' THEN first.value ELSE '{{}}' END) \
         AS m WHERE jsonb_typeof(m.value) NOT IN ('string', 'null')) AS others"
    )
}

impl Shape {
    /// Adds a row of the query's result.
    pub(crate) fn add(&mut self, path: &str, kind: &str) {
        let steps: Vec<serde_json::Value> = serde_json::from_str(path).unwrap_or_default();
        let mut part = self;
        for step in steps {
            part = match step {
                serde_json::Value::String(name) => part.members.entry(name).or_default(),
                _ => part.item.get_or_insert_default(),
            };
        }
        part.kinds.insert(kind.to_owned());
    }

    /// Returns the struct type if every value is an object or null, as the Python package reads them.
    pub(crate) fn object_type(&self) -> Option<DataType> {
        self.data_type().ok().flatten().filter(|data_type| matches!(data_type, DataType::Struct(_)))
    }

    /// Returns the type in which values of the given type are written; `None` if they do not fit the existing values.
    pub(crate) fn type_for(&self, given: &DataType) -> Option<DataType> {
        match self.counted_as(given).data_type() {
            Ok(Some(data_type)) if std::mem::discriminant(&data_type) == std::mem::discriminant(given) => {
                Some(data_type)
            }
            Ok(None) => Some(given.clone()),
            _ => None,
        }
    }

    /// Returns the type of the values; `None` if all are null, an error if they are of several kinds.
    fn data_type(&self) -> Result<Option<DataType>, Mixed> {
        let kinds: Vec<&str> = self.kinds.iter().map(String::as_str).filter(|kind| *kind != "null").collect();
        Ok(Some(match kinds.as_slice() {
            [] => return Ok(None),
            ["object"] => {
                let mut members = Vec::with_capacity(self.members.len());
                for (name, shape) in &self.members {
                    members.extend(shape.data_type()?.map(|data_type| Field::new(name, data_type, true)));
                }
                if members.is_empty() {
                    return Ok(None);
                }
                DataType::Struct(members.into())
            }
            ["array"] => {
                let item = self.item.as_ref().map(|item| item.data_type()).transpose()?.flatten();
                let Some(item) = item else { return Ok(None) };
                DataType::List(Arc::new(Field::new_list_field(item, true)))
            }
            ["string"] => DataType::Utf8,
            ["boolean"] => DataType::Boolean,
            ["integer"] => DataType::Int64,
            ["number"] | ["integer", "number"] => DataType::Float64,
            [kind] if kind.starts_with("as ") => counts().into_iter().find(|t| as_kind(t) == *kind).ok_or(Mixed)?,
            _ => return Err(Mixed),
        }))
    }

    /// Returns the shape with integers as counts of times, if times are to be written.
    fn counted_as(&self, given: &DataType) -> Self {
        let mut shape = self.clone();
        match given {
            DataType::Struct(members) => {
                for member in members {
                    if let Some(own) = shape.members.get_mut(member.name()) {
                        *own = own.counted_as(member.data_type());
                    }
                }
            }
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                shape.item = shape.item.map(|own| Box::new(own.counted_as(item.data_type())));
            }
            given if counts().contains(given) && shape.kinds.remove("integer") => {
                shape.kinds.insert(as_kind(given));
            }
            _ => {}
        }
        shape
    }
}

/// Values of several kinds at one path.
struct Mixed;

/// Returns the types whose values are stored as 64-bit counts.
fn counts() -> Vec<DataType> {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let mut types = vec![DataType::Date64, DataType::Time64(Microsecond), DataType::Time64(Nanosecond)];
    for unit in [Second, Millisecond, Microsecond, Nanosecond] {
        types.extend([
            DataType::Timestamp(unit, None),
            DataType::Timestamp(unit, Some("UTC".into())),
            DataType::Duration(unit),
        ]);
    }
    types
}

fn as_kind(data_type: &DataType) -> String {
    format!("as {data_type}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(rows: &[(&str, &str)]) -> Shape {
        let mut shape = Shape::default();
        rows.iter().for_each(|(path, kind)| shape.add(path, kind));
        shape
    }

    #[test]
    fn objects_are_structs() {
        let found = shape(&[
            ("[]", "object"),
            ("[]", "null"),
            ("[\"a\"]", "integer"),
            ("[\"b\"]", "array"),
            ("[\"b\",0]", "number"),
            ("[\"c\"]", "null"),
        ]);
        let item = Arc::new(Field::new_list_field(DataType::Float64, true));
        let members = vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::List(item), true)];
        assert_eq!(found.object_type(), Some(DataType::Struct(members.into())));
    }

    #[test]
    fn values_of_several_kinds_are_text() {
        assert_eq!(shape(&[("[]", "object"), ("[]", "string")]).object_type(), None);
        assert_eq!(shape(&[("[]", "object"), ("[\"a\"]", "integer"), ("[\"a\"]", "string")]).object_type(), None);
        assert_eq!(shape(&[("[]", "array"), ("[0]", "integer")]).object_type(), None);
    }

    #[test]
    fn integers_are_read_as_the_written_counts() {
        let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let given = DataType::Struct(vec![Field::new("t", time, true)].into());
        let found = shape(&[("[]", "object"), ("[\"t\"]", "integer")]);
        assert_eq!(found.type_for(&given), Some(given.clone()));
        let text = DataType::Struct(vec![Field::new("t", DataType::Utf8, true)].into());
        assert_ne!(found.type_for(&text), Some(text));
    }
}
