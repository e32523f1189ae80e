//! Folding a normalization with fixed statistics into the linear layer before or after it, in f64.
//!
//! With fixed statistics a batch normalization is an [`Affine`] map of each channel, z = a·y + c. A
//! convolution, a transposed convolution and a dense layer are linear in each input channel i and
//! each output channel o: y\[o\] = Σ W\[o, i, k\]·x\[i, k\] + b\[o\] over i and the taps k. So the
//! map merges into the layer:
//!
//! * a map *after* the layer: W′\[o, i, k\] = a\[o\]·W\[o, i, k\], b′\[o\] = a\[o\]·b\[o\] +
//!   c\[o\];
//! * a map *before* it: W′\[o, i, k\] = W\[o, i, k\]·a\[i\], b′\[o\] = b\[o\] + Σ W\[o, i,
//!   k\]·c\[i\]. With c ≠ 0 this is exact only where no zeros are padded to x, since the padding
//!   was not shifted: it is 0, not c.
//!
//! Everything is computed in f64, so that storing the result rounds once.
//!
//! ```
//! use cellnorm::fold::{Affine, Kernel};
//!
//! // a dense layer from 2 to 1, then a batch normalization
//! let kernel = Kernel::dense([1, 2])?;
//! let norm = Affine::of_batch_norm(Some(&[3.0]), Some(&[1.0]), &[0.5], &[3.75], 0.25)?; // 3 (y - 0.5) / 2 + 1
//! let folded = kernel.fold_after(&norm)?.fold(&[2.0, 4.0], Some(&[0.5]))?;
//! assert_eq!((folded.weight, folded.bias), (vec![3.0, 6.0], vec![1.0]));
//! # Ok::<(), cellnorm::Error>(())
//! ```
//!
//! Source: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", 2018, section 3.2 (after a convolution).

mod affine;
mod kernel;
#[cfg(feature = "files")]
pub mod pairs;

pub use affine::Affine;
pub use kernel::{Folded, Folding, Kernel, Segment};
