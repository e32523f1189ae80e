//! Folding the batch normalizations of ONNX models into their linear layers, with a proof of each
//! fold.
//!
//! A model's file is read where it lies ([`Source`]), its graph is folded in memory
//! ([`fold::fold`]), and the result is written beside its place ([`Draft`]) and checked there
//! ([`check`]) before it is kept. Fields that nobody asked to change are written as they were, byte
//! for byte; weights are computed in f64 while they are written and rounded once.
//!
//! ```
//! use cellnorm_onnx::fold::{Options, fold};
//! use cellnorm_onnx::{Draft, Source, check};
//!
//! # let folder = tempfile::tempdir()?;
//! # let model = "tests/fixtures/patterns/conv2d-bn.onnx";
//! # let output = folder.path().join("folded.onnx");
//! let source = Source::open(model)?;
//! let folded = fold(source.model()?, &Options::default())?;
//! assert_eq!(folded.report.after.batch_norms, 0);
//!
//! let draft = Draft::write(&source, &folded, &output)?;
//! let written = Source::open(draft.path())?;
//! let proofs = check::prove(&folded, &written.model()?)?;
//! assert!(proofs.iter().all(|proof| proof.share <= 1.0));
//! draft.keep()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

// each module imports only what stands above it
mod error;
pub mod proto;
mod source;
pub mod fold;
mod save;
pub mod inspect;
pub mod check;

#[cfg(test)]
#[path = "../../module_order.rs"]
mod module_order;

pub use error::{Error, Malformed};
pub use save::Draft;
pub use source::Source;
