//! The command `cellnorm`, from outside.

mod common;
mod compare;
mod explain;
mod fold;
mod refusals;
mod sequence;
