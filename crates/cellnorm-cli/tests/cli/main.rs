//! The command `cellnorm`, from outside.

mod common;
mod compare;
mod explain;
mod fold;
mod inspect;
mod machine;
mod refusals;
mod sequence;
mod stats;
