//! The locations of a store and of its tables.

use std::path::{Path as FsPath, PathBuf};

use metaxy_core::FeatureKey;
use metaxy_core::error::{Error, Result};
use metaxy_core::secret::mask_url;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use url::Url;

/// The ending of a table's directory.
const ENDING: &str = ".delta";

/// How the key of a feature becomes the path of its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A directory for each part: `raw/video` is in `raw/video.delta`.
    #[default]
    Nested,
    /// All tables beside each other: `raw/video` is in `raw__video.delta`.
    Flat,
}

/// The root of a store.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    /// Its URL; a local one is absolute. Does not end with a slash.
    pub url: Url,
    /// The directory, if it is a local one.
    pub directory: Option<PathBuf>,
    /// The layout of the tables.
    pub layout: Layout,
}

impl Root {
    /// Parses a `root_path`.
    pub fn parse(root_path: &str, layout: Layout) -> Result<Self> {
        let invalid = |reason: String| Error::setting("root_path", reason);
        if root_path.trim().is_empty() {
            return Err(invalid("it is empty; name a directory, or a URL such as s3://bucket/prefix".to_owned()));
        }
        let Some((scheme, _)) = root_path.split_once("://") else {
            let directory = absolute(root_path).map_err(|error| invalid(error.to_string()))?;
            return Self::local(directory, layout);
        };
        let url = Url::parse(root_path).map_err(|error| invalid(format!("it is not a URL: {error}")))?;
        let remote = |url: Url| {
            check_exact(root_path, &url).map_err(invalid)?;
            Ok(Self::remote(url, layout))
        };
        match scheme {
            "file" => {
                check_plain(root_path, &url).map_err(invalid)?;
                let directory = url.to_file_path().map_err(|()| {
                    invalid("a file URL names an absolute path on this machine: file:///path".to_owned())
                })?;
                Self::local(directory, layout)
            }
            "s3" | "s3a" => remote(url),
            "gs" if cfg!(feature = "gcs") => remote(url),
            "az" | "adl" | "abfs" | "abfss" if cfg!(feature = "azure") => remote(url),
            "gs" | "az" | "adl" | "abfs" | "abfss" => {
                let feature = if scheme == "gs" { "gcs" } else { "azure" };
                Err(invalid(format!("{scheme}:// needs the feature `{feature}` of the crate metaxy-delta")))
            }
            _ => Err(invalid(format!("{scheme}:// is not known; use a path, file://, s3://, gs:// or az://"))),
        }
    }

    fn local(directory: PathBuf, layout: Layout) -> Result<Self> {
        let invalid = |reason: String| Error::setting("root_path", reason);
        let url = Url::from_file_path(&directory)
            .map_err(|()| invalid(format!("`{}` is not an absolute path", directory.display())))?;
        match Path::from_absolute_path(&directory) {
            // Readers of logs decode the paths that they list.
            Ok(path) if Path::from_url_path(path.as_ref()).is_ok_and(|decoded| decoded == path) => {}
            Ok(_) => return Err(invalid("the path has an escape such as `%20`; use a name without it".to_owned())),
            Err(error) => return Err(invalid(format!("the path has characters that tables cannot have: {error}"))),
        }
        Ok(Self { url, directory: Some(directory), layout })
    }

    fn remote(mut url: Url, layout: Layout) -> Self {
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        if matches!(url.scheme(), "s3" | "s3a") {
            // A user has no meaning in such a URL, and dependencies log the URL. Only URLs without a host cannot be
            // changed.
            let _ = (url.set_username(""), url.set_password(None));
        }
        Self { url, directory: None, layout }
    }

    /// Returns whether it is in a bucket of S3 or of a compatible server.
    pub fn is_s3(&self) -> bool {
        matches!(self.url.scheme(), "s3" | "s3a")
    }

    /// Returns the location for messages, without secrets.
    pub fn display(&self) -> String {
        match &self.directory {
            Some(directory) => directory.display().to_string(),
            None => mask_url(self.url.as_str()),
        }
    }

    /// Returns the path of a table below the root, with `/` as separator.
    pub fn table_path(&self, key: &FeatureKey) -> String {
        match self.layout {
            Layout::Nested => format!("{}{ENDING}", key.parts().join("/")),
            Layout::Flat => format!("{}{ENDING}", key.table_name()),
        }
    }

    /// Returns the URL of a table.
    pub fn table_url(&self, key: &FeatureKey) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(self.table_path(key).split('/'));
        }
        url
    }

    /// Returns the directory of a table, if the root is a local one.
    pub fn table_directory(&self, key: &FeatureKey) -> Option<PathBuf> {
        self.directory.as_ref().map(|root| root.join(self.table_path(key)))
    }

    /// Returns the location of a table for messages, without secrets.
    pub fn table_location(&self, key: &FeatureKey) -> String {
        match self.table_directory(key) {
            Some(directory) => directory.display().to_string(),
            None => mask_url(self.table_url(key).as_str()),
        }
    }

    /// Returns the name of the table at a path below the root; `None` if the path cannot be that of a table.
    pub fn table_name(&self, path: &str) -> Option<String> {
        let path = path.strip_suffix(ENDING)?;
        match self.layout {
            Layout::Nested => {
                let key: FeatureKey = path.parse().ok()?;
                Some(key.table_name())
            }
            Layout::Flat if path.contains('/') => None,
            Layout::Flat => Some(path.to_owned()),
        }
    }
}

/// Refuses a URL that differs from the object keys that it shows. URLs give some characters a meaning (`?`, `#`, `%20`,
/// `..`) and drop others (tabs): two different roots would be one store.
fn check_exact(root_path: &str, url: &Url) -> Result<(), String> {
    check_plain(root_path, url)?;
    let (authority, key) = after_scheme(root_path);
    let bucket = authority.rsplit('@').next().unwrap_or_default();
    if bucket.is_empty() || url.host_str() != Some(bucket) {
        return Err("a bucket name of letters, digits, `.`, `-` and `_` has to follow the `://`".to_owned());
    }
    let key = key.trim_end_matches('/');
    match Path::from_url_path(url.path()) {
        Ok(path) if path.as_ref() == key => Ok(()),
        _ => Err("object keys are used exactly as they are written: they have no `%20` or other escapes (write a \
                  space), no `.`, `..` or empty parts, and no space at the end"
            .to_owned()),
    }
}

/// Refuses characters that a URL does not treat as a part of its path.
fn check_plain(root_path: &str, url: &Url) -> Result<(), String> {
    if root_path.contains(char::is_control) {
        return Err("it has a control character, such as a tab or the end of a line; remove it".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a URL with `?` or `#` means the location before that character; use a name without them, and \
                    give parameters as `storage_options`"
            .to_owned());
    }
    Ok(())
}

/// Returns the authority and the path of a URL, unchanged.
fn after_scheme(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_once('/').unwrap_or((rest, ""))
}

/// Returns whether a directory has the name of a table's directory.
pub(crate) fn is_table_name(directory: &str) -> bool {
    directory.ends_with(ENDING)
}

fn absolute(path: &str) -> std::io::Result<PathBuf> {
    let expanded = match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let home = std::env::home_dir()
                .ok_or_else(|| std::io::Error::other("`~` stands for a home directory, and there is none"))?;
            home.join(rest.trim_start_matches('/'))
        }
        _ => PathBuf::from(path),
    };
    Ok(normalized(&std::path::absolute(expanded)?))
}

/// Returns the path without `.`, `..` and a slash at its end, which a URL would drop.
fn normalized(path: &FsPath) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> FeatureKey {
        text.parse().expect("a key")
    }

    #[test]
    fn keys_and_paths_are_converted() {
        let nested = Root::parse("/data/store/", Layout::Nested).expect("a root");
        assert_eq!(nested.table_path(&key("faces/per-video")), "faces/per-video.delta");
        assert_eq!(nested.table_name("faces/per-video.delta").as_deref(), Some("faces__per_video"));
        assert_eq!(nested.table_url(&key("a/b")).as_str(), "file:///data/store/a/b.delta");
        assert_eq!(nested.table_location(&key("a/b")), "/data/store/a/b.delta");
        let flat = Root::parse("s3://bucket/prefix/", Layout::Flat).expect("a root");
        assert_eq!(flat.table_url(&key("faces/per-video")).as_str(), "s3://bucket/prefix/faces__per_video.delta");
        let bare = Root::parse("s3://ada:secret@bucket/x", Layout::Flat).expect("a root").table_location(&key("a/b"));
        assert_eq!(bare, "s3://bucket/x/a__b.delta", "a user has no meaning there, and dependencies log the URL");
        assert_eq!(flat.table_name("faces__per_video.delta").as_deref(), Some("faces__per_video"));
        assert_eq!(flat.table_name("a/b.delta"), None);
    }

    #[test]
    fn roots_are_absolute() {
        let here = std::env::current_dir().expect("a directory");
        let root = Root::parse("./some/../store", Layout::Nested).expect("a root");
        assert_eq!(root.directory, Some(here.join("store")));
        let home = std::env::home_dir().expect("a home");
        assert_eq!(Root::parse("~/store", Layout::Nested).expect("a root").directory, Some(home.join("store")));
        assert_eq!(Root::parse("file:///x/y%20z", Layout::Nested).expect("a root").display(), "/x/y z");
    }

    #[test]
    fn unknown_roots_are_refused() {
        for bad in ["", "http://host/x", "gs://bucket/x"] {
            let known = bad.starts_with("gs") && cfg!(feature = "gcs");
            assert!(known || matches!(Root::parse(bad, Layout::Flat), Err(Error::Config { .. })), "{bad}");
        }
    }

    #[test]
    fn roots_equal_the_keys_that_they_show() {
        for (root, key) in [
            ("s3://bucket", ""),
            ("s3://bucket/", ""),
            ("s3a://my.bucket-1_x/a b/ü{1}^~", "a b/ü{1}^~"),
            ("s3://bucket/100%/a%zz/", "100%/a%zz"),
            ("s3://bucket/a\\b:c@d", "a\\b:c@d"),
        ] {
            let root = Root::parse(root, Layout::Nested).expect(root);
            assert_eq!(Path::from_url_path(root.url.path()).expect("a path").as_ref(), key);
        }
        for bad in [
            "s3://bucket/run#1",
            "s3://bucket/run?1",
            "s3://bucket?x/run",
            "s3://bucket#x",
            "s3://bucket/run%201",
            "s3://bucket/run%2F1",
            "s3://bucket/run\t1",
            "s3://bucket/run\n",
            "s3://buc\tket/run",
            "s3://bucket/run ",
            " s3://bucket/run",
            "s3://bucket/a//b",
            "s3://bucket//a",
            "s3://bucket/a/../b",
            "s3://bucket/a/./b",
            "s3:///run",
            "file:///data/run#1",
            "file:///data/run?1",
            "file:///data/r\tun",
            "/data/r\tun",
            "/data/run%201",
            "file:///data/run%25201",
        ] {
            assert!(matches!(Root::parse(bad, Layout::Nested), Err(Error::Config { .. })), "{bad:?}");
        }
    }
}
