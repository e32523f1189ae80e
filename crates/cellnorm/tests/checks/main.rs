//! The promises of the library, a file for each; `cargo test -p cellnorm --test
//! checks -- --nocapture` shows the figures.

mod accuracy;
mod any_input;
mod averages;
mod axes;
mod bits;
mod checkpoints;
mod common;
mod conversions;
mod data;
mod elements;
mod errors;
mod explanations;
mod far_means;
mod finite_differences;
mod fold;
mod frameworks;
mod halves;
mod health;
mod instruction_sets;
mod layouts;
mod local_response;
mod lp;
mod masks;
mod misuse;
mod modes;
mod neighbours;
mod no_samples;
#[cfg(feature = "files")]
mod pairs;
mod parameters;
mod ranks;
mod ranks_refusals;
mod ranks_rules;
mod relations;
mod rules;
mod semantics;
mod sharing;
mod spectral;
mod state;
mod switches;
mod tlu;
mod twin;
