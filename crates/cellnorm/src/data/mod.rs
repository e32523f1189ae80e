//! The statistics of a data set: mean, deviation, range and more of each channel, part by part.
//!
//! A data set is the largest table of this library: its channels are normalized like those of a
//! batch normalization whose batch is everything there is. Parts are computed where the data lie
//! and merged: [`Grid`] makes the [`Channel`]s of some samples, [`Forest`] puts the parts together.
//! Integers are counted ([`Histogram`]), so all that follows is exact; of floats the moments are
//! kept in f64 ([`Floats`]). The bits depend on the data alone, not on threads, order or shards.
//!
//! ```
//! use cellnorm::data::{Forest, Grid};
//!
//! let rows = Grid::new(&[2], &[0])?; // two features
//! let mut all = Forest::default();
//! all.insert(1, 0, rows.floats(&[3.0_f32, 30.0], None)?)?; // one machine
//! all.insert(0, 0, rows.floats(&[1.0_f32, 10.0], None)?)?; // another
//! let second = all.total().unwrap()[1].summary().unwrap();
//! assert_eq!((second.mean, second.deviation), (20.0, 10.0));
//! # Ok::<(), cellnorm::Error>(())
//! ```

mod channel;
mod floats;
mod forest;
mod grid;
mod histogram;
pub mod known;
mod normalize;

pub use channel::{BySample, Channel, Samples, Summary, Values};
pub use floats::Floats;
pub use forest::{Forest, Merge};
pub use grid::Grid;
pub use histogram::Histogram;
pub use normalize::{Normalize, NormalizeConfig};
