//! `cellnorm fold`: the batch normalizations of a trained model become part of its layers.

use std::env;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cellnorm_onnx::check::{self, Certificate, Checks, OnnxRuntime, Rten, Runtime, certify};
use cellnorm_onnx::fold::{Data, Folded, Options, fold};
use cellnorm_onnx::{Draft, Source};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use miette::Diagnostic;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::input::{self, InputError, StrayFlag};
use crate::output::{self, OutputError};

mod checkpoint;
mod feeds;
mod html;
mod text;

pub use checkpoint::{CheckpointError, EXTENSIONS as CHECKPOINT_EXTENSIONS};
pub use text::{advice, direction, targets};

#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
pub enum FoldError {
    #[diagnostic(transparent)]
    Model(#[from] ModelError),
    #[error("the output {} is the input", path.display())]
    #[diagnostic(help("name another file with -o, or say --in-place"))]
    OutputOverInput { path: PathBuf },
    /// A node that the model does not have, or that has nothing to fold.
    #[error("nothing is known of a node {name:?}")]
    #[diagnostic(help("nodes that were folded or kept: {}", known.join(", ")))]
    UnknownNode { name: String, known: Vec<String> },
    #[error("ONNX Runtime cannot run the models: {problem}")]
    #[diagnostic(help(
        "set ORT_DYLIB_PATH to its library: libonnxruntime.so of a release, or \
         libonnxruntime.so.VERSION in the folder onnxruntime/capi of the Python package"
    ))]
    NoRuntime { problem: String },
    #[error("{} {problem}", path.display())]
    #[diagnostic(help(
        "it must hold an array for each input of the model, by its name, with the model's axes; \
         the first may be longer"
    ))]
    Feeds { path: PathBuf, problem: String },
    /// The check of a folded model failed; `help` tells whether it was written.
    #[error("{problem}")]
    #[diagnostic(help("{help}"))]
    Check { problem: String, help: &'static str },
    /// Numbers or a checkpoint that the library refuses.
    Refused(#[from] cellnorm::Error),
    #[diagnostic(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[diagnostic(transparent)]
    Stray(#[from] StrayFlag),
    #[diagnostic(transparent)]
    Input(#[from] InputError),
    #[diagnostic(transparent)]
    Output(#[from] OutputError),
}

/// A model that cannot be read, folded or written. The message includes that of the system.
#[derive(Debug, Error, Diagnostic)]
#[error("{}: {problem}{}", path.display(), cause(problem))]
pub struct ModelError {
    pub path: PathBuf,
    pub problem: cellnorm_onnx::Error,
}

/// The error of the system, where there is one.
fn cause(error: &cellnorm_onnx::Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"))
}

#[derive(Args)]
pub struct FoldArgs {
    /// The ONNX model; or a checkpoint without a graph, .safetensors, .npz, .pth or .pt,
    /// with --pairs.
    pub model: PathBuf,

    /// Path of the folded model.
    #[arg(short, long, value_name = "FILE")]
    #[arg(required_unless_present_any = ["dry_run", "explain", "in_place"])]
    pub output: Option<PathBuf>,

    /// Replace the model by the folded one.
    #[arg(long, conflicts_with = "output")]
    pub in_place: bool,

    /// Print what would be folded, and write nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print what became of one node, named by itself or by its output, and write nothing.
    #[arg(long, value_name = "NODE", conflicts_with_all = ["json", "html"])]
    pub explain: Option<String>,

    /// Print everything as JSON instead of tables.
    #[arg(long)]
    pub json: bool,

    /// Draw the folds to this file, to view in a browser.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Allowed difference of an output, as a share of its largest number.
    ///
    /// When not given: 64 units of the weights' type (2⁻²⁴ in float32), times the square root of
    /// the number of layers that changed plus one.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub tol: Option<f64>,

    /// Inputs to run the model on in addition to random ones: .npz or .safetensors, an array for
    /// each input by its name.
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,

    /// The runtime that runs the model before and after.
    #[arg(long, value_name = "NAME", value_enum, default_value = "auto")]
    pub runtime: RuntimeChoice,

    /// Write the model even if the check fails.
    #[arg(long)]
    pub force: bool,

    /// Treat weights that are also inputs of the model as constants, and remove these inputs.
    #[arg(long)]
    pub freeze_inputs: bool,

    /// Keep a normalization rather than copy weights that several layers share.
    #[arg(long)]
    pub no_copy: bool,

    /// Fold a normalization of data far from 0 though the layer loses more than half of its digits.
    #[arg(long)]
    pub allow_cancellation: bool,

    /// Mean of the data for each channel, separated by commas, or one for all: the model will then
    /// take data that are not normalized.
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        allow_hyphen_values = true,
        requires = "std"
    )]
    pub mean: Vec<f64>,

    /// Standard deviation of the data for each channel, separated by commas, or one for all.
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        allow_hyphen_values = true,
        requires = "mean"
    )]
    pub std: Vec<f64>,

    /// File with the mean and the standard deviation of the data: JSON with the lists "mean" and
    /// "std".
    #[arg(long, value_name = "FILE", conflicts_with = "mean")]
    pub stats: Option<PathBuf>,

    /// Input that --mean or --stats describes, if the model has several.
    #[arg(long, value_name = "NAME")]
    pub input: Option<String>,

    /// File that says which normalization of a checkpoint belongs to which layer; --dry-run without
    /// it prints one to edit.
    ///
    /// JSON: {"pairs": [{"layer": "conv1", "norm": "bn1", "kind": "conv"}]}. The kind is conv,
    /// conv-transposed or linear. A pair may have "groups" (1), "side" ("behind" or "ahead" of the
    /// layer), "epsilon", and ahead of a convolution needs "unpadded": true, which says that the
    /// convolution does not pad its input with zeros.
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,

    /// ε of a checkpoint's normalizations, for pairs that name none: it is not stored, and nothing
    /// is assumed.
    #[arg(long, value_name = "NUMBER")]
    pub epsilon: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuntimeChoice {
    /// ONNX Runtime where ORT_DYLIB_PATH names its library, otherwise rten.
    Auto,
    /// rten, in Rust alone: float32.
    Rten,
    /// ONNX Runtime, whose library ORT_DYLIB_PATH names.
    Onnxruntime,
    /// Nothing; each fold is still proven on its own.
    None,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("it must be a number from 0 to 1, such as 1e-4".into()),
    }
}

impl FoldArgs {
    pub fn options(&self) -> Result<Options, FoldError> {
        let (mean, deviation) = match &self.stats {
            None => (self.mean.clone(), self.std.clone()),
            Some(path) => read_statistics(path)?,
        };
        if let Some(number) = mean.iter().chain(&deviation).find(|number| !number.is_finite()) {
            let (name, expected) = ("mean or std", "finite");
            return Err(cellnorm::Error::Number { name, given: *number, expected }.into());
        }
        let data = (!mean.is_empty()).then(|| Data { input: self.input.clone(), mean, deviation });
        let Self { freeze_inputs, no_copy, allow_cancellation, .. } = *self;
        Ok(Options { freeze_inputs, no_copy, allow_cancellation, data })
    }

    /// The path of the folded model; `None` if nothing is to be written. Refuses a page that would
    /// replace a file that is read or written.
    pub fn place(&self) -> Result<Option<PathBuf>, FoldError> {
        let mut others =
            [&self.output, &self.inputs, &self.stats].into_iter().flatten().chain([&self.model]);
        let replaced = |html: &PathBuf| others.find(|other| output::same_place(html, other));
        if let Some(path) = self.html.as_ref().and_then(replaced) {
            return Err(OutputError::PageOverFile { path: path.clone() }.into());
        }
        if self.dry_run || self.explain.is_some() {
            return Ok(None);
        }
        match &self.output {
            _ if self.in_place => Ok(Some(self.model.clone())),
            Some(output)
                if fs::canonicalize(output).is_ok() && output::same_place(output, &self.model) =>
            {
                Err(FoldError::OutputOverInput { path: output.clone() })
            }
            output => Ok(output.clone()),
        }
    }
}

/// Mean and deviation of each channel, of a file of statistics.
fn read_statistics(path: &Path) -> Result<(Vec<f64>, Vec<f64>), InputError> {
    #[derive(Deserialize)]
    struct Statistics {
        mean: Vec<f64>,
        std: Vec<f64>,
    }

    let unusable = |problem| InputError::Statistics { path: path.to_owned(), problem };
    let Statistics { mean, std } = serde_json::from_str(&input::read_text(path)?)
        .map_err(|error| unusable(format!("is not usable: {error}")))?;
    let fit = std.len() == 1 || mean.len() == 1 || std.len() == mean.len();
    if mean.is_empty() || std.is_empty() || !fit {
        let problem = format!("has {} means and {} deviations", mean.len(), std.len());
        return Err(unusable(problem));
    }
    Ok((mean, std))
}

/// For how long both models are run to measure their time.
const TIMED: Duration = Duration::from_millis(500);

pub struct Outcome<'s> {
    pub source: &'s Source,
    pub folded: &'s Folded<'s>,
    /// The checks, if anything was written.
    pub certificate: Option<&'s Certificate>,
    /// Where the folded model lies, and its size in bytes.
    pub written: Option<(&'s Path, u64)>,
}

pub fn run(args: &FoldArgs) -> Result<(), FoldError> {
    if checkpoint::is_checkpoint(args)? {
        return checkpoint::run(args);
    }
    let failed = |problem| ModelError { path: args.model.clone(), problem };
    let place = args.place()?;
    let source = Source::open(&args.model).map_err(failed)?;
    let model = source.model().map_err(failed)?;
    let options = args.options()?;
    let folded = fold(model, &options).map_err(failed)?;
    if let Some(node) = &args.explain {
        return Ok(output::print(&text::explain(&folded.report, node)?)?);
    }
    let mut outcome =
        Outcome { source: &source, folded: &folded, certificate: None, written: None };
    let Some(place) = place else {
        draw(args, &outcome)?;
        return Ok(print(args, &outcome)?);
    };
    let spinner = spinner("writing");
    let draft = Draft::write(&source, &folded, &place).map_err(failed)?;
    spinner.set_message("running before and after");
    let certificate = check(args, &source, &folded, &draft)?;
    spinner.finish_and_clear();
    let size = input::file_size(&draft.path())?;
    if let (Some(path), check::Outcome::NotRun(problem)) = (&args.inputs, &certificate.run) {
        let problem = format!("could not be run: {problem}");
        return Err(FoldError::Feeds { path: path.clone(), problem });
    }
    outcome.certificate = Some(&certificate);
    let normalized = options.data.is_none() || folded.data.is_some();
    let passed = certificate.holds && normalized;
    let kept = passed || args.force;
    if kept {
        outcome.written = Some((&place, size));
    }
    // where the page cannot be written, nothing is
    draw(args, &outcome)?;
    if kept {
        draft.keep().map_err(failed)?;
    }
    print(args, &outcome)?;
    if passed {
        return Ok(());
    }
    let problem = match normalized {
        true => text::failure(&certificate),
        false => "the normalization of the data cannot become part of the model".into(),
    };
    let help = match kept {
        true => "it was written all the same, as --force says",
        false => {
            "nothing was written; --force writes it all the same, --tol allows a larger difference"
        }
    };
    Err(FoldError::Check { problem, help })
}

fn draw(args: &FoldArgs, outcome: &Outcome<'_>) -> Result<(), OutputError> {
    let Some(path) = &args.html else { return Ok(()) };
    output::draw("--html", path, |path| fs::write(path, html::page(outcome)))
}

fn print(args: &FoldArgs, outcome: &Outcome<'_>) -> Result<(), OutputError> {
    match args.json {
        true => output::print_json(&json(outcome)),
        false => output::print(&text::report(outcome, output::width())),
    }
}

fn json(outcome: &Outcome<'_>) -> Value {
    let report = &outcome.folded.report;
    let data = outcome.folded.data.as_ref();
    json!({
        "model": outcome.source.path(),
        "bytes_before": outcome.source.bytes().len(),
        "before": report.before,
        "after": report.after,
        "folds": report.folds,
        "kept": report.kept,
        "data": data.map(|data| json!({
            "input": data.input, "axis": data.axis, "mean": data.mean, "std": data.deviation,
        })),
        "certificate": outcome.certificate,
        "written": written_json(outcome.written),
    })
}

fn written_json(written: Option<(&Path, u64)>) -> Option<Value> {
    written.map(|(path, bytes)| json!({ "path": path, "bytes": bytes }))
}

fn check(
    args: &FoldArgs,
    source: &Source,
    folded: &Folded<'_>,
    draft: &Draft,
) -> Result<Certificate, FoldError> {
    let failed = |problem| ModelError { path: args.model.clone(), problem };
    let library = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty());
    let no_runtime = |problem| FoldError::NoRuntime { problem };
    let onnxruntime = match (args.runtime, &library) {
        (RuntimeChoice::Onnxruntime, None) => {
            return Err(no_runtime("its library is not named".into()));
        }
        (RuntimeChoice::Onnxruntime | RuntimeChoice::Auto, Some(path)) => {
            Some(OnnxRuntime::open(Path::new(path)).map_err(no_runtime)?)
        }
        _ => None,
    };
    let mut runtimes: Vec<&dyn Runtime> =
        onnxruntime.iter().map(|runtime| runtime as &dyn Runtime).collect();
    if matches!(args.runtime, RuntimeChoice::Auto | RuntimeChoice::Rten) {
        runtimes.push(&Rten);
    }
    let inputs = match &args.inputs {
        Some(path) => feeds::read(&source.model().map_err(failed)?, path)?,
        None => Vec::new(),
    };
    let checks = Checks { runtimes: &runtimes, inputs, tolerance: args.tol, timed: TIMED };
    Ok(certify(source, folded, draft, checks).map_err(failed)?)
}

/// A sign on a terminal that work goes on.
fn spinner(message: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
