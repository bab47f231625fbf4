//! `metaxy completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::context::Context;
use crate::failure::Result;

use super::{Answer, Cli};

/// Prints a script that completes commands and options in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  metaxy completions bash")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Answer> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "metaxy", &mut script);
    context.output().print_text(&String::from_utf8_lossy(&script))?;
    Ok(Answer::Yes)
}
