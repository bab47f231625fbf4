//! The command, as users run it: in a shell, in the directory of a project.

mod buckets;
mod errors;
mod files;
mod guide;
mod help;
mod mcp;
mod outputs;
#[cfg(feature = "sqlite")]
mod page;
mod picture;
mod projects;
mod readme;
mod rebase;
mod scan;
mod scenarios;
mod since;
mod story;
mod support;
