//! ONNX's messages, read where they lie: what folding looks at is parsed, everything else stays
//! bytes.
//!
//! The numbers of the fields are those of `onnx.proto` (ONNX 1.20, IR version 13).

mod graph;
mod model;
mod tensor;
mod values;
pub mod wire;

pub use graph::{Attribute, Graph, Node, NodeId, Part, Shape, Value, ValueId};
pub use model::{FunctionNorm, Model};
pub use tensor::{Externals, Tensor, product};
pub use values::{Float, Values};
