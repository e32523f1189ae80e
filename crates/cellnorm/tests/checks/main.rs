//! What the library promises, a file for each promise; `cargo test -p cellnorm --test checks -- --nocapture` shows the figures.

mod accuracy;
mod averages;
mod axes;
mod bits;
mod checkpoints;
mod common;
mod conversions;
mod errors;
mod explanations;
mod finite_differences;
mod instruction_sets;
mod layouts;
mod local_response;
mod lp;
mod masks;
mod misuse;
mod modes;
mod parameters;
mod relations;
mod rules;
mod semantics;
mod sharing;
mod spectral;
mod state;
mod tlu;
mod twin;
