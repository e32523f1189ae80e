//! Folding: a batch normalization with fixed statistics becomes part of the convolution or linear
//! layer beside it, and costs nothing.
//!
//! With fixed statistics a batch normalization is z = a·y + c for each channel, a = γ /
//! √(variance + ε) and c = β − a·mean. A layer that is linear in its channels takes it in:
//!
//! | the normalization is | W′ | b′ |
//! |---|---|---|
//! | after the layer, [`fold_after`](Fold::fold_after) | a\[o\] · W\[o, i, k\] | a\[o\] · b\[o\] + c\[o\] |
//! | before it, [`fold_before`](Fold::fold_before) | W\[o, i, k\] · a\[i\] | b\[o\] + Σ W\[o, i, k\] · c\[i\] |
//!
//! with output o, input i and tap k of the kernel, the sum over i and k. The layers are Burn's
//! `Conv1d`, `Conv2d`, `Conv3d`, `ConvTranspose1d`, `ConvTranspose2d`, `ConvTranspose3d` and
//! `Linear`, with groups, strides and dilation; the normalizations our
//! [`BatchNorm`](crate::BatchNorm), Burn's own, and any [`Affine`], such as the normalization of
//! the data that a network gets.
//!
//! Numbers are computed in f64 ([`cellnorm::fold`]) and rounded once, to the type that the
//! parameter has. A parameter keeps its id, its device, its layout in records, and whether it
//! trains. The layer has a bias afterwards; a new one trains if the weight does. A reparametrized
//! weight, as by [`weights`](crate::weights), becomes a plain one: its effective value is folded.
//!
//! ```
//! use burn::nn::conv::Conv2dConfig;
//! use burn::nn::{BatchNormConfig, LinearConfig};
//! use burn::tensor::{Device, Distribution, Tensor, Tolerance};
//! use cellnorm_burn::fold::{Affine, Fold};
//!
//! let device = Device::flex();
//! let conv = Conv2dConfig::new([3, 8], [3, 3]).with_bias(false).init(&device);
//! let norm = cellnorm_burn::BatchNormConfig::new(8).init(&device); // or Burn's own
//! let x = Tensor::random([2, 3, 9, 9], Distribution::Default, &device);
//! let y = norm.forward(conv.forward(x.clone()));
//! let folded = conv.fold_after(&norm)?;
//! folded
//!     .forward(x)
//!     .into_data()
//!     .assert_approx_eq::<f32>(&y.into_data(), Tolerance::absolute(1e-5));
//!
//! // a normalization of the data, before the first layer, and Burn's layer after it
//! let data = Affine::standardize(&[0.5, 0.1], &[0.2, 3.0])?;
//! let norm = BatchNormConfig::new(4).init(&device);
//! let linear =
//!     LinearConfig::new(2, 4).init(&device).fold_before(&data)?.fold_after(&norm)?;
//! # assert!(linear.bias.is_some());
//! # Ok::<(), cellnorm_burn::cellnorm::Error>(())
//! ```

mod layers;
mod norms;
mod numbers;

pub use cellnorm::fold::Affine;
pub(crate) use numbers::read;

use cellnorm::Error;

/// A layer of Burn that can take a normalization in.
pub trait Fold: Sized {
    /// The layer that does what this one and then `norm` do: W′\[o, i, k\] = a\[o\]·W\[o, i, k\],
    /// b′\[o\] = a\[o\]·b\[o\] + c\[o\].
    ///
    /// # Errors
    /// * If the normalization takes its statistics from the batch where it is: it is on a training
    ///   device and not frozen.
    /// * If its channels are not the outputs: their number or their axis is another one.
    /// * If a variance is negative, or a result is not finite in the type of the parameter.
    /// * If the weight or the bias is quantized: it would be rounded twice.
    fn fold_after(self, norm: &impl FixedNorm) -> Result<Self, Error>;

    /// The layer that does what `norm` and then this one do: W′\[o, i, k\] = W\[o, i, k\]·a\[i\],
    /// b′\[o\] = b\[o\] + Σ W\[o, i, k\]·c\[i\].
    ///
    /// ```
    /// use burn::nn::PaddingConfig1d;
    /// use burn::nn::conv::Conv1dConfig;
    /// use burn::tensor::Device;
    /// use cellnorm_burn::fold::{Affine, Fold};
    /// let padded =
    ///     Conv1dConfig::new(2, 2, 3).with_padding(PaddingConfig1d::Same).init(&Device::flex());
    /// let shift = Affine::new(vec![1.0, 1.0], vec![0.5, 0.0])?;
    /// let error = padded.clone().fold_before(&shift).unwrap_err();
    /// assert!(error.to_string().starts_with("Conv1d pads with zeros"));
    /// assert!(padded.fold_before(&shift.without_shift()).is_ok());
    /// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`fold_after`](Self::fold_after), for the inputs; and if some c is not 0 and not every
    /// output sees it through the whole kernel, for then no single bias stands for it: a
    /// convolution pads with zeros, or a transposed convolution has a border or gaps where fewer
    /// taps meet. It has neither with stride 1 and a padding of dilation · (kernel − 1) +
    /// padding_out or more.
    fn fold_before(self, norm: &impl FixedNorm) -> Result<Self, Error>;
}

/// A layer that is the same affine map of each channel for every input.
///
/// ```
/// use burn::module::Module;
/// use burn::tensor::Device;
/// use cellnorm_burn::{BatchNormConfig, fold::FixedNorm};
/// let norm = BatchNormConfig::new(2).with_epsilon(3.0).init(&Device::flex().autodiff());
/// let error = norm.affine().unwrap_err(); // it still trains
/// assert!(error.to_string().contains("valid()"));
/// assert_eq!(norm.valid().affine()?.scale(), [0.5, 0.5]); // 1 / √(1 + 3)
///
/// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
/// ```
pub trait FixedNorm {
    /// z = scale·y + shift for each channel.
    ///
    /// # Errors
    /// If the map is not fixed, because statistics come from the batch or still move, or if a
    /// number is not finite or a variance is negative.
    fn affine(&self) -> Result<Affine, Error>;

    /// The axis of the channels; negative counts from the last.
    fn channel_axis(&self) -> isize {
        1
    }
}
