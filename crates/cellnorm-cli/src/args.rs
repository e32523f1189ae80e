//! The command line.

use clap::{Parser, Subcommand};

use crate::compare::CompareArgs;
use crate::explain::ExplainArgs;
use crate::fold::FoldArgs;
use crate::inspect::InspectArgs;
use crate::normalize::NormalizeArgs;
use crate::semantics::SemanticsCommand;
use crate::stats::StatsArgs;

/// The normalizations of neural networks, side by side.
#[derive(Parser)]
#[command(name = "cellnorm", arg_required_else_help = true, subcommand_negates_reqs = true)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Print the version; with -v, also the machine as the library sees it: its caches, the
    /// thresholds that follow from them, and how fast it copies. The environment variable
    /// CELLNORM_MACHINE overrides what was read, such as
    /// CELLNORM_MACHINE=l3=260M,instruction_set=avx2.
    #[arg(short = 'V', long, required = true)]
    pub version: bool,

    /// Say more.
    #[arg(short, long, requires = "version")]
    pub verbose: bool,

    /// Print the output of --version -v as JSON.
    #[arg(long, requires = "verbose")]
    pub json: bool,
}

/// The commands of `cellnorm`.
#[derive(Subcommand)]
pub enum Command {
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
