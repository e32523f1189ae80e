//! The certificate of a folded model: each fold is proven on its own, and the whole model is run
//! before and after.

mod array;
mod certificate;
mod compare;
#[cfg(feature = "run")]
mod onnxruntime;
mod proof;
#[cfg(feature = "run")]
mod rten;

use std::fmt::Display;
use std::path::Path;

pub use array::{Array, Feed, random_feeds};
pub use certificate::{Certificate, Checks, Outcome, certify};
pub use compare::{Comparison, Pair, Probes, compare, default_tolerance, probes};
#[cfg(feature = "run")]
pub use onnxruntime::OnnxRuntime;
pub use proof::{Proof, prove};
#[cfg(feature = "run")]
pub use rten::Rten;

/// An error as text, in the runtime's words.
fn text(error: impl Display) -> String {
    error.to_string()
}

/// A runtime of ONNX models, with its own optimization of the graph off: otherwise it would fold
/// the unfolded model, too.
pub trait Runtime {
    /// Its name and version.
    fn name(&self) -> String;

    /// A model ready to run, which gives the values of these names after its outputs.
    ///
    /// # Errors
    /// If it cannot be read, or uses an operator that the runtime lacks; in the runtime's words.
    fn load(&self, path: &Path, values: &[String]) -> Result<Box<dyn Session>, String>;
}

/// A model that can be run.
pub trait Session {
    /// The model's outputs, in its order, then the other values asked for.
    ///
    /// # Errors
    /// If the model cannot be run on these inputs; in the runtime's words.
    fn run(&mut self, feed: &Feed) -> Result<Vec<(String, Array)>, String>;
}
