//! Pushed definitions: what the features of a project were, push by push, stored beside their rows.
//!
//! A program that deploys definitions pushes them. Others read them from the store, without the code that defines them,
//! and so does the Python package, which writes the same table:
//!
//! ```no_run
//! # use metaxy_core::{FeatureGraph, MetadataStore, Result};
//! # async fn example(store: MetadataStore) -> Result<()> {
//! let pushed = store.push([("git_commit", "4f2a91c")]).project("films").await?;
//! println!("{}: {} features are recorded", pushed.project_version, pushed.features.len());
//!
//! let graph = store.definitions().project("films").graph().await?; // with what they depend on in other projects
//! let store = store.with_graph(graph)?;
//! for definition in store.definitions().feature("raw/video").history().await? {
//!     println!("{} {}", definition.recorded_at_text(), definition.feature_version);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A store holds the definitions that were pushed to it: fallback stores are not searched, and nothing is removed. Its
//! table is `metaxy_system__feature_versions`, with a row for each feature of each push:
//!
//! | column | contents |
//! |---|---|
//! | `project`, `feature_key` | the project, and the key as text |
//! | `metaxy_feature_version`, `metaxy_definition_version`, `metaxy_project_version` | the versions |
//! | `recorded_at` | the time in UTC, in microseconds; of several rows of a feature the newest counts |
//! | `feature_spec`, `feature_schema` | the definition and the schema of the user's columns, as JSON |
//! | `feature_class_path` | the class that defines the feature in Python; null for Rust |
//! | `tags` | what the push was tagged with, as JSON, and the version of the package in `metaxy` |
//! | `deleted_at` | null; no program sets it, and neither this one nor the Python package heeds it |

mod external;
mod history;
mod load;
mod push;
mod record;
mod select;
mod table;

pub use external::{ExternalFeature, FeatureSelection};
pub use history::{ProjectPush, PushedDefinitions};
pub use push::{IntoTags, PushRequest, Pushed};
pub use record::PushedDefinition;
