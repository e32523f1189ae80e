//! Group normalization: y = γ (x − mean_{n,g}) / √(variance_{n,g} + ε) + β over each group of
//! channels of each sample.

use candle_core::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};
use cellnorm::GroupParameters;
use cellnorm::norms::{Group, Kind};

use super::{Options, with_channels};
use crate::numbers::wrong;

/// Group normalization of \[N, C, …\]: γ (x − mean_{n,g}) / √(variance_{n,g} + ε) + β, with a γ and
/// a β for each channel.
///
/// What `forward` takes and refuses is as for [`LayerNorm`](crate::LayerNorm); x has at least two
/// axes.
///
/// Source: Y. Wu, K. He, *Group Normalization*, 2018; interface of candle-nn 0.11.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap};
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let layer = cellnorm_candle::group_norm(2, 6, 1e-5, vb)?;
/// let y = layer.forward(&Tensor::randn(3f32, 2., (4, 6, 5, 5), &Device::Cpu)?)?;
/// assert!(y.narrow(1, 0, 3)?.get(0)?.mean_all()?.to_scalar::<f32>()?.abs() < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    kind: Group,
    options: Options,
}

impl GroupNorm {
    /// γ and β of each channel, the number of channels and of groups, and ε.
    ///
    /// # Errors
    /// If the groups do not divide the channels.
    pub fn new(
        weight: Tensor,
        bias: Tensor,
        num_channels: usize,
        num_groups: usize,
        eps: f64,
    ) -> Result<Self> {
        Self::of(Some(weight), Some(bias), num_channels, num_groups, eps)
    }

    /// Without γ and β.
    ///
    /// # Errors
    /// If the groups do not divide the channels.
    pub fn new_no_affine(num_channels: usize, num_groups: usize, eps: f64) -> Result<Self> {
        Self::of(None, None, num_channels, num_groups, eps)
    }

    fn of(
        weight: Option<Tensor>,
        bias: Option<Tensor>,
        channels: usize,
        groups: usize,
        eps: f64,
    ) -> Result<Self> {
        let kind =
            Group { groups, channels, channel_axis: 1, parameters: GroupParameters::PerChannel };
        kind.check().map_err(wrong)?;
        Ok(Self { weight, bias, kind, options: Options::new(eps) })
    }

    with_channels!();
}

impl Module for GroupNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, None)
    }
}

/// A layer from `weight` and `bias`, \[C\], which start as 1 and 0.
///
/// # Errors
/// If the builder lacks them or has another shape, or the groups do not divide the channels.
pub fn group_norm(
    num_groups: usize,
    num_channels: usize,
    eps: f64,
    vb: VarBuilder,
) -> Result<GroupNorm> {
    let weight = vb.get_with_hints(num_channels, "weight", Init::Const(1.0))?;
    let bias = vb.get_with_hints(num_channels, "bias", Init::Const(0.0))?;
    GroupNorm::new(weight, bias, num_channels, num_groups, eps)
}
