//! Environment variables, and `${VAR}` in settings.

use std::collections::BTreeMap;
use std::fmt;

use super::document::{Node, Value};

/// Environment variables: those of the process, or given ones.
#[derive(Clone, Default)]
pub struct Environment {
    /// The values by name; `None` for a value that is not text.
    variables: BTreeMap<String, Option<String>>,
}

impl Environment {
    /// Returns the current variables of this process.
    pub fn process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok())))
            .collect();
        Self { variables }
    }

    /// Returns no variables.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the value of a variable.
    pub(super) fn get(&self, name: &str) -> Result<&str, String> {
        match self.variables.get(name) {
            Some(Some(value)) => Ok(value),
            Some(None) => Err(format!("the environment variable {name} does not hold UTF-8 text")),
            None => Err(format!("the environment variable {name} is not set; set it, or write ${{{name}:-default}}")),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().map(|(name, value)| (name.into(), Some(value.into()))).collect() }
    }
}

/// Shows the names only.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// Replaces every `${VAR}` in the strings of a node. If one cannot be replaced, the string is marked: that is an error
/// only when the value is needed.
pub(super) fn expand(node: &mut Node, environment: &Environment) {
    match &mut node.value {
        Value::Table(table) => table.values_mut().for_each(|node| expand(node, environment)),
        Value::Array(items) => items.iter_mut().for_each(|item| expand(item, environment)),
        Value::Scalar(toml::Value::String(text)) => match expand_text(text, environment) {
            Ok(expanded) => *text = expanded,
            Err(reason) => node.unresolved = Some(reason),
        },
        Value::Scalar(_) => {}
    }
}

/// Replaces every `${VAR}` and `${VAR:-default}` in a text.
pub(super) fn expand_text(text: &str, environment: &Environment) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let Some(end) = inner.find('}') else {
            return Err("a `${` is not closed; write ${VAR} or ${VAR:-default}".to_owned());
        };
        out.push_str(lookup(&inner[..end], environment)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Returns the value of the text between the braces. The default is for a variable that is not set; one that is set and
/// empty stays empty.
fn lookup<'a>(inner: &'a str, environment: &'a Environment) -> Result<&'a str, String> {
    let (name, default) = match inner.split_once(':') {
        None => (inner, None),
        Some((name, default)) => match default.strip_prefix('-') {
            Some(default) => (name, Some(default)),
            None => {
                return Err(format!("`${{{name}:...}}` is not a variable; write ${{{name}}} or ${{{name}:-default}}"));
            }
        },
    };
    if name.is_empty() {
        return Err("`${}` names no variable; write ${VAR} or ${VAR:-default}".to_owned());
    }
    match (environment.get(name), default) {
        (Ok(value), _) => Ok(value),
        (Err(_), Some(default)) => Ok(default),
        (Err(reason), None) => Err(reason),
    }
}
