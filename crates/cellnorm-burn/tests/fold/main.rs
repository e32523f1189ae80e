//! Folded layers of Burn against the layer and the normalization they came from.

mod common;
mod every_layer;
mod network;
mod parameters;
mod refusals;
