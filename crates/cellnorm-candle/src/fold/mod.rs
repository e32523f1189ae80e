//! Folding: a batch normalization in inference becomes part of the convolution or linear layer
//! beside it, and costs nothing.
//!
//! With its running statistics a batch normalization is z = a·y + c for each channel, a = γ /
//! √(variance + ε) and c = β − a·mean. A layer that is linear in its channels takes it in:
//!
//! | the normalization is | W′ | b′ |
//! |---|---|---|
//! | behind the layer, [`fold_behind`](Fold::fold_behind) | a\[o\] · W\[o, i, k\] | a\[o\] · b\[o\] + c\[o\] |
//! | ahead of it, [`fold_ahead`](Fold::fold_ahead) | W\[o, i, k\] · a\[i\] | b\[o\] + Σ W\[o, i, k\] · c\[i\] |
//!
//! with output o, input i and tap k of the kernel, the sum over i and k. The layers are Candle's
//! `Conv1d`, `Conv2d`, `ConvTranspose1d`, `ConvTranspose2d` and `Linear`; the normalizations our
//! [`BatchNorm`](crate::BatchNorm), candle-nn's, and any [`Affine`], such as the normalization of
//! the data that a network gets. Numbers are computed in f64 ([`cellnorm::fold`]) and rounded once.
//! The folded layer is for inference: its weight and bias are constants.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{Module, ModuleT, VarBuilder, VarMap, conv2d_no_bias};
//! use cellnorm_candle::{batch_norm, fold::Fold};
//! let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
//! let conv = conv2d_no_bias(3, 8, 3, Default::default(), vb.pp("conv"))?;
//! let norm = batch_norm(8, 1e-5, vb.pp("norm"))?;
//! let x = Tensor::randn(0f32, 1., (2, 3, 9, 9), &Device::Cpu)?;
//! norm.forward_t(&conv.forward(&x)?, true)?; // some training
//! let y = norm.forward_t(&conv.forward(&x)?, false)?;
//! let folded = conv.fold_behind(&norm)?;
//! assert!((folded.forward(&x)? - y)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
//! # Ok::<(), candle_core::Error>(())
//! ```

mod layers;
mod norms;

pub use cellnorm::fold::Affine;

use candle_core::Result;

/// A layer of Candle that can take a normalization in.
pub trait Fold: Sized {
    /// The layer that does what this one and then `norm` do: W′\[o, i, k\] = a\[o\]·W\[o, i, k\],
    /// b′\[o\] = a\[o\]·b\[o\] + c\[o\].
    ///
    /// # Errors
    /// If the normalization's channels are not the outputs (their number or their axis is another
    /// one), a variance is negative, or a result is not finite in the type of the weight.
    fn fold_behind(&self, norm: &impl FixedNorm) -> Result<Self>;

    /// The layer that does what `norm` and then this one do: W′\[o, i, k\] = W\[o, i, k\]·a\[i\],
    /// b′\[o\] = b\[o\] + Σ W\[o, i, k\]·c\[i\].
    ///
    /// # Errors
    /// As [`fold_behind`](Self::fold_behind), for the inputs; and if some c is not 0 and not every
    /// output sees it through the whole kernel, for then no single bias stands for it: a
    /// convolution pads with zeros, or a transposed convolution has a border or gaps where fewer
    /// taps meet. It has neither with stride 1 and a padding of dilation · (kernel − 1) +
    /// output_padding or more.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{Conv1dConfig, VarBuilder, VarMap, conv1d};
    /// use cellnorm_candle::fold::{Affine, Fold};
    /// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let padded = conv1d(2, 2, 3, Conv1dConfig { padding: 1, ..Default::default() }, vb)?;
    /// let shift = Affine::new(vec![1.0, 1.0], vec![0.5, 0.0]).unwrap();
    /// assert!(
    ///     padded
    ///         .fold_ahead(&shift)
    ///         .unwrap_err()
    ///         .to_string()
    ///         .starts_with("Conv1d pads with zeros")
    /// );
    /// assert!(padded.fold_ahead(&shift.without_shift()).is_ok());
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    fn fold_ahead(&self, norm: &impl FixedNorm) -> Result<Self>;
}

/// What is the same affine map of each channel for every input.
pub trait FixedNorm {
    /// z = scale·y + shift for each channel.
    ///
    /// # Errors
    /// If a number is not finite or a variance is negative.
    fn affine(&self) -> Result<Affine>;

    /// The axis of the channels; negative counts from the last.
    fn channel_axis(&self) -> isize {
        1
    }
}
