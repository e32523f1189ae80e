//! What can go wrong, said so that the reader knows what would be right.

use std::io;
use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::data::idx::IdxError;
use crate::fold::Problem;
use crate::norm::Norm;
use crate::ranks::RanksError;
use crate::task::Task;

/// Everything that ends a command early.
#[derive(Debug, Error, Diagnostic)]
pub enum Error {
    /// The data folder has no file of the kind wanted.
    #[error("{} holds no {name}", folder.display())]
    #[diagnostic(help(
        "--data wants a folder with four files, each with or without \
         .gz:\ntrain-images-idx3-ubyte, train-labels-idx1-ubyte,\nt10k-images-idx3-ubyte, \
         t10k-labels-idx1-ubyte"
    ))]
    Missing {
        /// The folder looked into.
        folder: PathBuf,
        /// The usual name of the file.
        name: &'static str,
    },

    /// A data file could not be read or unpacked.
    #[error("cannot read {}", path.display())]
    #[diagnostic(help("check that the file is complete and that you may read it"))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A data file is not the IDX file it should be.
    #[error("{} is not usable: {problem}", path.display())]
    #[diagnostic(help("{}", problem.help()))]
    Idx {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: IdxError,
    },

    /// Images and labels do not belong together.
    #[error("{} holds {labels} labels for the {images} images of {}", labels_path.display(), images_path.display())]
    #[diagnostic(help("each image needs one label: take both files from the same dataset"))]
    Unpaired {
        /// The file of images.
        images_path: PathBuf,
        /// How many it holds.
        images: usize,
        /// The file of labels.
        labels_path: PathBuf,
        /// How many it holds.
        labels: usize,
    },

    /// A batch cannot be filled even once.
    #[error("batch size {size} is larger than the training set of {samples} {noun}")]
    #[diagnostic(help("choose --batch-sizes between 1 and {samples}"))]
    BatchSize {
        /// The size asked for.
        size: usize,
        /// The number of training samples.
        samples: usize,
        /// What they are.
        noun: &'static str,
    },

    /// The normalization does not suit the data.
    #[error("{} is no normalization of --task {}", norm.name(), task.name())]
    #[diagnostic(help("--task {} compares {}", task.name(), task.norm_names()))]
    NormOfTask {
        /// The normalization asked for.
        norm: Norm,
        /// The task asked for.
        task: Task,
    },

    /// Images were given to a network for sequences.
    #[error("--task sequence takes no --data: it has sequences of its own")]
    #[diagnostic(help("--data names a folder of images: leave it out, or choose --task image"))]
    DataOfSequences,

    /// The results could not be saved where they were asked for.
    #[error("cannot write to the output folder {}", folder.display())]
    #[diagnostic(help("name a folder you may write to with --out; nothing was trained yet"))]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Something about a data set or its statistics.
    #[error(transparent)]
    #[diagnostic(help(
        "files that cannot be read are named at the end; --strict ends at the first"
    ))]
    DataSet(#[from] cellnorm_data::Error),

    /// No file of a data set could be read.
    #[error("no file could be read; the first: {}", first(failures))]
    #[diagnostic(help("check the paths, --key and --channel-axis"))]
    NoData {
        /// What could not be read.
        failures: Vec<cellnorm_data::files::Failure>,
    },

    /// A file of statistics that cannot be merged with those before it.
    #[error("{}", path.display())]
    #[diagnostic(help("merge the files of the shards of one run, each once"))]
    MergeOf {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: cellnorm_data::Error,
    },

    /// Neither a file of statistics nor a name.
    #[error("{given:?} is neither a file nor one of {names}")]
    #[diagnostic(help("cellnorm stats PATH -o FILE makes a file of statistics"))]
    NoStatistics {
        /// What was given.
        given: String,
        /// The names.
        names: String,
    },

    /// Data that are too far from those that statistics are of.
    #[error("a channel is {farthest:.4} deviations away, and {most} are allowed")]
    #[diagnostic(help(
        "the table says which; normalize with the training data's statistics, and look at where \
         the data come from"
    ))]
    Drift {
        /// How far.
        farthest: f64,
        /// How far is allowed.
        most: f64,
    },

    /// The thread pool could not be started.
    #[error("cannot start {threads} threads")]
    #[diagnostic(help("ask for fewer with --threads"))]
    Threads {
        /// The number asked for.
        threads: usize,
        /// What the thread pool said.
        source: rayon::ThreadPoolBuildError,
    },

    /// A result could not be saved after training.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Standard output could not be written to.
    #[error("cannot print the results; they are saved in {}", folder.display())]
    Print {
        /// Where the results are.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A shape, an axis or a name that the library refuses.
    #[error(transparent)]
    Refused(#[from] cellnorm::Error),

    /// A flag that the normalization has no use for.
    #[error("{flag} says nothing about --norm {norm}")]
    #[diagnostic(help("{help}"))]
    Stray {
        /// The flag.
        flag: &'static str,
        /// The normalization.
        norm: &'static str,
        /// What would be right.
        help: String,
    },

    /// The drawing could not be saved.
    #[error("cannot write {}", path.display())]
    #[diagnostic(help("name a file that you may write to with {flag}; its folder must exist"))]
    Drawing {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Standard output could not be written to, and there is nothing else.
    #[error("cannot print")]
    Standard(#[source] io::Error),

    /// A model cannot be read, folded or written.
    #[error("{}: {problem}{}", path.display(), cause(problem))]
    Model {
        /// The model.
        path: PathBuf,
        /// What is wrong; its words, and those of the system, stand in the message.
        problem: cellnorm_onnx::Error,
    },

    /// The output would take the place of the input.
    #[error("the output {} is the input", path.display())]
    #[diagnostic(help("name another file with -o, or say --in-place"))]
    OverInput {
        /// The file.
        path: PathBuf,
    },

    /// The page would take the place of another file.
    #[error("--html names {}, which is read or written besides", path.display())]
    #[diagnostic(help("name another file with --html"))]
    PageOver {
        /// The file.
        path: PathBuf,
    },

    /// A node that the model does not have, or that has nothing to fold.
    #[error("nothing is known of a node {name:?}")]
    #[diagnostic(help("nodes that were folded or kept: {}", known.join(", ")))]
    UnknownNode {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },

    /// ONNX Runtime cannot be had.
    #[error("ONNX Runtime cannot run the models: {problem}")]
    #[diagnostic(help(
        "set ORT_DYLIB_PATH to its library: libonnxruntime.so of a release, or \
         libonnxruntime.so.VERSION in the folder onnxruntime/capi of the Python package"
    ))]
    NoRuntime {
        /// What went wrong.
        problem: String,
    },

    /// Statistics that say no mean and deviation.
    #[error("{} {problem}", path.display())]
    #[diagnostic(help(
        "it must be JSON with the lists \"mean\" and \"std\": one number for each channel, or one \
         for all"
    ))]
    Statistics {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// Inputs that the model does not take.
    #[error("{} {problem}", path.display())]
    #[diagnostic(help(
        "it must hold an array for each input of the model, by its name, with the model's axes; \
         the first may be longer"
    ))]
    Inputs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A file whose name says nothing of what it holds.
    #[error("{} is none of the files that can be looked at", path.display())]
    #[diagnostic(help("its name must end in .onnx, .safetensors, .npz, .pth or .pt"))]
    Extension {
        /// The file.
        path: PathBuf,
    },

    /// A checkpoint cannot be folded, or is no graph.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Checkpoint(#[from] Problem),

    /// The check of a folded model failed; nothing was written.
    #[error("{problem}")]
    #[diagnostic(help("{help}"))]
    Check {
        /// What is too far apart.
        problem: String,
        /// What was written, and what would be right.
        help: &'static str,
    },

    /// Trainings of another comparison.
    #[error("{path} {problem}")]
    #[diagnostic(help(
        "start with the same flags, version and ranks, or without --resume, which begins anew"
    ))]
    Resume {
        /// Where they are.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },

    /// Ranks cannot do what was asked of them.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ranks(#[from] RanksError),

    /// The tensor library refused an operation.
    #[error("cannot read a tensor")]
    Tensor(#[from] burn::tensor::TensorReadError),

    /// The results could not be put into JSON.
    #[error("cannot write the results as JSON")]
    Json(#[from] serde_json::Error),

    /// A chart could not be drawn.
    #[error("cannot draw a chart: {0}")]
    Chart(String),
}

/// The first of what could not be read.
fn first(failures: &[cellnorm_data::files::Failure]) -> String {
    failures
        .first()
        .map_or_else(String::new, |failure| format!("{}: {}", failure.name, failure.problem))
}

/// What the system said, where it said something.
fn cause(error: &cellnorm_onnx::Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"))
}

impl Error {
    /// 2 when the user can put it right before the work begins, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Checkpoint(Problem::TooFar { .. })
            | Self::DataSet(cellnorm_data::Error::Rank { .. }) => 1,
            Self::Missing { .. }
            | Self::Read { .. }
            | Self::Idx { .. }
            | Self::Unpaired { .. }
            | Self::BatchSize { .. }
            | Self::NormOfTask { .. }
            | Self::DataOfSequences
            | Self::Folder { .. }
            | Self::Threads { .. }
            | Self::Refused(_)
            | Self::Stray { .. }
            | Self::Model { .. }
            | Self::OverInput { .. }
            | Self::PageOver { .. }
            | Self::UnknownNode { .. }
            | Self::NoRuntime { .. }
            | Self::Statistics { .. }
            | Self::Inputs { .. }
            | Self::Extension { .. }
            | Self::Checkpoint(_)
            | Self::Ranks(_)
            | Self::DataSet(_)
            | Self::NoData { .. }
            | Self::MergeOf { .. }
            | Self::NoStatistics { .. }
            | Self::Resume { .. }
            | Self::Drawing { .. } => 2,
            Self::Write { .. }
            | Self::Drift { .. }
            | Self::Print { .. }
            | Self::Standard(_)
            | Self::Check { .. }
            | Self::Tensor(_)
            | Self::Json(_)
            | Self::Chart(_) => 1,
        }
    }
}
