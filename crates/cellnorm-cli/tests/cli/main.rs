//! The command `cellnorm`, from outside.

mod common;
mod compare;
mod explain;
mod refusals;
mod sequence;
