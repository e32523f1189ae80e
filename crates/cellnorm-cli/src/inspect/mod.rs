//! `cellnorm inspect`: every normalization of a trained model, and whether its numbers are sound.

use std::path::{Path, PathBuf};

use cellnorm::inspect::{DEAD, EXPLODING, Range};
use clap::Args;
use miette::Diagnostic;
use serde_json::{Value, json};
use thiserror::Error;

use crate::fold::ModelError;
use crate::input::StrayFlag;
use crate::output::{self, OutputError};
use rows::Row;

mod rows;
mod text;

/// Why a model could not be inspected.
#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
pub enum InspectError {
    #[error("{} is none of the files that can be inspected", path.display())]
    #[diagnostic(help("its name must end in .onnx, .safetensors, .npz, .pth or .pt"))]
    Extension { path: PathBuf },
    #[diagnostic(transparent)]
    Model(#[from] ModelError),
    /// A checkpoint that the library refuses.
    Refused(#[from] cellnorm::Error),
    #[diagnostic(transparent)]
    Stray(#[from] StrayFlag),
    #[diagnostic(transparent)]
    Output(#[from] OutputError),
}

/// The flags of `cellnorm inspect`.
#[derive(Args)]
pub struct InspectArgs {
    /// The model: .onnx; or .safetensors, .npz, .pth, .pt.
    pub model: PathBuf,

    /// ε of a checkpoint's normalizations, which it does not store; the default of the framework
    /// whose names it has when not given.
    #[arg(long, value_name = "NUMBER")]
    pub epsilon: Option<f64>,

    /// Print every number as JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &InspectArgs) -> Result<(), InspectError> {
    let rows = rows::read(&args.model, args.epsilon)?;
    let printed = match args.json {
        true => output::print_json(&json(&args.model, &rows)),
        false => output::print(&text::report(&args.model, &rows, output::width())),
    };
    Ok(printed?)
}

/// All numbers, those included that the table rounds or leaves out.
fn json(path: &Path, rows: &[Row]) -> Value {
    json!({
        "model": path,
        "dead_share": DEAD,
        "exploding_gain": EXPLODING,
        "normalizations": rows.iter().map(row_json).collect::<Vec<_>>(),
    })
}

fn row_json(row: &Row) -> Value {
    let health = &row.health;
    let range = |range: Option<Range>| {
        range.map(|range| json!({ "least": range.least, "largest": range.largest }))
    };
    json!({
        "name": row.name,
        "inside": row.inside,
        "kind": row.kind,
        "meaning": row.meaning,
        "epsilon": row.epsilon,
        "epsilon_stored": row.epsilon_stored,
        "constant": row.numbers.is_some(),
        "channels": health.channels,
        "gamma": range(health.gamma),
        "beta": range(health.beta),
        "mean": range(health.mean),
        "variance": range(health.variance),
        "largest_gain": health.gain,
        "dead_gamma": health.dead_gamma,
        "dead_variance": health.dead_variance,
        "exploding": health.exploding,
        "negative_variance": health.negative_variance,
        "not_finite": health.not_finite,
        "fold": row.fold.as_ref().map(|fold| &fold.json),
    })
}
