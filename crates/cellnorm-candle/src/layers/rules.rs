//! The layers that are rules: any rule of the library with its parameters and running averages as
//! Candle's variables.

use candle_core::{Result, Tensor};
use candle_nn::{Init, ModuleT, VarBuilder};
use cellnorm::norms::{BatchInstance, FilterResponse, Switchable};
use cellnorm::tables::{Mask, Rule, Slot, TableNorm, TableNormConfig};
use cellnorm::{BatchInstanceNormConfig, FilterResponseNormConfig, Mode, SwitchableNormConfig};
use ndarray::{ArrayD, IxDyn};

use super::averages::Averages;
use super::tracks;
use crate::numbers::wrong;
use crate::ops::apply;

/// A normalization by a [`Rule`] of the library: [`BatchInstanceNorm`], [`SwitchableNorm`],
/// [`FilterResponseNorm`], or any other that [`rule_norm`] makes.
///
/// In training the statistics are those of x, and running averages move toward them, where the rule
/// keeps any; in inference they are used. What the data may be is as for
/// [`BatchNorm`](crate::BatchNorm).
#[derive(Clone, Debug)]
pub struct RuleNorm<R: Rule> {
    layer: TableNorm<R>,
    /// One for each slot; None for one that the layer does not have.
    parameters: Vec<(&'static str, Option<Tensor>)>,
    averages: Option<Averages>,
}

/// Batch-instance normalization: a gate `rho` for each channel blends the batch's and the
/// instance's result ([`cellnorm::BatchInstanceNorm`]). Made by [`batch_instance_norm`].
pub type BatchInstanceNorm = RuleNorm<BatchInstance>;

/// Switchable normalization: `mean_weight` and `variance_weight`, three each, blend instance, layer
/// and batch statistics ([`cellnorm::SwitchableNorm`]). Made by [`switchable_norm`].
pub type SwitchableNorm = RuleNorm<Switchable>;

/// Filter response normalization: each channel of each sample by its root mean square
/// ([`cellnorm::FilterResponseNorm`]), the same in training and in inference. Made by
/// [`filter_response_norm`].
pub type FilterResponseNorm = RuleNorm<FilterResponse>;

impl<R: Rule + 'static> RuleNorm<R> {
    /// A parameter by the library's name for it: gamma, beta, rho, …; None where the layer has no
    /// such parameter.
    pub fn parameter(&self, name: &str) -> Option<&Tensor> {
        self.parameters.iter().find(|(of, _)| *of == name)?.1.as_ref()
    }

    /// The running mean, where the rule keeps one.
    pub fn running_mean(&self) -> Option<&Tensor> {
        self.averages.as_ref().map(|averages| averages.mean.as_tensor())
    }

    /// The running variance, where the rule keeps one.
    pub fn running_var(&self) -> Option<&Tensor> {
        self.averages.as_ref().map(|averages| averages.variance.as_tensor())
    }

    /// How many batches the running averages have followed since the layer was made or told.
    pub fn num_batches_tracked(&self) -> u64 {
        self.averages.as_ref().map_or(0, Averages::steps)
    }

    /// Tells the layer how many batches its running averages have followed: cumulative momentum
    /// goes on from there.
    pub fn set_num_batches_tracked(&self, batches: u64) {
        if let Some(averages) = &self.averages {
            averages.set_steps(batches);
        }
    }

    /// As the mode says: whose statistics normalize, whether the running ones move, and whether
    /// parameters have gradients.
    ///
    /// # Errors
    /// If the shape of x does not suit the rule, x is empty or holds NaN or infinity, or a
    /// statistic of the batch has one value.
    pub fn forward_mode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.run(x, None, mode)
    }

    /// As [`forward_mode`](Self::forward_mode), over the values alone that the mask says are valid:
    /// y and dx are 0 at the others, whatever x holds there.
    ///
    /// # Errors
    /// As [`forward_mode`](Self::forward_mode), but for one value, and if the mask does not fit x.
    pub fn forward_masked(&self, x: &Tensor, mask: &Mask, mode: Mode) -> Result<Tensor> {
        self.run(x, Some(mask), mode)
    }

    fn run(&self, x: &Tensor, mask: Option<&Mask>, mode: Mode) -> Result<Tensor> {
        let mut layer = self.layer.clone();
        let wanted = |of: &Tensor| if mode.train_parameters { of.clone() } else { of.detach() };
        let parameters: Vec<Option<Tensor>> =
            self.parameters.iter().map(|(_, of)| of.as_ref().map(wanted)).collect();
        layer.mode =
            Mode { train_parameters: tracks(parameters.iter().map(Option::as_ref)), ..mode };
        if let (Some(averages), Some(running)) = (&self.averages, &mut layer.running) {
            let shaped =
                |values| ArrayD::from_shape_vec(running.mean.raw_dim(), values).map_err(wrong);
            let [mean, variance] = averages.numbers(R::NAME)?;
            (running.mean, running.variance) = (shaped(mean)?, shaped(variance)?);
            layer.steps = averages.steps();
        }
        apply(layer, x, &parameters, mask, |layer| match (&self.averages, &layer.running) {
            (Some(averages), Some(running)) => {
                let flat = |of: &ArrayD<f64>| of.iter().copied().collect();
                averages.moved_to(flat(&running.mean), flat(&running.variance), layer.steps)
            }
            _ => Ok(()),
        })
    }
}

impl<R: Rule + 'static> ModuleT for RuleNorm<R> {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_mode(x, if train { Mode::training() } else { Mode::inference() })
    }
}

/// A layer by any rule. γ and β are `weight` and `bias` in the builder, other parameters have the
/// library's names; running averages are `running_mean` and `running_var`.
///
/// # Errors
/// If the config is not sound, has a momentum for a correction or starts a parameter at random, or
/// the builder lacks a variable or has another shape.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{ModuleT, VarBuilder, VarMap};
/// use cellnorm_candle::{cellnorm::GhostBatchNormConfig, rule_norm};
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let layer = rule_norm(GhostBatchNormConfig::new(3, 4), vb)?; // a large batch in parts of 4 samples
/// let y = layer.forward_t(&Tensor::randn(0f32, 1., (8, 3, 5), &Device::Cpu)?, true)?;
/// assert!(y.narrow(0, 0, 4)?.mean_all()?.to_scalar::<f32>()?.abs() < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn rule_norm<R: Rule + 'static>(
    config: TableNormConfig<R>,
    vb: VarBuilder,
) -> Result<RuleNorm<R>> {
    let layer = config.init().map_err(wrong)?;
    if layer.correction.is_some() {
        candle_core::bail!(
            "{} has a momentum of its own for its correction, for which there are no variables \
             here; leave correction_momentum out, or train on arrays",
            R::NAME
        )
    }
    let variable = |Slot { name, shape, .. }: Slot| {
        let Some(start) = layer.parameter(name) else {
            return Ok((name, None));
        };
        let initial = start.first().copied().unwrap_or_default();
        if *start != ArrayD::from_elem(IxDyn(&shape), initial) {
            candle_core::bail!(
                "{name} starts at random, which a builder cannot be told; set the variable \
                 afterwards"
            )
        }
        let stored = match name {
            "gamma" => "weight",
            "beta" => "bias",
            other => other,
        };
        Ok((name, Some(vb.get_with_hints(shape, stored, Init::Const(initial))?)))
    };
    let parameters = layer.rule().slots().into_iter().map(variable).collect::<Result<_>>()?;
    let averages =
        layer.rule().running().map(|(shape, second)| Averages::from_builder(&shape, second, &vb));
    Ok(RuleNorm { parameters, averages: averages.transpose()?, layer })
}

/// Batch-instance normalization of \[N, C, …\]; ρ starts at 1, which is batch normalization.
///
/// # Errors
/// As [`rule_norm`].
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{ModuleT, VarBuilder, VarMap};
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let layer = cellnorm_candle::batch_instance_norm(3, vb)?;
/// let y = layer.forward_t(&Tensor::randn(0f32, 1., (4, 3, 5, 5), &Device::Cpu)?, true)?;
/// let gradients = y.sqr()?.sum_all()?.backward()?;
/// assert_eq!(gradients.get(layer.parameter("rho").unwrap()).unwrap().dims(), [3]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn batch_instance_norm(num_channels: usize, vb: VarBuilder) -> Result<BatchInstanceNorm> {
    rule_norm(BatchInstanceNormConfig::new(num_channels), vb)
}

/// Switchable normalization of \[N, C, …\]; all weights start equal.
///
/// # Errors
/// As [`rule_norm`].
pub fn switchable_norm(num_channels: usize, vb: VarBuilder) -> Result<SwitchableNorm> {
    rule_norm(SwitchableNormConfig::new(num_channels), vb)
}

/// Filter response normalization of \[N, C, …\], with ε = 1e-6; through [`rule_norm`] and
/// [`FilterResponseNormConfig`] with a learned ε, too.
///
/// # Errors
/// As [`rule_norm`].
pub fn filter_response_norm(num_channels: usize, vb: VarBuilder) -> Result<FilterResponseNorm> {
    rule_norm(FilterResponseNormConfig::new(num_channels), vb)
}
