//! `cellnorm`: train the same network with each normalization and see what each does; explain what
//! one does with a shape; show what frameworks mean by it.
//!
//! Exit codes: 0 on success; 2 when the arguments or the data are wrong or the output cannot be
//! written to its place; 1 when the program has an error or fails after training began.

use std::process::ExitCode;

use clap::Parser;

// each imports only from those above it; a test holds this order
mod format;
mod output;
mod input;
mod norm;
mod page;
mod data;
mod network;
mod ranks;
mod machine;
mod semantics;
mod explain;
mod fold;
mod inspect;
mod normalize;
mod stats;
mod compare;
mod error;
mod args;

#[cfg(test)]
#[path = "../../module_order.rs"]
mod module_order;

use args::{Cli, Command};
use error::Error;
use ranks::{Ranks, RanksError};

fn main() -> ExitCode {
    // Paths and commands are not wrapped, so that they can be copied. The hook is set once.
    let _ = miette::set_hook(Box::new(|_| {
        Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).build())
    }));
    let cli = Cli::parse();
    let Some(command) = cli.command else {
        return match machine::run(cli.verbose, cli.json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:?}");
                ExitCode::FAILURE
            }
        };
    };
    let ranks = match Ranks::start() {
        Ok(ranks) => ranks,
        Err(error) => {
            eprintln!("{:?}", miette::Report::new(error));
            return ExitCode::from(2);
        }
    };
    match run(command, &ranks) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (code, another_rank) = (error.exit_code(), error.is_of_another_rank());
            ranks.fail(miette::Report::new(error), code, another_rank)
        }
    }
}

fn run(command: Command, ranks: &Ranks) -> Result<(), Error> {
    match command {
        Command::Compare(args) => compare::run(&args, ranks)?,
        Command::Stats(args) => stats::run(&args, ranks)?,
        _ if !ranks.is_alone() => Err(RanksError::OneRank)?,
        Command::Explain(args) => explain::run(&args)?,
        Command::Fold(args) => fold::run(&args)?,
        Command::Inspect(args) => inspect::run(&args)?,
        Command::Normalize(args) => normalize::run(&args)?,
        Command::Semantics(command) => semantics::run(&command)?,
    }
    Ok(())
}
