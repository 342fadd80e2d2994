//! The `pbas` command: arguments first ([`args`]), then one of [`commands`]; here is the one place that prints errors.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod fetch;
mod output;
mod paths;
mod progress;

use std::process::ExitCode;

use clap::Parser;
use pbas::ErrorKind;

/// Exit code of a run that was stopped by Ctrl-C or a signal, as shells have it.
const INTERRUPTED: u8 = 130;
/// Exit code of a run that failed, or failed for some inputs.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match commands::run(args) {
        Ok(status) => ExitCode::from(status.code()),
        Err(e) => {
            output::print_error(&e);
            ExitCode::from(if e.kind() == ErrorKind::Interrupted { INTERRUPTED } else { FAILED })
        }
    }
}
