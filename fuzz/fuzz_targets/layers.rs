//! Any layer on any shape, strides, axes, element type and class of values against the naive twin;
//! what the bytes mean is in `any_input`, which the tests of `cellnorm` run on random bytes:
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run layers -- -max_len=64 -max_total_time=600
//! ```
#![no_main]
#![allow(dead_code, unused_imports, reason = "the twin is shared with tests that use more of it")]

#[path = "../../crates/cellnorm/tests/checks/any_input.rs"]
mod any_input;
#[path = "../../crates/cellnorm/tests/checks/common/mod.rs"]
mod common;
#[path = "../../crates/cellnorm/tests/checks/elements.rs"]
mod elements;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| any_input::any_input(bytes));
