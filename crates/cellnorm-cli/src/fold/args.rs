//! The flags of `cellnorm fold`.

use std::fs;
use std::path::{Path, PathBuf};

use cellnorm_onnx::fold::{Data, Options};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::FoldError;
use crate::input::{self, InputError};
use crate::output::{self, OutputError};

/// The flags of `cellnorm fold`.
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
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "mean")]
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

/// A runtime for the model.
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
    /// The options of the library.
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
        Ok(Options { freeze_inputs: self.freeze_inputs, no_copy: self.no_copy, data })
    }

    /// Refuses a page that would replace a file that is read or written.
    fn check_html(&self) -> Result<(), OutputError> {
        let full = |path: &PathBuf| {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            fs::canonicalize(path)
                .ok()
                .or_else(|| Some(fs::canonicalize(folder).ok()?.join(path.file_name()?)))
        };
        let others =
            [Some(&self.model), self.output.as_ref(), self.inputs.as_ref(), self.stats.as_ref()];
        let Some(html) = self.html.as_ref().and_then(full) else { return Ok(()) };
        match others.into_iter().flatten().find(|other| full(other).as_ref() == Some(&html)) {
            Some(other) => Err(OutputError::PageOverFile { path: other.clone() }),
            None => Ok(()),
        }
    }

    /// The path of the folded model; `None` if nothing is to be written.
    pub fn place(&self) -> Result<Option<PathBuf>, FoldError> {
        self.check_html()?;
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
