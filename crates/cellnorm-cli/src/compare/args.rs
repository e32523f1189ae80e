//! The flags of `cellnorm compare`, and the tasks that it knows.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::format::join;
use crate::input::choice;
use crate::network::{ImageNetwork, Network, SequenceNetwork};
use crate::norm::Norm;

#[derive(Args)]
pub struct CompareArgs {
    /// The task that the networks learn.
    #[arg(long, value_name = "TASK", value_enum, default_value = "image")]
    pub task: Task,

    /// Normalizations to compare, separated by commas; all is every one that suits the task.
    ///
    /// When not given, images take none,batch,layer,instance,group,rms; sequences take all:
    /// none,layer,step,batch,rms.
    #[arg(long, value_name = "NAMES", value_parser = norm_choice(), value_delimiter = ',')]
    pub norms: Vec<NormChoice>,

    /// Passes over the training data [default: 3 for images, 30 for sequences].
    #[arg(long, value_name = "N", value_parser = up_to::<100_000>)]
    pub epochs: Option<usize>,

    /// Batch sizes, separated by commas; every normalization is trained with each.
    #[arg(long, value_name = "SIZES", value_delimiter = ',', default_values_t = [32])]
    #[arg(value_parser = at_least_one)]
    pub batch_sizes: Vec<usize>,

    /// Seed of the weights, the order of the samples and the dropout.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,

    /// Seeds to train with, from --seed on; table and report show their means.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,

    /// Folder for results.json and report.html, made if missing.
    #[arg(long, value_name = "DIR", default_value = "cellnorm-report")]
    pub out: PathBuf,

    /// Go on with a comparison that was interrupted, from the first training that is missing in
    /// results.partial.json in that folder.
    #[arg(long)]
    pub resume: bool,

    /// Folder with the four IDX files of MNIST or Fashion-MNIST, gzipped or not; for images alone.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Do not normalize the data (pixels between 0 and 1), to see the difference; otherwise each
    /// channel of the training data gets the mean 0 and the standard deviation 1.
    #[arg(long, conflicts_with = "stats")]
    pub no_data_norm: bool,

    /// Normalize the data with these statistics, written by `cellnorm stats`, instead of the
    /// statistics of the training data.
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

    /// Under mpirun, compute batch normalization's statistics over the batches of all ranks
    /// together, not over each rank's part.
    #[arg(long)]
    pub sync: bool,
}

impl CompareArgs {
    /// The normalizations and batch sizes asked for, without repeats.
    pub fn norms_and_batch_sizes(&self) -> (Vec<Norm>, Vec<usize>) {
        let chosen = |choice: &NormChoice| match choice {
            NormChoice::All => self.task.norms().to_vec(),
            NormChoice::One(norm) => vec![*norm],
        };
        let norms: Vec<Norm> = match self.norms.as_slice() {
            [] => self.task.usual_norms().to_vec(),
            named => named.iter().flat_map(chosen).collect(),
        };
        (distinct(&norms), distinct(&self.batch_sizes))
    }

    /// The epochs asked for, or those that suit the task.
    pub fn epochs(&self) -> usize {
        self.epochs.unwrap_or(self.task.epochs())
    }

    /// The command that repeats this comparison, whatever its output flags were.
    pub fn command_line(&self) -> String {
        let (norms, batch_sizes) = self.norms_and_batch_sizes();
        let mut line = format!(
            "cellnorm compare --task {} --norms {} --epochs {} --batch-sizes {} --seed {}",
            self.task.name(),
            join(norms.iter().map(|norm| norm.name()), ","),
            self.epochs(),
            join(batch_sizes, ","),
            self.seed
        );
        if self.seeds > 1 {
            line += &format!(" --seeds {}", self.seeds);
        }
        for (flag, path) in [("--data", &self.data), ("--stats", &self.stats)] {
            if let Some(path) = path {
                line += &format!(" {flag} {}", quoted(&path.display().to_string()));
            }
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
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(value) {
            distinct.push(*value);
        }
    }
    distinct
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
pub enum NormChoice {
    All,
    One(Norm),
}

/// Parses a name, for clap.
fn norm_choice() -> impl TypedValueParser<Value = NormChoice> {
    let named =
        Norm::ALL.iter().map(|&norm| (norm.name(), norm.description(), NormChoice::One(norm)));
    choice(named.chain([("all", "all of these that suit the task", NormChoice::All)]).collect())
}

/// A kind of data with the network that suits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Images and a convolution: MNIST or Fashion-MNIST.
    Image,
    /// Sequences of many lengths and a recurrent network: JapaneseVowels.
    Sequence,
}

impl Task {
    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Sequence => "sequence",
        }
    }

    /// The normalizations that its network can have, in the order of tables and legends.
    pub fn norms(self) -> &'static [Norm] {
        match self {
            Self::Image => ImageNetwork::NORMS,
            Self::Sequence => SequenceNetwork::NORMS,
        }
    }

    /// Those compared when none are asked for: as many as a reader can tell apart in one chart.
    pub fn usual_norms(self) -> &'static [Norm] {
        match self {
            Self::Image => {
                &[Norm::None, Norm::Batch, Norm::Layer, Norm::Instance, Norm::Group, Norm::Rms]
            }
            Self::Sequence => SequenceNetwork::NORMS,
        }
    }

    /// The names of its normalizations, as `--norms` takes them.
    pub fn norm_names(self) -> String {
        join(self.norms().iter().map(|norm| norm.name()), ",")
    }

    /// Passes over the training data when none are asked for: enough to see the networks settle.
    pub fn epochs(self) -> usize {
        match self {
            Self::Image => 3,
            Self::Sequence => 30,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Parsed {
        #[command(flatten)]
        args: CompareArgs,
    }

    fn parse(flags: &[&str]) -> Result<CompareArgs, clap::Error> {
        let words = ["compare"].iter().chain(flags);
        Ok(Parsed::try_parse_from(words)?.args)
    }

    #[test]
    fn each_task_has_norms_and_epochs_of_its_own() {
        assert_eq!(
            parse(&[]).unwrap().command_line(),
            "cellnorm compare --task image --norms none,batch,layer,instance,group,rms --epochs 3 \
             --batch-sizes 32 --seed 1"
        );
        assert_eq!(
            parse(&["--task", "sequence", "--seeds", "3"]).unwrap().command_line(),
            "cellnorm compare --task sequence --norms none,layer,step,batch,rms --epochs 30 \
             --batch-sizes 32 --seed 1 --seeds 3"
        );
    }

    #[test]
    fn all_is_every_norm_that_the_network_can_have() {
        let norms = |flags: &[&str]| parse(flags).unwrap().norms_and_batch_sizes().0;
        // step is for sequences alone
        assert_eq!(norms(&["--norms", "all"]).len(), Norm::ALL.len() - 1);
        assert_eq!(norms(&["--norms", "rms,all"])[..2], [Norm::Rms, Norm::None]);
        let sequence_norms = norms(&["--task", "sequence", "--norms", "all"]);
        assert_eq!(sequence_norms, norms(&["--task", "sequence"]));
        // each is in one network or the other
        let known =
            |norm| norms(&["--norms", "all"]).contains(norm) || sequence_norms.contains(norm);
        assert!(Norm::ALL.iter().all(known));
    }

    #[test]
    fn repeats_are_dropped_and_order_is_kept() {
        let args = parse(&["--norms", "rms,none,rms", "--batch-sizes", "8,32,8"]).unwrap();
        assert_eq!(args.norms_and_batch_sizes(), (vec![Norm::Rms, Norm::None], vec![8, 32]));
    }

    #[test]
    fn counts_have_an_upper_bound_and_paths_are_quoted() {
        assert!(parse(&["--epochs", "18446744073709551615"]).is_err());
        assert!(parse(&["--threads", "100000000"]).is_err());
        let line = parse(&["--data", "a b; $(x)'s"]).unwrap().command_line();
        assert!(line.ends_with(r#" --data 'a b; $(x)'\''s'"#), "{line}");
        let line = parse(&["--data", "/data/mnist"]).unwrap().command_line();
        assert!(line.ends_with(" --data /data/mnist"));
    }

    fn refusal(flags: &[&str]) -> String {
        parse(flags).err().expect("refused").to_string()
    }

    #[test]
    fn zero_and_words_are_no_counts() {
        for flag in ["--epochs", "--batch-sizes", "--threads"] {
            for value in ["0", "-1", "many", "1.5"] {
                let message = refusal(&[&format!("{flag}={value}")]);
                assert!(message.contains(flag) && message.contains("at least 1"));
            }
        }
    }

    #[test]
    fn an_unknown_norm_brings_the_list_and_the_closest_name() {
        let message = refusal(&["--norms", "bacth"]);
        assert!(message.contains("none, batch, layer, instance, group, rms"));
        assert!(message.contains("similar value exists: 'batch'"));
    }
}
