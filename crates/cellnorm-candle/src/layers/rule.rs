//! The layer over any rule of the library, with its parameters and running averages as Candle's
//! tensors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Module, ModuleT, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use cellnorm::norms::{
    BatchInstance, Features, FilterResponse, HasChannels, OverFeatures, Switchable,
};
use cellnorm::rule::{Norm, NormConfig, ParameterSpec, Rule, Running};
use cellnorm::{
    Activation, Mask, Mode, Momentum, OneValue, Semantics,
    norms::{BatchInstanceNormConfig, FilterResponseNormConfig, SwitchableNormConfig},
    shape::Excluded,
};
use ndarray::{ArrayD, IxDyn};

use crate::numbers::{tensor, values, wrong};
use crate::ops::{NamedTensor, accumulator, apply, infer_rows, parameter, tracks};

/// A normalization by a [`Rule`] of the library: [`BatchNorm`](crate::BatchNorm),
/// [`GroupNorm`](crate::GroupNorm), [`SwitchableNorm`], or any other that [`rule_norm`] makes.
///
/// With `TRAIN_FLAG` it is a `ModuleT`: in training the statistics are those of x, and running
/// averages move toward them, where the rule keeps any; in inference they are used. Without, it is
/// a `Module`, the same in training and in inference.
#[derive(Clone, Debug)]
pub struct RuleNorm<R: Rule, const TRAIN_FLAG: bool = true> {
    /// The settings, without γ, β and running averages: the operation gets them from the tensors.
    settings: Norm<R>,
    parameters: Vec<NamedTensor>,
    averages: Option<Averages>,
    /// The averages that training takes in their place, where they have a pace of their own.
    correction: Option<Averages>,
    /// How often the averages have moved.
    steps: Arc<AtomicU64>,
    /// Whether the statistics are those of the last axes, which are the axes of γ.
    rows: bool,
}

/// Batch-instance normalization: a gate `rho` for each channel blends the batch's and the
/// instance's result ([`cellnorm::norms::BatchInstanceNorm`]). Made by [`batch_instance_norm`].
pub type BatchInstanceNorm = RuleNorm<BatchInstance>;

/// Switchable normalization: `mean_weight` and `variance_weight`, three each, blend instance, layer
/// and batch statistics ([`cellnorm::norms::SwitchableNorm`]). Made by [`switchable_norm`].
pub type SwitchableNorm = RuleNorm<Switchable>;

/// Filter response normalization: each channel of each sample by its root mean square
/// ([`cellnorm::norms::FilterResponseNorm`]), the same in training and in inference. Made by
/// [`filter_response_norm`].
pub type FilterResponseNorm = RuleNorm<FilterResponse>;

impl<R: Rule, const TRAIN_FLAG: bool> RuleNorm<R, TRAIN_FLAG> {
    /// The rule with this γ, this β and this ε, which `forward` checks.
    pub(super) fn new_affine(
        rule: R,
        gamma: Option<Tensor>,
        beta: Option<Tensor>,
        eps: f64,
    ) -> Result<Self> {
        let config = NormConfig::custom(rule).scale(false).center(false);
        let mut settings = bare(config.init().map_err(wrong)?);
        settings.epsilon = eps;
        let parameters = vec![("gamma", gamma), ("beta", beta)];
        Ok(Self::assemble(settings, parameters))
    }

    /// Without averages.
    fn assemble(settings: Norm<R>, parameters: Vec<NamedTensor>) -> Self {
        let (averages, correction, steps) = (None, None, Arc::default());
        Self { settings, parameters, averages, correction, steps, rows: false }
    }

    /// The layer of a config, with the tensors of a builder.
    pub(super) fn from_builder(config: NormConfig<R>, vb: &VarBuilder) -> Result<Self> {
        let start = config.init().map_err(wrong)?;
        let variable = |ParameterSpec { name, shape, .. }: ParameterSpec| {
            let Some(values) = start.parameter(name) else { return Ok((name, None)) };
            let initial = values.first().copied().unwrap_or_default();
            if *values != ArrayD::from_elem(IxDyn(&shape), initial) {
                candle_core::bail!(
                    "{name} starts at random, which a builder cannot be told; set the variable \
                     afterwards"
                )
            }
            let names = match name {
                "gamma" => ["weight", name],
                "beta" => ["bias", name],
                _ => [name; 2],
            };
            let stored = names.into_iter().find(|name| vb.contains_tensor(name));
            let stored = stored.unwrap_or(names[0]);
            let tensor = vb.get_with_hints(shape, stored, Init::Const(initial))?;
            Ok((name, Some(if start.is_frozen(name) { tensor.detach() } else { tensor })))
        };
        let parameters = start.rule().parameters().into_iter().map(variable).collect::<Result<_>>();
        let running = start.rule().running().filter(|_| start.running.is_some());
        let averages = |names| {
            let new =
                |(shape, second): &(Vec<_>, _)| Averages::from_builder(shape, *second, names, vb);
            running.as_ref().map(new).transpose()
        };
        let correction = start.correction.is_some();
        let parameters = parameters?;
        Ok(Self {
            averages: averages(RUNNING)?,
            correction: if correction { averages(CORRECTION)? } else { None },
            ..Self::assemble(bare(start), parameters)
        })
    }

    /// With this ε, which `forward` checks.
    pub(super) fn with_eps(mut self, eps: f64) -> Self {
        self.settings.epsilon = eps;
        self
    }

    pub(super) fn with_averages(self, mean: &Tensor, variance: &Tensor) -> Result<Self> {
        Ok(Self { averages: Some(Averages::new(mean, variance)?), ..self })
    }

    /// The pace of the running averages. Default: `Momentum::Step(0.1)`. Of the cumulative and the
    /// pooled one, the number of batches is not among the variables of the builder: keep
    /// [`num_batches_tracked`](Self::num_batches_tracked) beside them.
    ///
    /// # Errors
    /// If it is not in \[0, 1\], or ε is not finite and at least 1e-36.
    pub fn with_momentum(mut self, momentum: Momentum) -> Result<Self> {
        let config = NormConfig::custom(self.rule().clone()).epsilon(self.eps());
        config.momentum(momentum).init().map_err(wrong)?;
        self.settings.momentum = momentum;
        Ok(self)
    }

    /// The policy for a single value a statistic, where a gradient is wanted or a running average
    /// moves.
    /// Default: [`OneValue::Error`]; such an x gives β in inference then.
    ///
    /// # Errors
    /// If running averages are to be used that the layer does not keep.
    ///
    /// ```
    /// use candle_core::{Device, Var};
    /// use candle_nn::Module;
    /// use cellnorm_candle::{InstanceNorm, cellnorm::OneValue};
    /// let x = Var::new(&[[[7f32], [8.]]], &Device::Cpu)?;
    /// let layer = InstanceNorm::new_no_affine(2, 1e-5);
    /// assert!(layer.forward(&x).is_err());
    /// let y = layer.with_one_value(OneValue::Beta)?.forward(&x)?;
    /// assert_eq!(y.to_vec3::<f32>()?, [[[0.], [0.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn with_one_value(mut self, policy: OneValue) -> Result<Self> {
        let config = NormConfig::custom(self.rule().clone()).one_value(policy);
        config.running_statistics(self.averages.is_some()).init().map_err(wrong)?;
        self.settings.one_value = policy;
        Ok(self)
    }

    /// Stops the training of one parameter, by the library's name for it: it is applied as before,
    /// and no gradient reaches it.
    ///
    /// # Errors
    /// If the layer has no such parameter.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::{ModuleT, VarBuilder, VarMap};
    /// use cellnorm_candle::{batch_norm, debug::unreached};
    /// let variables = VarMap::new();
    /// let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    /// let layer = batch_norm(3, 1e-5, vb)?.with_frozen("gamma")?;
    /// let y = layer.forward_t(&Tensor::randn(0f32, 1., (4, 3), &Device::Cpu)?, true)?;
    /// assert_eq!(unreached(&y.sqr()?.sum_all()?, &variables)?, ["weight"]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn with_frozen(mut self, name: &str) -> Result<Self> {
        let mut present =
            self.parameters.iter_mut().filter_map(|(own, of)| Some((*own, of.as_mut()?)));
        let Some((_, tensor)) = present.find(|(own, _)| *own == name) else {
            let present = self.parameters.iter().filter(|(_, tensor)| tensor.is_some());
            let has = present.map(|(own, _)| *own).collect::<Vec<_>>().join(", ");
            candle_core::bail!("{name} is no parameter of this layer, which has: {has}")
        };
        *tensor = tensor.detach();
        Ok(self)
    }

    /// The treatment of the values that a mask excludes. Default: [`Excluded::Zero`].
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use cellnorm_candle::{InstanceNorm, cellnorm::{Mask, shape::Excluded}};
    /// let x = Tensor::new(&[[[1f32, 3., 6.]]], &Device::Cpu)?;
    /// let layer = InstanceNorm::new_no_affine(1, 1e-9).with_excluded(Excluded::Normalized);
    /// let y = layer.forward_masked(&x, &Mask::lengths(&[2], 2))?;
    /// // mean 2 and standard deviation 1 are those of 1 and 3
    /// assert_eq!(y.round()?.to_vec3::<f32>()?, [[[-1., 1., 4.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn with_excluded(mut self, excluded: Excluded) -> Self {
        self.settings.excluded = excluded;
        self
    }

    /// The activation after γ x̂ + β, in the same operation. Default: none. Example:
    /// [`with_semantics`](Self::with_semantics).
    pub fn with_activation(mut self, activation: Activation) -> Self {
        self.settings.activation = activation;
        self
    }

    /// The settings of a framework: ε, the channel axis, the running averages, what one value a
    /// statistic does, and the treatment of values that a mask excludes. Those with
    /// `running_statistics: false` remove the running averages of a batch normalization; a layer
    /// without any stays without. A γ or β that is applied but not learned, as MXNet's with
    /// `scale=False`, is [frozen](Self::with_frozen).
    ///
    /// # Errors
    /// If the semantics are those of another layer, or have averages for a correction and the layer
    /// has no variables for them.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::{ModuleT, VarBuilder, VarMap};
    /// use cellnorm_candle::{batch_norm, cellnorm::{Activation, Normalization, Semantics}};
    /// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let keras = Semantics::preset("keras-3", Normalization::Batch).unwrap();
    /// let layer = batch_norm(3, 1e-5, vb)?.with_semantics(&keras)?;
    /// assert_eq!(layer.eps(), 1e-3);
    /// let layer = layer.with_activation(Activation::Relu);
    /// let y = layer.forward_t(&Tensor::randn(0f32, 1., (4, 3), &Device::Cpu)?, true)?;
    /// assert_eq!(y.min_all()?.to_scalar::<f32>()?, 0.0);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn with_semantics(self, semantics: &Semantics) -> Result<Self> {
        let mut config = NormConfig::custom(self.rule().clone()).semantics(semantics);
        if self.averages.is_none() {
            config = config.running_statistics(false);
        }
        let settings = config.activation(self.activation()).init().map_err(wrong)?;
        if settings.correction.is_some() && self.correction.is_none() {
            candle_core::bail!(
                "{} has averages of their own pace for its correction under these semantics, and \
                 this layer has no variables for them; make it by rule_norm with a config of these \
                 semantics",
                R::NAME
            )
        }
        let averages = self.averages.filter(|_| settings.running.is_some());
        let correction = self.correction.filter(|_| settings.correction.is_some());
        let freeze = |(name, tensor): NamedTensor| match settings.is_frozen(name) {
            true => (name, tensor.map(|tensor| tensor.detach())),
            false => (name, tensor),
        };
        let parameters = self.parameters.into_iter().map(freeze).collect();
        Ok(Self { settings: bare(settings), parameters, averages, correction, ..self })
    }

    /// The rule.
    pub fn rule(&self) -> &R {
        self.settings.rule()
    }

    /// ε.
    pub fn eps(&self) -> f64 {
        self.settings.epsilon
    }

    /// The activation after γ x̂ + β.
    pub fn activation(&self) -> Activation {
        self.settings.activation
    }

    /// A parameter by the library's name for it: gamma, beta, rho, …; None where the layer has no
    /// such parameter.
    pub fn parameter(&self, name: &str) -> Option<&Tensor> {
        parameter(&self.parameters, name)
    }

    /// The running mean and the running variance, where the layer keeps them.
    pub fn running(&self) -> Option<(&Tensor, &Tensor)> {
        self.averages.as_ref().map(Averages::tensors)
    }

    /// The averages that training is corrected toward, where they have a pace of their own, as in
    /// the batch renormalization of Keras.
    pub fn correction(&self) -> Option<(&Tensor, &Tensor)> {
        self.correction.as_ref().map(Averages::tensors)
    }

    /// The weight of the next batch in the running averages.
    pub fn momentum(&self) -> f64 {
        self.settings.momentum.weight(self.num_batches_tracked() + 1)
    }

    /// How many batches the running averages have followed since the layer was made or told.
    pub fn num_batches_tracked(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Tells the layer how many batches its running averages have followed: cumulative momentum
    /// goes on from there.
    pub fn set_num_batches_tracked(&self, batches: u64) {
        if self.averages.is_some() {
            self.steps.store(batches, Ordering::Relaxed);
        }
    }

    /// Takes the averages of a layer on arrays, where a step moved them.
    fn take_averages(&self, layer: &Norm<R>) -> Result<()> {
        if layer.steps == self.num_batches_tracked() {
            return Ok(());
        }
        let correction = layer.correction.as_ref().map(|of| &of.averages);
        let pairs = [
            (&self.averages, layer.running.as_ref(), RUNNING),
            (&self.correction, correction, CORRECTION),
        ];
        let moved = pairs.into_iter().filter_map(|(own, moved, names)| {
            let own = own.as_ref()?;
            Some(own.rounded(moved?, names).map(|rounded| (own, rounded)))
        });
        for (own, [mean, variance]) in moved.collect::<Result<Vec<_>>>()? {
            own.mean.set(&mean)?;
            own.variance.set(&variance)?;
        }
        self.set_num_batches_tracked(layer.steps);
        Ok(())
    }
}

/// A layer without tensors, which the operation sets. One that is frozen is detached instead.
fn bare<R: Rule>(mut norm: Norm<R>) -> Norm<R> {
    for spec in norm.rule().parameters() {
        norm.unfreeze_parameter(spec.name);
    }
    (norm.gamma, norm.beta, norm.running) = (None, None, None);
    norm
}

impl<R: HasChannels, const TRAIN_FLAG: bool> RuleNorm<R, TRAIN_FLAG> {
    /// The axis of the channels; negative counts from the last. Default: 1; −1 for channels-last.
    /// Ignored by rules that name their axes.
    pub fn with_channel_axis(mut self, channel_axis: isize) -> Self {
        if let Some(axis) = self.settings.rule_mut().channel_axis_mut() {
            *axis = channel_axis;
        }
        self
    }
}

impl<R: OverFeatures, const TRAIN_FLAG: bool> RuleNorm<R, TRAIN_FLAG> {
    /// Over other axes than the last ones: any, or all but the samples' with a parameter for each
    /// channel.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::Module;
    /// use cellnorm_candle::{LayerNorm, norms::Features};
    /// let images = Tensor::randn(0f32, 1., (2, 8, 6, 6), &Device::Cpu)?;
    /// let weight = Tensor::ones(8, DType::F32, &Device::Cpu)?;
    /// let layer = LayerNorm::new_no_bias(weight, 1e-5)
    ///     .with_features(Features::PerChannel { channels: 8, axis: 1 });
    /// assert!(layer.forward(&images)?.get(0)?.mean_all()?.to_scalar::<f32>()?.abs() < 1e-5);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn with_features(mut self, features: Features) -> Self {
        let rows = matches!((&features, self.parameter("gamma")),
            (Features::Last(last), Some(gamma)) if last == gamma.dims());
        self.rows = rows && R::GAMMA_OFFSET == 0.0;
        *self.settings.rule_mut() = features.into();
        self
    }
}

impl<R: Rule + 'static, const TRAIN_FLAG: bool> RuleNorm<R, TRAIN_FLAG> {
    fn run(&self, x: &Tensor, mask: Option<&Mask>, mode: Mode) -> Result<Tensor> {
        let detached: Vec<NamedTensor>;
        let parameters = if mode.train_parameters {
            &self.parameters
        } else {
            let detach =
                |(name, tensor): &NamedTensor| (*name, tensor.as_ref().map(Tensor::detach));
            detached = self.parameters.iter().map(detach).collect();
            &detached
        };
        let mut layer = self.settings.clone();
        layer.mode = Mode { train_parameters: tracks(parameters), ..mode };
        if let Some(averages) = &self.averages {
            let steps = self.num_batches_tracked();
            (layer.running, layer.steps) = (Some(averages.arrays(R::NAME)?), steps);
        }
        if let (Some(own), Some(correction)) = (&self.correction, &mut layer.correction) {
            correction.averages = own.arrays(R::NAME)?;
        }
        apply(layer, x, parameters, mask, |layer| self.take_averages(layer))
    }
}

impl<R: Rule + 'static> RuleNorm<R, true> {
    /// Training: the statistics of x normalize and move the running ones, where there are any. Same
    /// errors as [`forward_mode`](Self::forward_mode).
    pub fn forward_train(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_mode(x, Mode::training())
    }

    /// Normalizes as the mode says: whose statistics normalize, whether the running ones move, and
    /// whether parameters have gradients.
    ///
    /// # Errors
    /// If the shape of x does not suit the rule, a statistic has no values, x holds NaN or
    /// infinity, or, in training, a statistic has one value and the
    /// [policy](Self::with_one_value) forbids it, or a running average would be infinite in its
    /// type.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::{VarBuilder, VarMap};
    /// use cellnorm_candle::cellnorm::{Mode, momentum::Frozen};
    /// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let layer = cellnorm_candle::batch_norm(3, 1e-5, vb)?;
    /// let x = Tensor::randn(10f32, 2., (8, 3), &Device::Cpu)?;
    /// // Keras' `trainable=False`
    /// let y = layer.forward_mode(&x, Mode::frozen(Frozen::Inference))?;
    /// assert_eq!(layer.running_mean().to_vec1::<f32>()?, [0.0; 3]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn forward_mode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.run(x, None, mode)
    }

    /// [`forward_mode`](Self::forward_mode) over the values alone that the mask says are valid: y
    /// and dx are 0 at the others, whatever x holds there, unless
    /// [`with_excluded`](Self::with_excluded) says that they are normalized as well.
    ///
    /// # Errors
    /// Same errors as [`forward_mode`](Self::forward_mode), except one value; also if the mask does
    /// not fit x.
    pub fn forward_masked(&self, x: &Tensor, mask: &Mask, mode: Mode) -> Result<Tensor> {
        self.run(x, Some(mask), mode)
    }
}

impl<R: Rule + 'static> ModuleT for RuleNorm<R, true> {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_mode(x, if train { Mode::training() } else { Mode::inference() })
    }
}

impl<R: Rule + 'static> RuleNorm<R, false> {
    /// `forward` over the values alone that the mask says are valid: y and dx are 0 at the others,
    /// whatever x holds there, unless [`with_excluded`](Self::with_excluded) says that they are
    /// normalized as well.
    ///
    /// # Errors
    /// Same errors as `forward`, except one value; also if the mask does not fit x.
    pub fn forward_masked(&self, x: &Tensor, mask: &Mask) -> Result<Tensor> {
        self.run(x, Some(mask), self.mode(x))
    }

    /// Training where a gradient is wanted.
    fn mode(&self, x: &Tensor) -> Mode {
        let trains = x.track_op() || tracks(&self.parameters);
        if trains { Mode::training() } else { Mode::inference() }
    }
}

impl<R: Rule + 'static> Module for RuleNorm<R, false> {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.rows
            && let Some(y) = infer_rows(&self.settings, x, &self.parameters)
        {
            return Ok(y);
        }
        self.run(x, None, self.mode(x))
    }
}

/// The names of the running averages.
const RUNNING: [&str; 2] = ["running_mean", "running_var"];

/// The names of the averages of a correction.
const CORRECTION: [&str; 2] = ["correction_mean", "correction_var"];

/// A running mean and a running variance as Candle's variables.
#[derive(Clone, Debug)]
struct Averages {
    mean: Var,
    variance: Var,
}

impl Averages {
    /// Variables of f32 or f64 as they are; of other tensors, copies, f32 at least: an average in
    /// half precision stands still, because a small step rounds to none, or overflows.
    fn new(mean: &Tensor, variance: &Tensor) -> Result<Self> {
        let variable = |tensor: &Tensor| -> Result<_> {
            Var::from_tensor(&tensor.to_dtype(accumulator(tensor.dtype()))?)
        };
        Ok(Self { mean: variable(mean)?, variance: variable(variance)? })
    }

    /// Those of these names in a builder, f32 at least.
    fn from_builder(
        shape: &[usize],
        second: f64,
        [mean, variance]: [&str; 2],
        vb: &VarBuilder,
    ) -> Result<Self> {
        let dtype = accumulator(vb.dtype());
        let get = |name, initial| vb.get_with_hints_dtype(shape, name, Init::Const(initial), dtype);
        Self::new(&get(mean, 0.0)?, &get(variance, second)?)
    }

    fn tensors(&self) -> (&Tensor, &Tensor) {
        (self.mean.as_tensor(), self.variance.as_tensor())
    }

    /// The averages as a layer on arrays takes them.
    fn arrays(&self, name: &str) -> Result<Running> {
        let array =
            |var: &Var| ArrayD::from_shape_vec(var.dims(), values(var, name)?).map_err(wrong);
        Ok(Running { mean: array(&self.mean)?, variance: array(&self.variance)? })
    }

    /// The averages of a layer on arrays, as these variables hold them.
    fn rounded(&self, running: &Running, names: [&str; 2]) -> Result<[Tensor; 2]> {
        let rounded = |name, var: &Var, array: &ArrayD<f64>| {
            let values: Vec<f64> = array.iter().copied().collect();
            let too_large =
                |value: &&f64| var.dtype() == DType::F32 && (**value as f32).is_infinite();
            if let Some(value) = values.iter().find(too_large) {
                candle_core::bail!("{name} would be {value:.1e}, too large for f32; use f64")
            }
            tensor(values, var.shape(), var.dtype(), var.device())
        };
        let mean = rounded(names[0], &self.mean, &running.mean)?;
        Ok([mean, rounded(names[1], &self.variance, &running.variance)?])
    }
}

/// A layer by any rule. γ and β are `weight` and `bias` in the builder, or `gamma` and `beta` where
/// those are there; other parameters have the library's names; running averages are `running_mean`
/// and `running_var`, and those of a correction `correction_mean` and `correction_var`.
///
/// With `running_statistics(false)` there are no averages: the statistics are always those of x, in
/// inference, too, as with PyTorch's `track_running_stats=False`. No gradient reaches a parameter
/// that the config freezes, as MXNet's semantics freeze γ with `scale=False`.
///
/// # Errors
/// If the config is not sound or starts a parameter at random, or the builder lacks a variable or
/// has another shape.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{ModuleT, VarBuilder, VarMap};
/// use cellnorm_candle::{cellnorm::norms::GhostBatchNormConfig, rule_norm};
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// // a large batch in parts of 4 samples
/// let layer = rule_norm(GhostBatchNormConfig::new(3, 4), vb)?;
/// let y = layer.forward_t(&Tensor::randn(0f32, 1., (8, 3, 5), &Device::Cpu)?, true)?;
/// assert!(y.narrow(0, 0, 4)?.mean_all()?.to_scalar::<f32>()?.abs() < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn rule_norm<R: Rule + 'static>(config: NormConfig<R>, vb: VarBuilder) -> Result<RuleNorm<R>> {
    RuleNorm::from_builder(config, &vb)
}

/// Batch-instance normalization of \[N, C, …\]; ρ starts at 1, which is batch normalization. Same
/// errors as [`rule_norm`].
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

/// Switchable normalization of \[N, C, …\]; all weights start equal. Same errors as [`rule_norm`].
pub fn switchable_norm(num_channels: usize, vb: VarBuilder) -> Result<SwitchableNorm> {
    rule_norm(SwitchableNormConfig::new(num_channels), vb)
}

/// Filter response normalization of \[N, C, …\], with ε = 1e-6; through [`rule_norm`] and
/// [`FilterResponseNormConfig`] with a learned ε, too. Same errors as [`rule_norm`].
pub fn filter_response_norm(num_channels: usize, vb: VarBuilder) -> Result<FilterResponseNorm> {
    rule_norm(FilterResponseNormConfig::new(num_channels), vb)
}
