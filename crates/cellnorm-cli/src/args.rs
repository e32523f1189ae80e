//! The command line: what can be asked for, and its defaults.

use std::fmt::Write;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::explain::ExplainArgs;
use crate::fold::FoldArgs;
use crate::inspect::InspectArgs;
use crate::norm::Norm;
use crate::normalize::NormalizeArgs;
use crate::semantics::SemanticsCommand;
use crate::stats::StatsArgs;
use crate::task::Task;

/// The normalizations of neural networks, side by side.
#[derive(Parser)]
#[command(name = "cellnorm", arg_required_else_help = true, subcommand_negates_reqs = true)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
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

    /// Print what --version -v says as JSON.
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
    /// as in figure 2 of "Group Normalization" (Wu and He, 2018), and tells the number of
    /// statistics, their noise, the parameters, what is kept, the bytes moved, and what is likely
    /// a mistake.
    Explain(ExplainArgs),

    /// Fold the batch normalizations of a trained ONNX model into its layers, and prove it.
    ///
    /// A normalization with fixed statistics is a scale and a shift of each channel, and becomes
    /// part of the convolution or dense layer before it or behind it, wherever that is exact; so do
    /// products and sums with constants, and what layer and RMS normalizations end with. What stays
    /// is named with a reason. Weights are computed in 64 bits and rounded once.
    ///
    /// Every fold is then proven on its own with what was written, and the whole model is run
    /// before and after. The result is written beside its place and moved into it when it has
    /// passed.
    Fold(FoldArgs),

    /// Look at every normalization of a trained model: what it does, whether its numbers are sound,
    /// whether it folds.
    ///
    /// Takes an ONNX model, or a checkpoint (.safetensors, .npz, .pth, .pt), in which names and
    /// shapes tell what a normalization is. Warns of channels that are dead or explode, and of
    /// variances that are negative or not finite.
    Inspect(InspectArgs),

    /// Normalize data with the statistics of a data set: (x − mean) / deviation, written as .npy of
    /// 32-bit floats.
    ///
    /// Integers are divided by 255 or 65,535 first. With --invert, the way back.
    Normalize(NormalizeArgs),

    /// Show what frameworks mean by a normalization, and what differs between two.
    #[command(subcommand)]
    Semantics(SemanticsCommand),

    /// Measure the mean and the standard deviation of a data set.
    ///
    /// Takes folders of images (PNG, JPEG, WebP, TIFF), IDX, .npy, .npz, Parquet, CSV, TSV and
    /// safetensors. Integers of 8 and 16 bits are counted, so the results are exact, and the same
    /// on any number of threads and machines; of floats the moments are merged in 64 bits in an
    /// order that the data alone decide. NaN and infinite values are counted and left out.
    Stats(StatsArgs),
}

/// The flags of `cellnorm compare`.
#[derive(Args)]
pub struct CompareArgs {
    /// What the networks learn.
    #[arg(long, value_name = "TASK", value_enum, default_value = "image")]
    pub task: Task,

    /// Normalizations to compare, separated by commas; all is every one that suits the task.
    ///
    /// When not given, images take none,batch,layer,instance,group,rms; sequences take all:
    /// none,layer,step,batch,rms.
    #[arg(long, value_name = "NAMES", value_parser = choice(), value_delimiter = ',')]
    pub norms: Vec<Choice>,

    /// Passes over the training data [default: 3 for images, 30 for sequences].
    #[arg(long, value_name = "N", value_parser = up_to::<100_000>)]
    pub epochs: Option<usize>,

    /// Batch sizes, separated by commas; every normalization is trained with each.
    #[arg(long, value_name = "SIZES", value_delimiter = ',', default_values_t = [32], value_parser = at_least_one)]
    pub batch_sizes: Vec<usize>,

    /// Seed of the weights, the order of the samples and the dropout.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,

    /// Seeds to train with, from --seed on; table and report show their means.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,

    /// Folder for results.json and report.html, made if missing.
    #[arg(long, value_name = "DIR", default_value = "cellnorm-report")]
    pub out: PathBuf,

    /// Go on with a comparison that was interrupted: with the first training that
    /// results.partial.json in that folder does not have.
    #[arg(long)]
    pub resume: bool,

    /// Folder with the four IDX files of MNIST or Fashion-MNIST, gzipped or not; for images alone.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Leave the data as they are (pixels between 0 and 1), to see the difference; otherwise each
    /// channel of the training data gets the mean 0 and the standard deviation 1.
    #[arg(long, conflicts_with = "stats")]
    pub no_data_norm: bool,

    /// Normalize the data with these statistics, which `cellnorm stats` has written, instead of
    /// those of the training data.
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,

    /// Print the content of results.json instead of the table.
    #[arg(long)]
    pub json: bool,

    /// Print neither progress nor table.
    #[arg(long)]
    pub quiet: bool,

    /// Threads to compute with; all of the machine's when not given, shared by the ranks that
    /// mpirun has started on it.
    #[arg(long, value_name = "N", value_parser = up_to::<1024>)]
    pub threads: Option<usize>,

    /// Under mpirun, take batch normalization's statistics of the batches of all ranks together,
    /// not of each rank's part.
    #[arg(long)]
    pub sync: bool,
}

impl CompareArgs {
    /// The normalizations and batch sizes asked for: the first of each that is named more than
    /// once.
    pub fn without_repeats(&self) -> (Vec<Norm>, Vec<usize>) {
        let of_choice = |choice: &Choice| match choice {
            Choice::All => self.task.norms().to_vec(),
            Choice::One(norm) => vec![*norm],
        };
        let norms: Vec<Norm> = match self.norms.as_slice() {
            [] => self.task.usual().to_vec(),
            named => named.iter().flat_map(of_choice).collect(),
        };
        (distinct(&norms), distinct(&self.batch_sizes))
    }

    /// The epochs asked for, or those that suit the task.
    pub fn epochs(&self) -> usize {
        self.epochs.unwrap_or(self.task.epochs())
    }

    /// The command that repeats this comparison, whatever its output flags were.
    pub fn command_line(&self) -> String {
        let (norms, batch_sizes) = self.without_repeats();
        let norms: Vec<&str> = norms.iter().map(|norm| norm.name()).collect();
        let batch_sizes: Vec<String> = batch_sizes.iter().map(usize::to_string).collect();
        let mut line = format!(
            "cellnorm compare --task {} --norms {} --epochs {} --batch-sizes {} --seed {}",
            self.task.name(),
            norms.join(","),
            self.epochs(),
            batch_sizes.join(","),
            self.seed
        );
        // Writing to a String cannot fail.
        if self.seeds > 1 {
            let _ = write!(line, " --seeds {}", self.seeds);
        }
        if let Some(data) = &self.data {
            let _ = write!(line, " --data {}", quoted(&data.display().to_string()));
        }
        if let Some(stats) = &self.stats {
            let _ = write!(line, " --stats {}", quoted(&stats.display().to_string()));
        }
        if self.no_data_norm {
            line += " --no-data-norm";
        }
        if self.sync {
            line += " --sync";
        }
        line
    }
}

/// A word as a shell takes it back.
fn quoted(word: &str) -> String {
    if !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "/._-+:@%".contains(c)) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn distinct<T: PartialEq + Copy>(values: &[T]) -> Vec<T> {
    let mut kept = Vec::new();
    for value in values {
        if !kept.contains(value) {
            kept.push(*value);
        }
    }
    kept
}

fn up_to<const MOST: usize>(text: &str) -> Result<usize, String> {
    match at_least_one(text)? {
        number if number <= MOST => Ok(number),
        _ => Err(format!("it must be at least 1 and at most {MOST}")),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("it must be a whole number of at least 1".to_owned()),
    }
}

/// A normalization, or all that suit the task.
#[derive(Clone, Copy, Debug)]
pub enum Choice {
    /// All.
    All,
    /// This one.
    One(Norm),
}

/// The choice of a name, for clap.
fn choice() -> impl TypedValueParser<Value = Choice> {
    let named =
        Norm::ALL.iter().map(|norm| PossibleValue::new(norm.name()).help(norm.description()));
    let all = PossibleValue::new("all").help("all of these that suit the task");
    PossibleValuesParser::new(named.chain([all])).map(|name| {
        Norm::ALL
            .iter()
            .find(|norm| norm.name() == name)
            .map_or(Choice::All, |norm| Choice::One(*norm))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<CompareArgs, clap::Error> {
        let words = ["cellnorm", "compare"].iter().chain(flags);
        match Cli::try_parse_from(words)?.command {
            Some(Command::Compare(args)) => Ok(args),
            _ => unreachable!("the words begin with compare"),
        }
    }

    #[test]
    fn the_defaults_are_all_norms_three_epochs_and_batches_of_32() {
        let args = parse(&[]).unwrap();
        assert_eq!(
            args.command_line(),
            "cellnorm compare --task image --norms none,batch,layer,instance,group,rms --epochs 3 \
             --batch-sizes 32 --seed 1"
        );
    }

    #[test]
    fn sequences_have_norms_and_epochs_of_their_own() {
        assert_eq!(
            parse(&["--task", "sequence", "--seeds", "3"]).unwrap().command_line(),
            "cellnorm compare --task sequence --norms none,layer,step,batch,rms --epochs 30 \
             --batch-sizes 32 --seed 1 --seeds 3"
        );
    }

    #[test]
    fn all_is_every_norm_that_the_network_can_have() {
        let norms = |flags: &[&str]| parse(flags).unwrap().without_repeats().0;
        assert_eq!(
            norms(&["--norms", "all"]).len(),
            Norm::ALL.len() - 1,
            "step is for sequences alone"
        );
        assert_eq!(norms(&["--norms", "rms,all"])[..2], [Norm::Rms, Norm::None]);
        let of_sequences = norms(&["--task", "sequence", "--norms", "all"]);
        assert_eq!(of_sequences, norms(&["--task", "sequence"]));
        // each is in one network or the other
        let known = |norm| norms(&["--norms", "all"]).contains(norm) || of_sequences.contains(norm);
        assert!(Norm::ALL.iter().all(known));
    }

    #[test]
    fn repeats_are_dropped_and_order_is_kept() {
        let args = parse(&["--norms", "rms,none,rms", "--batch-sizes", "8,32,8"]).unwrap();
        assert_eq!(args.without_repeats(), (vec![Norm::Rms, Norm::None], vec![8, 32]));
    }

    #[test]
    fn counts_have_an_upper_bound_and_paths_are_quoted() {
        assert!(parse(&["--epochs", "18446744073709551615"]).is_err());
        assert!(parse(&["--threads", "100000000"]).is_err());
        let line = parse(&["--data", "a b; $(x)'s"]).unwrap().command_line();
        assert!(line.ends_with(r#" --data 'a b; $(x)'\''s'"#), "{line}");
        assert!(
            parse(&["--data", "/data/mnist"])
                .unwrap()
                .command_line()
                .ends_with(" --data /data/mnist")
        );
    }

    #[test]
    fn zero_and_words_are_no_counts() {
        for flag in ["--epochs", "--batch-sizes", "--threads"] {
            for value in ["0", "-1", "many", "1.5"] {
                let message =
                    parse(&[&format!("{flag}={value}")]).err().expect("refused").to_string();
                assert!(message.contains(flag) && message.contains("at least 1"));
            }
        }
    }

    #[test]
    fn an_unknown_norm_brings_the_list_and_the_closest_name() {
        let message = parse(&["--norms", "bacth"]).err().expect("refused").to_string();
        assert!(message.contains("none, batch, layer, instance, group, rms"));
        assert!(message.contains("similar value exists: 'batch'"));
    }

    /// The commands in the table of what the tutorials show.
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
                let (norms, _) = args.without_repeats();
                assert!(
                    norms.iter().all(|norm| known.contains(norm)),
                    "{command}: not for this task"
                );
            }
        }
    }
}
