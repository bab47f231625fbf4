#![doc = include_str!("../README.md")]

mod backends;
mod commands;
mod context;
mod failure;
mod files;
mod options;
mod output;
mod versions;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use commands::{Answer, Cli};
use context::Context;
use failure::Failure;
use output::note;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let Cli { options, command } = cli;
    if options.verbose > 0 {
        log_to_stderr(options.verbose);
    }
    let verbose = options.verbose > 0;
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::io("start threads", error), verbose),
    };
    match runtime.block_on(command.run(&Context::new(options))) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(failure) => report(&failure, verbose),
    }
}

/// Prints what is wrong with the arguments; or the help, if that was asked for.
fn refuse(error: &clap::Error) -> ExitCode {
    // Nobody is left to be told that printing failed.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

/// Prints an error, and returns its code. The causes are printed if `verbose` is set.
fn report(failure: &Failure, verbose: bool) -> ExitCode {
    if failure.is_closed_pipe() {
        return ExitCode::SUCCESS;
    }
    note(format!("error: {failure}"));
    if verbose {
        let mut cause = std::error::Error::source(failure);
        while let Some(error) = cause {
            note(format!("  caused by: {error}"));
            cause = error.source();
        }
    }
    ExitCode::from(failure.code())
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_ansi(is_terminal && !no_color)
        .without_time()
        .init();
}
