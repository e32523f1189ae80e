//! Normalization of data, and statistics of data for the normalizations of a network.

#[cfg(feature = "dataset")]
mod mapper;
mod normalize;
mod recalibrate;
mod recalibrate_left_alone;
