//! A tensor as cells or rows: which axes share a statistic, which values belong to which cell, and
//! which cells belong together.
//!
//! [`Roles`] say what each axis is for, [`Plan`] turns them into [`Cells`] and [`Sets`] of memory,
//! [`Sharing`] describes the sets of one statistic, [`Labels`] name the set of each cell, and a
//! [`Mask`] leaves values out.

mod axes;
mod cells;
mod labels;
mod mask;
mod plan;
mod sharing;

pub use axes::{Axis, Roles, axis_index, inverse};
pub(crate) use axes::{axis_set, check_size};
pub use cells::{Cells, Sets};
pub use labels::{Labels, cells_of, sets_of};
pub use mask::{Excluded, Mask};
pub use plan::Plan;
pub(crate) use plan::{Form, grid};
pub use sharing::{Along, Centering, Measure, Noise, Sharing};
