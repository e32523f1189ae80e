//! Data sets in every format against NumPy, and every way to interrupt, split and damage them.

mod any_bytes;
mod common;
mod damage;
mod formats;
mod merging;
mod misread;
