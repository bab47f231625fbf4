//! The commands: a file for each.

mod changes;
mod compact;
mod completions;
mod config;
mod copy;
mod delete;
mod describe;
#[cfg(feature = "ballista")]
mod executor;
mod explain;
mod graph;
mod history;
mod impact;
mod init;
mod list;
mod lock;
#[cfg(feature = "mcp")]
mod mcp;
mod push;
mod read;
mod rebase;
mod resolve;
mod scan;
#[cfg(feature = "ballista")]
mod scheduler;
mod since;
mod status;
mod vacuum;
mod write;

use clap::{Parser, Subcommand};

use crate::context::Context;
use crate::failure::Result;
use crate::options::Options;

/// Looks into metadata stores, and tells which samples have to be processed again.
///
/// Stores and features are configured in metaxy.toml: `metaxy init` writes one. Data goes to stdout, everything else to
/// stderr. Exit codes: 0 done, 1 the answer is no, 2 wrong usage, configuration or input, 3 an error of the store.
#[derive(Debug, Parser)]
#[command(name = "metaxy", version, max_term_width = 120)]
pub struct Cli {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Command,
}

/// What a command has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, or yes.
    Yes,
    /// No, to what an option asked.
    No,
}

/// A command, with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(init::Args),
    List(list::Args),
    Describe(describe::Args),
    Graph(graph::Args),
    Status(status::Args),
    Explain(explain::Args),
    Resolve(resolve::Args),
    Read(read::Args),
    Write(write::Args),
    Scan(scan::Args),
    Delete(delete::Args),
    Impact(impact::Args),
    Push(push::Args),
    Lock(lock::Args),
    History(history::Args),
    Copy(copy::Args),
    Rebase(rebase::Args),
    Compact(compact::Args),
    Vacuum(vacuum::Args),
    Config(config::Args),
    Completions(completions::Args),
    #[cfg(feature = "ballista")]
    Scheduler(scheduler::Args),
    #[cfg(feature = "ballista")]
    Executor(executor::Args),
    #[cfg(feature = "mcp")]
    Mcp(mcp::Args),
}

impl Command {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> Result<Answer> {
        match self {
            Self::Init(args) => init::run(&args),
            Self::List(args) => list::run(&args, context).await,
            Self::Describe(args) => describe::run(&args, context).await,
            Self::Graph(args) => graph::run(&args, context).await,
            Self::Status(args) => status::run(&args, context).await,
            Self::Explain(args) => explain::run(&args, context).await,
            Self::Resolve(args) => resolve::run(&args, context).await,
            Self::Read(args) => read::run(&args, context).await,
            Self::Write(args) => write::run(&args, context).await,
            Self::Scan(args) => scan::run(&args, context).await,
            Self::Delete(args) => delete::run(&args, context).await,
            Self::Impact(args) => impact::run(&args, context).await,
            Self::Push(args) => push::run(args, context).await,
            Self::Lock(args) => lock::run(&args, context).await,
            Self::History(args) => history::run(&args, context).await,
            Self::Copy(args) => copy::run(&args, context).await,
            Self::Rebase(args) => rebase::run(&args, context).await,
            Self::Compact(args) => compact::run(&args, context).await,
            Self::Vacuum(args) => vacuum::run(&args, context).await,
            Self::Config(args) => config::run(&args, context),
            Self::Completions(args) => completions::run(&args, context),
            #[cfg(feature = "ballista")]
            Self::Scheduler(args) => scheduler::run(args).await,
            #[cfg(feature = "ballista")]
            Self::Executor(args) => executor::run(args).await,
            #[cfg(feature = "mcp")]
            Self::Mcp(_) => mcp::run(context).await,
        }
    }
}
