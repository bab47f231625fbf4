//! Finds the file of a configuration.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::registry::Origin;

use super::document::Node;
use super::variables::{self, Environment};
use super::{MetaxyConfig, extend, overlay, store};

/// Loads a configuration from sources that can be chosen.
///
/// ```
/// use metaxy_core::config::{Environment, MetaxyConfig};
/// let environment = Environment::from_iter([("METAXY_STORE", "prod")]);
/// let config = MetaxyConfig::loader().environment(environment).load_text("store = 'dev'")?;
/// assert_eq!(config.store(), "prod");
/// # Ok::<(), metaxy_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is loaded before `load`"]
pub struct ConfigLoader {
    file: Option<PathBuf>,
    directory: Option<PathBuf>,
    search_parents: bool,
    overrides: bool,
    environment: Option<Environment>,
}

impl ConfigLoader {
    pub(super) fn new() -> Self {
        Self { file: None, directory: None, search_parents: true, overrides: true, environment: None }
    }

    /// Sets the file, so that no other is looked for.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Sets the directory in which the search for the file starts, in place of the working directory.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Sets whether parent directories are searched too; on by default.
    pub fn search_parents(mut self, search: bool) -> Self {
        self.search_parents = search;
        self
    }

    /// Sets the environment variables, in place of those of the process.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Ignores `METAXY_*` variables that would override the file.
    pub fn without_overrides(mut self) -> Self {
        self.overrides = false;
        self
    }

    /// Loads the configuration; the defaults if there is no file.
    ///
    /// # Errors
    /// The errors of [`MetaxyConfig::load`].
    pub fn load(mut self) -> Result<MetaxyConfig> {
        let environment = self.environment.take().unwrap_or_else(Environment::process);
        let file = match self.file.take().map_or_else(|| self.named_by(&environment), |file| Ok(Some(file)))? {
            Some(file) => Some(file),
            None => self.find()?,
        };
        let document = match &file {
            Some(file) => extend::load(file, &environment)?,
            None => Node::table(Origin::default()),
        };
        self.finish(file, document, &environment)
    }

    /// Loads the configuration in a text.
    ///
    /// # Errors
    /// The errors of [`MetaxyConfig::load`].
    pub fn load_text(mut self, text: &str) -> Result<MetaxyConfig> {
        let environment = self.environment.take().unwrap_or_else(Environment::process);
        let document = extend::load_text(text, &self.start(), &environment)?;
        self.finish(None, document, &environment)
    }

    fn finish(&self, file: Option<PathBuf>, mut document: Node, environment: &Environment) -> Result<MetaxyConfig> {
        let beside = store::normalize(&mut document)?;
        variables::expand(&mut document, environment);
        if self.overrides {
            overlay::apply(&mut document, environment)?;
        }
        let mut config = MetaxyConfig::from_document(file, document, &beside, &self.start())?;
        let of_run = environment.get("METAXY_MATERIALIZATION_ID").ok().filter(|id| self.overrides && !id.is_empty());
        config.materialization_id = of_run.map(str::to_owned);
        Ok(config)
    }

    fn named_by(&self, environment: &Environment) -> Result<Option<PathBuf>> {
        let named = environment.get("METAXY_CONFIG").ok().filter(|path| self.overrides && !path.is_empty());
        let Some(path) = named.map(PathBuf::from) else { return Ok(None) };
        if !path.exists() {
            let origin = Origin { file: Some(path), line: None, variable: Some("METAXY_CONFIG".to_owned()) };
            return Err(origin.error("", "the file does not exist"));
        }
        Ok(Some(path))
    }

    fn start(&self) -> PathBuf {
        let given = self.directory.clone().unwrap_or_else(|| PathBuf::from("."));
        std::path::absolute(&given).unwrap_or(given)
    }

    fn find(&self) -> Result<Option<PathBuf>> {
        let levels = if self.search_parents { usize::MAX } else { 1 };
        for directory in self.start().ancestors().take(levels) {
            if let Some(file) = find_in(directory)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

/// Finds the file of a directory: `metaxy.toml`, or else a `pyproject.toml` with `[tool.metaxy]`.
fn find_in(directory: &Path) -> Result<Option<PathBuf>> {
    let own = directory.join("metaxy.toml");
    if is_named(&own) {
        return Ok(Some(own));
    }
    let project = directory.join(extend::PYPROJECT);
    let found = is_named(&project) && extend::read_file(&project)?.is_some();
    Ok(found.then_some(project))
}

/// Returns whether a directory has a file of this name. A broken link counts: reading it is an error.
fn is_named(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
