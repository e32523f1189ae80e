//! Cellnorm as its peers are measured against it: cases from plain numbers, the streams that a case
//! is compared to, and a C interface, so that a Python process can alternate Cellnorm with a
//! framework over the same arrays.

pub mod abi;
pub mod case;
pub mod streams;
