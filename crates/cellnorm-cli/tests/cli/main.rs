//! The command `cellnorm`, from outside.

mod common;
mod compare;
mod refusals;
mod sequence;
