//! `cellnorm`: train the same network with each normalization and see what each does; explain what
//! one does with a shape; show what frameworks mean by it.
//!
//! Exit codes: 0 when that was done, 2 when the arguments, the data or the place of the output are
//! at fault, 1 when the fault is the program's or appears after training began.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod average;
mod compare;
mod data;
mod error;
mod explain;
mod fold;
mod inspect;
mod kept;
mod machine;
mod network;
mod norm;
mod normalize;
mod numbers;
mod output;
mod progress;
mod ranks;
mod record;
mod report;
mod results;
mod score;
mod semantics;
mod stats;
mod table;
mod task;
mod train;

use args::{Cli, Command};
use ranks::{Ranks, RanksError};

fn main() -> ExitCode {
    // Paths and commands stay whole, so that they can be copied. The hook is set once.
    let _ = miette::set_hook(Box::new(|_| {
        Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).build())
    }));
    let cli = Cli::parse();
    let Some(command) = cli.command else {
        return match machine::run(cli.verbose, cli.json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{:?}", miette::Report::new(error));
                ExitCode::FAILURE
            }
        };
    };
    let ranks = match Ranks::start() {
        Ok(ranks) => ranks,
        Err(error) => {
            let code = error.exit_code();
            eprintln!("{:?}", miette::Report::new(error));
            return ExitCode::from(code);
        }
    };
    let done = match command {
        Command::Compare(args) => compare::run(&args, &ranks),
        Command::Stats(args) => stats::run(&args, &ranks),
        _ if !ranks.is_alone() => Err(RanksError::OneRank.into()),
        Command::Explain(args) => explain::run(&args),
        Command::Fold(args) => fold::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Normalize(args) => normalize::run(&args),
        Command::Semantics(command) => semantics::run(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ranks.fail(error),
    }
}
