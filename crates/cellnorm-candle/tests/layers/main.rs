//! The layers against candle-nn's, f64 twins, finite differences and the library's own layers.

mod accuracy;
mod averages;
mod candle_nn_cases;
mod checkpoints;
mod common;
mod debug;
mod errors;
mod finite_differences;
mod fold;
mod frozen;
mod halves;
mod masks;
mod no_samples;
mod same_bits;
mod transformer;
mod weights;
