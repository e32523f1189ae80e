//! `cellnorm`: train the same network with each normalization and see what each does.
//!
//! Exit codes: 0 when the comparison was made, 2 when the arguments, the data or the output
//! folder are at fault, 1 when the fault is the program's or appears after training began.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod average;
mod compare;
mod data;
mod error;
mod network;
mod norm;
mod output;
mod progress;
mod record;
mod report;
mod results;
mod score;
mod table;
mod task;
mod train;

use args::{Cli, Command};

fn main() -> ExitCode {
    // Paths and commands stay whole, so that they can be copied. The hook is set once.
    let _ = miette::set_hook(Box::new(|_| Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).build())));
    let Cli { command: Command::Compare(args) } = Cli::parse();
    match compare::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit_code();
            eprintln!("{:?}", miette::Report::new(error));
            ExitCode::from(code)
        }
    }
}
