//! `cellnorm fold`: the batch normalizations of a trained model become part of its layers.

use std::env;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cellnorm_onnx::check::{self, Certificate, Checks, OnnxRuntime, Rten, Runtime, certify};
use cellnorm_onnx::fold::{Folded, fold};
use cellnorm_onnx::{Draft, Source};
use indicatif::ProgressBar;
use miette::Diagnostic;
use serde_json::{Value, json};
use thiserror::Error;

use crate::input::{self, InputError, StrayFlag};
use crate::output::{self, OutputError};

mod args;
mod checkpoint;
mod feeds;
mod html;
mod text;

pub use args::FoldArgs;
use args::RuntimeChoice;
pub use checkpoint::{CheckpointError, EXTENSIONS as CHECKPOINT_EXTENSIONS};
pub use text::{advice, direction, targets};

/// Why a model could not be folded.
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
    /// Inputs that the model does not take.
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

/// For how long both models are run to measure their time.
const TIMED: Duration = Duration::from_millis(500);

/// The outcome of a fold.
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

/// All numbers of the outcome.
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
