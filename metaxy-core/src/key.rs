//! Keys of features and fields, and the names derived from them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is not a {kind} key: {reason}")]
pub struct InvalidKey {
    /// `feature` or `field`.
    pub kind: &'static str,
    /// The key as it was given.
    pub key: String,
    /// Which rule it breaks.
    pub reason: String,
}

type Result<T, E = InvalidKey> = std::result::Result<T, E>;

/// Checks one part; `first` parts must start with a letter or `_`.
fn check_part(part: &str, first: bool) -> Result<(), String> {
    let mut chars = part.chars();
    let Some(start) = chars.next() else {
        return Err("a part is empty".to_owned());
    };
    if !(start.is_ascii_lowercase() || start == '_' || (!first && start.is_ascii_digit())) {
        let digit = if first { "" } else { ", a digit" };
        return Err(format!("the part `{part}` must start with a lower-case letter{digit} or `_`"));
    }
    if let Some(bad) = chars.find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_' || *c == '-')) {
        return Err(format!(
            "the part `{part}` holds `{}`; lower-case letters, digits, `_` and `-` are allowed",
            bad.escape_debug()
        ));
    }
    if part.contains("__") {
        return Err(format!("the part `{part}` holds `__`, which separates parts in table names"));
    }
    Ok(())
}

fn check_parts(kind: &'static str, parts: Vec<String>) -> Result<Vec<String>> {
    let invalid = |reason: String| InvalidKey { kind, key: parts.join("/"), reason };
    if parts.is_empty() {
        return Err(invalid("it has no parts".to_owned()));
    }
    for (index, part) in parts.iter().enumerate() {
        check_part(part, index == 0).map_err(invalid)?;
    }
    Ok(parts)
}

/// A key as JSON may give it: `"a/b"` or `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawKey {
    Slashed(String),
    Parts(Vec<String>),
}

macro_rules! key_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Vec<String>);

        impl $name {
            /// Returns the key of these parts.
            ///
            /// # Errors
            /// [`InvalidKey`] if a part is empty, contains `/` or `__`, or contains a character that keys may not have.
            pub fn from_parts<S: AsRef<str>>(parts: impl IntoIterator<Item = S>) -> Result<Self> {
                check_parts($kind, parts.into_iter().map(|part| part.as_ref().to_owned()).collect()).map(Self)
            }

            /// Returns the parts, at least one.
            pub fn parts(&self) -> &[String] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.join("/"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.to_string())
            }
        }

        impl FromStr for $name {
            type Err = InvalidKey;

            fn from_str(text: &str) -> Result<Self> {
                Self::from_parts(text.split('/'))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidKey;

            fn try_from(text: &str) -> Result<Self> {
                text.parse()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match RawKey::deserialize(deserializer)? {
                    RawKey::Slashed(text) => text.parse(),
                    RawKey::Parts(parts) => Self::from_parts(parts),
                }
                .map_err(serde::de::Error::custom)
            }
        }
    };
}

key_type! {
    /// The key of a feature, written `raw/video`.
    ///
    /// ```
    /// use metaxy_core::FeatureKey;
    /// let key: FeatureKey = "processed/face-crops".parse()?;
    /// assert_eq!(key.table_name(), "processed__face_crops");
    /// assert_eq!(key.to_string(), "processed/face-crops");
    /// # Ok::<(), metaxy_core::Error>(())
    /// ```
    FeatureKey, "feature"
}

key_type! {
    /// The key of a field within its feature, written `audio/english`.
    FieldKey, "field"
}

impl FeatureKey {
    /// Returns the name of the feature's table: the parts joined by `__`, with `_` for `-`.
    pub fn table_name(&self) -> String {
        self.0.join("__").replace('-', "_")
    }
}

impl FieldKey {
    /// Returns the name of the field inside the by-field columns: the parts joined by `_`.
    pub fn struct_key(&self) -> String {
        self.0.join("_")
    }

    /// Returns whether the last parts of this key equal `other`.
    pub fn ends_with(&self, other: &FieldKey) -> bool {
        self.0.ends_with(&other.0)
    }
}

/// A field of a feature, written `raw/video.audio`. It is ordered as that string.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FqFieldKey {
    /// The feature.
    pub feature: FeatureKey,
    /// The field.
    pub field: FieldKey,
}

impl fmt::Display for FqFieldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.feature, self.field)
    }
}

impl Ord for FqFieldKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

impl PartialOrd for FqFieldKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Returns why a project cannot have this name.
pub(crate) fn invalid_project(name: &str) -> Option<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match name {
        "" => Some("the project's name is empty".to_owned()),
        name if name.contains("__") => {
            Some("the project's name holds `__`, which separates the parts of table names".to_owned())
        }
        name if !name.chars().all(is_allowed) => {
            Some("the project's name may hold letters, digits, `_` and `-` only".to_owned())
        }
        _ => None,
    }
}

/// A value that names a feature: `"raw/video"`, `["raw", "video"]`, a key, a spec.
pub trait IntoFeatureKey {
    /// Returns the key.
    ///
    /// # Errors
    /// [`InvalidKey`] if the text is not a feature key.
    fn into_feature_key(self) -> Result<FeatureKey>;
}

impl IntoFeatureKey for FeatureKey {
    fn into_feature_key(self) -> Result<FeatureKey> {
        Ok(self)
    }
}

impl IntoFeatureKey for &FeatureKey {
    fn into_feature_key(self) -> Result<FeatureKey> {
        Ok(self.clone())
    }
}

impl IntoFeatureKey for &str {
    fn into_feature_key(self) -> Result<FeatureKey> {
        self.parse()
    }
}

impl IntoFeatureKey for String {
    fn into_feature_key(self) -> Result<FeatureKey> {
        self.parse()
    }
}

impl IntoFeatureKey for &String {
    fn into_feature_key(self) -> Result<FeatureKey> {
        self.parse()
    }
}

impl<S: AsRef<str>, const N: usize> IntoFeatureKey for [S; N] {
    fn into_feature_key(self) -> Result<FeatureKey> {
        FeatureKey::from_parts(self)
    }
}

impl<S: AsRef<str>> IntoFeatureKey for Vec<S> {
    fn into_feature_key(self) -> Result<FeatureKey> {
        FeatureKey::from_parts(self)
    }
}

/// A value that names a field: `"audio"`, `["audio", "english"]`, a key.
pub trait IntoFieldKey {
    /// Returns the key.
    ///
    /// # Errors
    /// [`InvalidKey`] if the text is not a field key.
    fn into_field_key(self) -> Result<FieldKey>;
}

impl IntoFieldKey for FieldKey {
    fn into_field_key(self) -> Result<FieldKey> {
        Ok(self)
    }
}

impl IntoFieldKey for &FieldKey {
    fn into_field_key(self) -> Result<FieldKey> {
        Ok(self.clone())
    }
}

impl IntoFieldKey for &str {
    fn into_field_key(self) -> Result<FieldKey> {
        self.parse()
    }
}

impl IntoFieldKey for String {
    fn into_field_key(self) -> Result<FieldKey> {
        self.parse()
    }
}

impl<S: AsRef<str>, const N: usize> IntoFieldKey for [S; N] {
    fn into_field_key(self) -> Result<FieldKey> {
        FieldKey::from_parts(self)
    }
}

impl<S: AsRef<str>> IntoFieldKey for Vec<S> {
    fn into_field_key(self) -> Result<FieldKey> {
        FieldKey::from_parts(self)
    }
}
