//! The same normalizations of Candle's own operations, for devices other than the CPU.
//!
//! Candle differentiates them itself. They compute in f32 where x has fewer digits, and hold a few
//! tensors as large as x until the backward pass, where the fused operation holds none.

mod kinds;
mod rules;
mod table;
mod windows;

pub(crate) use kinds::standardize;
pub(crate) use rules::{Applied, Terms};
pub(crate) use windows::window_sums;

#[cfg(test)]
mod tests;
