mod cells;
mod element;
mod moments;
pub mod passes;
pub use cells::{Cells, Sets};
pub use element::{Element, Real};
pub use moments::Moments;
