//! ONNX's messages, read where they lie: what folding looks at is parsed, everything else stays
//! bytes.
//!
//! The numbers of the fields are those of `onnx.proto` (ONNX 1.20, IR version 13).

pub mod graph;
pub mod model;
pub mod node;
pub mod rope;
pub mod shape;
pub mod tensor;
pub mod values;
pub mod wire;
