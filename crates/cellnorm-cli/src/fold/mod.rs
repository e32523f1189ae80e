//! `cellnorm fold`: the batch normalizations of a trained model become part of its layers.

use std::env;
use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use cellnorm_onnx::check::{Certificate, Checks, OnnxRuntime, Outcome, Rten, Runtime, certify};
use cellnorm_onnx::fold::{Folded, fold};
use cellnorm_onnx::{Draft, Source};
use indicatif::ProgressBar;

use crate::error::Error;
use crate::output;

mod args;
mod checkpoint;
mod feeds;
mod html;
mod json;
mod text;

pub use args::FoldArgs;
use args::RuntimeChoice;
pub use checkpoint::{EXTENSIONS as CHECKPOINTS, Problem};

/// For how long both models are run to measure their time.
const TIMED: Duration = Duration::from_millis(500);

/// What was done, as it is told.
pub struct Story<'s> {
    /// The model.
    pub source: &'s Source,
    /// What was folded.
    pub folded: &'s Folded<'s>,
    /// What was checked, if anything was written.
    pub certificate: Option<&'s Certificate>,
    /// Where the folded model lies, and its size in bytes.
    pub written: Option<(&'s Path, u64)>,
}

/// Runs the command.
pub fn run(args: &FoldArgs) -> Result<(), Error> {
    if let Some(done) = checkpoint::take(args) {
        return done;
    }
    let failed = |problem| Error::Model { path: args.model.clone(), problem };
    let place = args.place()?;
    let source = Source::open(&args.model).map_err(failed)?;
    let folded = fold(source.model().map_err(failed)?, &args.options()?).map_err(failed)?;
    if let Some(node) = &args.explain {
        return output::print(&text::explain(&folded.report, node)?).map_err(Error::Standard);
    }
    let mut story = Story { source: &source, folded: &folded, certificate: None, written: None };
    let Some(place) = place else {
        draw(args, &story)?;
        return tell(args, &story);
    };
    let waiting = waiting("writing");
    let draft = Draft::write(&source, &folded, &place).map_err(failed)?;
    waiting.set_message("running before and after");
    let certificate = check(args, &source, &folded, &draft)?;
    waiting.finish_and_clear();
    let size = fs::metadata(draft.path())
        .map_err(|source| Error::Read { path: draft.path(), source })?
        .len();
    if let (Some(path), Outcome::NotRun(problem)) = (&args.inputs, &certificate.run) {
        return Err(Error::Inputs {
            path: path.clone(),
            problem: format!("could not be run: {problem}"),
        });
    }
    story.certificate = Some(&certificate);
    let normalized = args.options()?.data.is_none() || folded.data.is_some();
    let passed = certificate.holds && normalized;
    let kept = passed || args.force;
    if kept {
        story.written = Some((&place, size));
    }
    // where the page cannot be written, nothing is
    draw(args, &story)?;
    if kept {
        draft.keep().map_err(failed)?;
    }
    tell(args, &story)?;
    if passed {
        return Ok(());
    }
    Err(Error::Check {
        problem: match normalized {
            true => text::failure(&certificate),
            false => "the normalization of the data cannot become part of the model".into(),
        },
        help: if kept {
            "it was written all the same, as --force says"
        } else {
            "nothing was written; --force writes it all the same, --tol allows a larger difference"
        },
    })
}

fn draw(args: &FoldArgs, story: &Story<'_>) -> Result<(), Error> {
    let Some(path) = &args.html else { return Ok(()) };
    fs::write(path, html::page(story)).map_err(|source| Error::Drawing {
        flag: "--html",
        path: path.clone(),
        source,
    })
}

fn tell(args: &FoldArgs, story: &Story<'_>) -> Result<(), Error> {
    let text = match args.json {
        true => serde_json::to_string_pretty(&json::of(story))? + "\n",
        false => text::report(story, output::width()),
    };
    output::print(&text).map_err(Error::Standard)
}

fn check(
    args: &FoldArgs,
    source: &Source,
    folded: &Folded<'_>,
    draft: &Draft,
) -> Result<Certificate, Error> {
    let failed = |problem| Error::Model { path: args.model.clone(), problem };
    let library = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty());
    let onnxruntime = match (args.runtime, &library) {
        (RuntimeChoice::Onnxruntime, None) => {
            return Err(Error::NoRuntime { problem: "its library is not named".into() });
        }
        (RuntimeChoice::Onnxruntime | RuntimeChoice::Auto, Some(path)) => {
            let opened =
                OnnxRuntime::open(Path::new(path)).map_err(|problem| Error::NoRuntime { problem });
            Some(opened?)
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
    certify(source, folded, draft, checks).map_err(failed)
}

/// A sign on a terminal that work goes on.
fn waiting(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
