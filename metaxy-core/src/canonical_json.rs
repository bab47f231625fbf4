//! JSON as Python's `json.dumps` writes it: with the separators `", "` and `": "`, and non-ASCII characters escaped.

use serde_json::Value;

/// The order of the keys of objects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    Sorted,
    AsGiven,
}

/// Writes a value with sorted keys. Definition versions are hashes of this form.
pub(crate) fn to_string(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, Keys::Sorted, &mut out);
    out
}

/// Writes a value with keys in their order. Pushed definitions are stored in this form.
pub(crate) fn to_string_in_order(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, Keys::AsGiven, &mut out);
    out
}

fn write_value(value: &Value, keys: Keys, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => out.push_str(&python_float(float)),
            _ => out.push_str(&number.to_string()),
        },
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_value(item, keys, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            if keys == Keys::Sorted {
                members.sort_by_key(|(key, _)| *key);
            }
            out.push('{');
            for (index, (key, item)) in members.into_iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_string(key, out);
                out.push_str(": ");
                write_value(item, keys, out);
            }
            out.push('}');
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out.push('"');
}

/// Returns Python's `repr` of a float: the shortest digits that parse to it, in exponent form outside 1e-4..1e16.
fn python_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) || value == 0.0 {
        let plain = value.to_string();
        if plain.contains('.') { plain } else { format!("{plain}.0") }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::{to_string, to_string_in_order};
    use serde_json::json;

    #[test]
    fn the_text_equals_that_of_python() {
        let value =
            json!({"b": [1, 1.0, 1e-7, 1e16, 0.0001, 123456789.5, -0.0, 1.5e300], "a": {"ü": "日本🙂\n\u{7f}\"\\"}});
        assert_eq!(
            to_string(&value),
            concat!(
                r#"{"a": {"\u00fc": "\u65e5\u672c\ud83d\ude42\n\u007f\"\\"}, "#,
                r#""b": [1, 1.0, 1e-07, 1e+16, 0.0001, 123456789.5, -0.0, 1.5e+300]}"#,
            )
        );
    }

    #[test]
    fn keys_keep_their_order_if_they_are_not_sorted() {
        let value = json!({"owner": "é", "gpu": [{"z": 1, "a": null}]});
        assert_eq!(to_string_in_order(&value), r#"{"owner": "\u00e9", "gpu": [{"z": 1, "a": null}]}"#);
        assert_eq!(to_string(&value), r#"{"gpu": [{"a": null, "z": 1}], "owner": "\u00e9"}"#);
    }
}
