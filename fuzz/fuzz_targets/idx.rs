//! Any bytes as an IDX file; what is asked of them is in `any_bytes`, which the tests of
//! `cellnorm-data` run on damaged files:
//!
//! ```sh
//! cargo +nightly fuzz run idx -- -max_total_time=600
//! ```
#![no_main]

use cellnorm_data::files::Format;

#[allow(dead_code, reason = "each target asks for one kind of file")]
#[path = "../../crates/cellnorm-data/tests/sets/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|file: &[u8]| any_bytes::as_array(Format::Idx, file));
