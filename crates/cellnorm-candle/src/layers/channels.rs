//! Normalizations of channels of single samples: group normalization,
//! y = γ (x − mean_{n,g}) / √(variance_{n,g} + ε) + β, and instance normalization,
//! y = γ (x − mean_{n,c}) / √(variance_{n,c} + ε) + β.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use cellnorm::norms::{Group, Instance};
use cellnorm::{GroupNormConfig, semantics::GroupParameters};

use super::RuleNorm;

/// Group normalization of \[N, C, …\]: γ (x − mean_{n,g}) / √(variance_{n,g} + ε) + β, with a γ and
/// a β for each channel.
///
/// `forward` takes and refuses the same as [`LayerNorm`](crate::LayerNorm)'s; x has at least two
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
pub type GroupNorm = RuleNorm<Group, false>;

impl RuleNorm<Group, false> {
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
        Self::new_affine(group(num_channels, num_groups), Some(weight), Some(bias), eps)
    }

    /// Without γ and β.
    ///
    /// # Errors
    /// If the groups do not divide the channels.
    pub fn new_no_affine(num_channels: usize, num_groups: usize, eps: f64) -> Result<Self> {
        Self::new_affine(group(num_channels, num_groups), None, None, eps)
    }
}

fn group(channels: usize, groups: usize) -> Group {
    Group { groups, channels, channel_axis: 1, parameters: GroupParameters::PerChannel }
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
    let config = GroupNormConfig::new(num_groups, num_channels);
    Ok(RuleNorm::from_builder(config, &vb)?.with_eps(eps))
}

/// Makes an [`InstanceNorm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceNormConfig {
    /// ε, added to the variance inside the root. Default: 1e-5.
    pub eps: f64,
    /// Whether there are γ and β. Default: true (PyTorch: false).
    pub affine: bool,
}

impl Default for InstanceNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, affine: true }
    }
}

impl From<f64> for InstanceNormConfig {
    fn from(eps: f64) -> Self {
        Self { eps, ..Self::default() }
    }
}

/// Instance normalization of \[N, C, …\]: γ (x − mean_{n,c}) / √(variance_{n,c} + ε) + β, with a γ
/// and a β for each channel.
///
/// `forward` takes and refuses the same as [`LayerNorm`](crate::LayerNorm)'s; x has at least two
/// axes. Images of 1×1 have one value a statistic: see [`with_one_value`](Self::with_one_value).
///
/// Source: D. Ulyanov, A. Vedaldi, V. Lempitsky, *Instance Normalization*, 2016; ε as
/// `torch.nn.InstanceNorm*d` of PyTorch 2.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_nn::Module;
/// use cellnorm_candle::InstanceNorm;
/// let x = Tensor::randn(3f32, 2., (2, 3, 9), &Device::Cpu)?;
/// let y = InstanceNorm::new_no_affine(3, 1e-5).forward(&x)?;
/// assert!(y.get(1)?.get(2)?.mean_all()?.to_scalar::<f32>()?.abs() < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub type InstanceNorm = RuleNorm<Instance, false>;

impl RuleNorm<Instance, false> {
    /// γ and β of each channel, the number of channels, and ε.
    pub fn new(weight: Tensor, bias: Tensor, num_channels: usize, eps: f64) -> Self {
        let rule = Instance { channels: num_channels, channel_axis: 1 };
        Self::new_affine(rule, Some(weight), Some(bias), eps).expect(SOUND)
    }

    /// Without γ and β.
    pub fn new_no_affine(num_channels: usize, eps: f64) -> Self {
        let rule = Instance { channels: num_channels, channel_axis: 1 };
        Self::new_affine(rule, None, None, eps).expect(SOUND)
    }
}

const SOUND: &str = "any number of channels is sound";

/// A layer from `weight` and `bias`, \[C\], which start as 1 and 0. `config` is ε, or more.
///
/// # Errors
/// If the builder lacks them or has another shape.
///
/// ```
/// use candle_core::{DType, Device};
/// use candle_nn::{VarBuilder, VarMap};
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let layer = cellnorm_candle::instance_norm(64, 1e-5, vb)?.with_channel_axis(-1);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn instance_norm<C: Into<InstanceNormConfig>>(
    num_channels: usize,
    config: C,
    vb: VarBuilder,
) -> Result<InstanceNorm> {
    let InstanceNormConfig { eps, affine } = config.into();
    let config = cellnorm::InstanceNormConfig::new(num_channels).scale(affine).center(affine);
    Ok(RuleNorm::from_builder(config, &vb)?.with_eps(eps))
}
