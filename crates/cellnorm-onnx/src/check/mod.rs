//! The certificate: each fold proven on its own, and the whole model run before and after.

mod array;
mod certificate;
mod compare;
#[cfg(feature = "run")]
mod onnxruntime;
mod probe;
mod proof;
#[cfg(feature = "run")]
mod rten;

use std::path::Path;

pub use array::{Array, Feed, random_feeds};
pub use certificate::{Certificate, Checks, Run, certify};
pub use compare::{Comparison, Feeds, Pair, compare, default_tolerance};
#[cfg(feature = "run")]
pub use onnxruntime::OnnxRuntime;
pub use probe::{Probes, probes};
pub use proof::{Proof, prove};
#[cfg(feature = "run")]
pub use rten::Rten;

/// Something that runs ONNX models, with its own optimization of the graph off: otherwise it would
/// fold the unfolded model, too.
pub trait Runtime {
    /// Its name and version.
    fn name(&self) -> String;

    /// A model ready to run, which gives other values by name besides its outputs.
    ///
    /// # Errors
    /// If it cannot be read, or uses what the runtime does not have; in the runtime's words.
    fn load(&self, path: &Path, besides: &[String]) -> Result<Box<dyn Session>, String>;
}

/// A model that can be run.
pub trait Session {
    /// The model's outputs, in its order, then the other values asked for.
    ///
    /// # Errors
    /// If the model cannot be run on these inputs; in the runtime's words.
    fn run(&mut self, feed: &Feed) -> Result<Vec<(String, Array)>, String>;
}
