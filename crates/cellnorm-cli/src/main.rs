//! `cellnorm`: train the same network with each normalization and see what each does; explain what
//! one does with a shape; show what frameworks mean by it.
//!
//! Exit codes: 0 on success; 2 when the arguments or the data are wrong or the output cannot be
//! written to its place; 1 when the program has an error or fails after training began.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use miette::Diagnostic;
use thiserror::Error;

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

#[cfg(test)]
#[path = "../../module_order.rs"]
mod module_order;

use compare::{CompareArgs, CompareError};
use explain::{ExplainArgs, ExplainError};
use fold::{CheckpointError, FoldArgs, FoldError};
use inspect::{InspectArgs, InspectError};
use normalize::{NormalizeArgs, NormalizeError};
use ranks::{Ranks, RanksError};
use semantics::{SemanticsCommand, SemanticsError};
use stats::{StatsArgs, StatsError};

/// The normalizations of neural networks, side by side.
#[derive(Parser)]
#[command(name = "cellnorm", arg_required_else_help = true, subcommand_negates_reqs = true)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// Print the version; with -v, also the machine as the library sees it: its caches, the
    /// thresholds that follow from them, and how fast it copies. The environment variable
    /// CELLNORM_MACHINE overrides what was read, such as
    /// CELLNORM_MACHINE=l3=260M,instruction_set=avx2.
    #[arg(short = 'V', long, required = true)]
    version: bool,

    /// Say more.
    #[arg(short, long, requires = "version")]
    verbose: bool,

    /// Print the output of --version -v as JSON.
    #[arg(long, requires = "verbose")]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Train one small network once with each normalization, and compare.
    ///
    /// With --task image, the network is a 3×3 convolution to 10 channels, the normalization, and
    /// two dense layers (128 ReLU with dropout 0.2, then 10 classes). With no other flag it takes
    /// 4,000 training and 1,000 test images of Fashion-MNIST that come with the program.
    ///
    /// With --task sequence, it is an LSTM of 64 units, normalized in three places at each time
    /// step, and a dense layer on its last state (9 classes). It learns to tell speakers by 270
    /// utterances of 7 to 26 steps of 12 numbers, and is tested on 370 of up to 29 steps:
    /// JapaneseVowels by M. Kudo, J. Toyama, M. Shimbo, "Multidimensional curve classification
    /// using passing-through regions", 1999, UCI Machine Learning Repository, CC BY 4.0; it comes
    /// with the program. batch and step normalize each time step over the sequences that have
    /// it, with running statistics shared by all steps (batch) or of each step (step).
    ///
    /// Both are trained with Adam. Every network starts from the same weights and sees the same
    /// batches.
    ///
    /// Prints a table and writes results.json and report.html. All timings in results.json are
    /// in objects named "timing"; without them (jq 'del(.. | .timing?)') two runs with the same
    /// flags are identical.
    Compare(CompareArgs),

    /// Show which values share a statistic for a shape, and what that costs.
    ///
    /// Draws the cube of samples, channels and positions with the values of one statistic marked,
    /// as in figure 2 of "Group Normalization" (Wu and He, 2018), and prints the number of
    /// statistics, their noise, the parameters, the state kept for inference, the bytes moved, and
    /// warnings of likely mistakes.
    Explain(ExplainArgs),

    /// Fold the batch normalizations of a trained ONNX model into its layers, and prove it.
    ///
    /// A normalization with fixed statistics is a scale and a shift of each channel, and becomes
    /// part of the convolution or dense layer before or after it, wherever that is exact; so do
    /// products and sums with constants, and the scale and shift of layer and RMS normalizations.
    /// Each node that stays is named with a reason. Weights are computed in 64 bits and rounded
    /// once.
    ///
    /// Every fold is then proven on its own with what was written, and the whole model is run
    /// before and after. The result is written beside its place and moved into it when it has
    /// passed.
    Fold(FoldArgs),

    /// Inspect every normalization of a trained model: what it does, whether its numbers are sound,
    /// whether it folds.
    ///
    /// Takes an ONNX model, or a checkpoint (.safetensors, .npz, .pth, .pt), in which names and
    /// shapes tell what a normalization is. Warns of channels that are dead or explode, and of
    /// variances that are negative or not finite.
    Inspect(InspectArgs),

    /// Normalize data with the statistics of a data set: (x − mean) / deviation, written as .npy of
    /// 32-bit floats.
    ///
    /// Integers are divided by 255 or 65,535 first. --invert undoes the normalization.
    Normalize(NormalizeArgs),

    /// Show what frameworks mean by a normalization, and what differs between two.
    #[command(subcommand)]
    Semantics(SemanticsCommand),

    /// Measure the mean and the standard deviation of a data set.
    ///
    /// Takes folders of images (PNG, JPEG, WebP, TIFF), IDX, .npy, .npz, Parquet, CSV, TSV and
    /// safetensors. Integers of 8 and 16 bits are counted, so the results are exact, and the same
    /// on any number of threads and machines; the moments of floats are merged in 64 bits in an
    /// order that depends on the data alone. NaN and infinite values are counted and left out.
    Stats(StatsArgs),
}

fn main() -> ExitCode {
    // Paths and commands are not wrapped, so that they can be copied. The hook is set once.
    let _ = miette::set_hook(Box::new(|_| {
        Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).build())
    }));
    let fail = |error: miette::Report, code: u8| {
        // nobody may read it
        let _ = writeln!(io::stderr(), "{error:?}");
        ExitCode::from(code)
    };
    let cli = Cli::parse();
    let Some(command) = cli.command else {
        let done = machine::run(cli.verbose, cli.json);
        return done.map_or_else(|error| fail(error, 1), |()| ExitCode::SUCCESS);
    };
    let ranks = match Ranks::start() {
        Ok(ranks) => ranks,
        Err(error) => return fail(error.into(), 2),
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

#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
enum Error {
    #[diagnostic(transparent)]
    Compare(#[from] CompareError),
    #[diagnostic(transparent)]
    Explain(#[from] ExplainError),
    #[diagnostic(transparent)]
    Fold(#[from] FoldError),
    #[diagnostic(transparent)]
    Inspect(#[from] InspectError),
    #[diagnostic(transparent)]
    Normalize(#[from] NormalizeError),
    #[diagnostic(transparent)]
    Ranks(#[from] RanksError),
    #[diagnostic(transparent)]
    Semantics(#[from] SemanticsError),
    #[diagnostic(transparent)]
    Stats(#[from] StatsError),
}

impl Error {
    /// 2 when the user can put it right before the work begins, 1 otherwise.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Compare(CompareError::Output(error))
            | Self::Explain(ExplainError::Output(error))
            | Self::Fold(FoldError::Output(error))
            | Self::Inspect(InspectError::Output(error))
            | Self::Normalize(NormalizeError::Output(error))
            | Self::Semantics(SemanticsError::Output(error))
            | Self::Stats(StatsError::Output(error)) => error.exit_code(),
            Self::Compare(CompareError::Input(error))
            | Self::Fold(FoldError::Input(error))
            | Self::Normalize(NormalizeError::Input(error))
            | Self::Stats(StatsError::Input(error)) => error.exit_code(),
            Self::Compare(CompareError::Print { .. } | CompareError::Tensor(_))
            | Self::Fold(
                FoldError::Check { .. } | FoldError::Checkpoint(CheckpointError::TooFar { .. }),
            )
            | Self::Stats(StatsError::Drift { .. }) => 1,
            _ => 2,
        }
    }

    /// Whether this rank only heard of an error of another one.
    fn is_of_another_rank(&self) -> bool {
        use cellnorm::Error::{RankFailed, RankGone};
        matches!(
            self,
            Self::Compare(CompareError::Refused(RankFailed { .. } | RankGone { .. }))
                | Self::Stats(StatsError::Refused(RankFailed { .. } | RankGone { .. }))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands in the table of the tutorials' features.
    #[test]
    fn the_commands_of_the_page_of_features_are_understood() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/seed-features.md");
        let page = std::fs::read_to_string(page).expect("the page");
        let lines = page.lines().filter_map(|row| row.strip_prefix("| 0")?.split(" | ").nth(3));
        let commands: Vec<&str> = lines
            .map(|line| line.trim_matches('`'))
            .filter(|line| line.starts_with("cellnorm "))
            .collect();
        assert!(commands.len() >= 10, "{commands:?}");
        for command in commands {
            let cli = Cli::try_parse_from(command.split(' '))
                .unwrap_or_else(|error| panic!("{command}: {error}"));
            if let Some(Command::Compare(args)) = cli.command {
                let known = args.task.norms();
                let (norms, _) = args.norms_and_batch_sizes();
                assert!(
                    norms.iter().all(|norm| known.contains(norm)),
                    "{command}: not for this task"
                );
            }
        }
    }
}
