//! Any bytes as an ONNX model; what is asked of them is in `any_bytes`, which the tests of
//! `cellnorm-onnx` run on damaged models:
//!
//! ```sh
//! cargo +nightly fuzz run onnx fuzz/corpus/onnx crates/cellnorm-onnx/tests/fixtures/patterns -- -max_total_time=600
//! ```
#![no_main]

#[path = "../../crates/cellnorm-onnx/tests/damage/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|file: &[u8]| any_bytes::any_bytes(file));
