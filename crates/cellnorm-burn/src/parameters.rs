//! The parameters of normalizations within a network: which they are, what they keep to, what they
//! add to the loss.
//!
//! Burn's optimizers take a group of parameters each, and its learning rates too. All that is
//! missing is the group: γ and β should not decay, because decay pulls γ toward 0 and with it the
//! output of the layer, while a weight in front of a normalization loses nothing by being small.
//!
//! ```
//! use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
//! use burn::module::{Module, ParamGroup};
//! use burn::nn::{Linear, LinearConfig};
//! use burn::optim::{AdamWConfig, GradientsParams};
//! use burn::tensor::{Device, Distribution, Tensor};
//! use cellnorm_burn::parameters::{betas, norm_parameters};
//! use cellnorm_burn::{LayerNorm, LayerNormConfig};
//!
//! #[derive(Module, Debug)]
//! struct Network {
//!     linear: Linear,
//!     norm: LayerNorm,
//! }
//! let device = Device::flex().autodiff();
//! let network = Network {
//!     linear: LinearConfig::new(4, 3).init(&device),
//!     norm: LayerNormConfig::new(3).init(&device),
//! };
//!
//! // weight decay for the linear layer alone
//! let norms = ParamGroup::from_ids(norm_parameters(&network));
//! let decay = AdamWConfig::new().with_weight_decay(0.1);
//! let mut optimizer = decay.init().with_group(
//!     norms,
//!     AdamWConfig::new().with_weight_decay(0.0).build(),
//!     None,
//! );
//! // a learning rate of 0.01, but 0 for β: it is frozen
//! let frozen = ParamGroup::from_ids(betas(&network));
//! let mut rates = ModuleLrScheduler::new(0.01).with_group(frozen, 0.0);
//!
//! let x = Tensor::<2>::random([8, 4], Distribution::Default, &device);
//! let loss = network.norm.forward(network.linear.forward(x)).exp().sum();
//! let gradients = GradientsParams::from_grads(loss.backward(), &network);
//! let network = optimizer.step(rates.step(), network, gradients);
//! assert!(network.norm.beta.unwrap().val().abs().sum().into_scalar::<f32>() == 0.0);
//! ```

pub use cellnorm::parameters::{Constraint, Regularizer};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use cellnorm::shape::axis_index;

use crate::modules::rules::NAMES;

/// The modules whose own parameters belong to a normalization, by the name of their type: ours,
/// Burn's of the same names, and the gains of normalized weights.
const LAYERS: [&str; 7] = [
    "BatchNorm",
    "LayerNorm",
    "InstanceNorm",
    "GroupNorm",
    "RmsNorm",
    "WeightNorm",
    "WeightStandardization",
];

/// γ, β and the gains of every normalization in the module: Cellnorm's layers, Burn's own, and
/// [`weights`](crate::weights). Running statistics are not parameters. The `gamma` of
/// [`GemmaRmsNorm`](crate::GemmaRmsNorm) is among them, which holds γ − 1.
///
/// Burn tells a visitor the name of a type but not its crate, so another module that is called as
/// one of them, such as `BatchNorm`, counts too.
pub fn norm_parameters<M: Module>(module: &M) -> Vec<ParamId> {
    collect(module, |_, name| !name.starts_with("running") && name != "num_batches_tracked")
}

/// The γ of every normalization layer in the module, except those of
/// [`GemmaRmsNorm`](crate::GemmaRmsNorm): it stores γ − 1, so a constraint on γ would be wrong.
pub fn gammas<M: Module>(module: &M) -> Vec<ParamId> {
    collect(module, |layer, name| name == "gamma" && layer != "GemmaRmsNorm")
}

/// The β of every normalization layer in the module.
pub fn betas<M: Module>(module: &M) -> Vec<ParamId> {
    collect(module, |_, name| name == "beta")
}

fn collect<M: Module>(module: &M, wanted: impl Fn(&str, &str) -> bool) -> Vec<ParamId> {
    let mut collector = Collector { wanted, inside: vec![], found: vec![] };
    module.visit(&mut collector);
    collector.found
}

struct Collector<W> {
    /// Of a layer's name and that of its field.
    wanted: W,
    /// For every field that the visit is in, whether it is one to collect.
    inside: Vec<bool>,
    found: Vec<ParamId>,
}

impl<W: Fn(&str, &str) -> bool> ModuleVisitor for Collector<W> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        let layer = container_type
            .strip_prefix("Struct:")
            .filter(|layer| LAYERS.contains(layer) || NAMES.contains(layer));
        self.inside.push(layer.is_some_and(|layer| (self.wanted)(layer, name)));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.inside.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.inside.last() == Some(&true) {
            self.found.push(param.id);
        }
    }
}

/// Moves the parameters named into the constraint. Call it after the optimizer's step.
///
/// ```
/// use burn::tensor::Device;
/// use cellnorm_burn::BatchNormConfig;
/// use cellnorm_burn::parameters::{Constraint, constrain, gammas};
/// let layer = BatchNormConfig::new(3).init(&Device::flex().autodiff());
/// let gammas = gammas(&layer);
/// let layer = constrain(layer, &gammas, Constraint::Clip { low: 0.0, high: 0.5 });
/// assert_eq!(layer.gamma.unwrap().val().max().into_scalar::<f32>(), 0.5);
/// ```
///
/// # Panics
/// If the constraint cannot be kept, or a parameter does not have its axis.
pub fn constrain<M: Module>(module: M, ids: &[ParamId], constraint: Constraint) -> M {
    constraint.check().unwrap_or_else(|error| panic!("{error}"));
    module.map(&mut Constrainer { ids, constraint })
}

struct Constrainer<'a> {
    ids: &'a [ParamId],
    constraint: Constraint,
}

impl ModuleMapper for Constrainer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.ids.contains(&param.id) {
            return param;
        }
        param.map(|value| {
            let trained = value.is_require_grad();
            let value = value.detach();
            let kept = match self.constraint {
                Constraint::NonNegative => value.clamp_min(0.0),
                Constraint::Clip { low, high } => value.clamp(low, high),
                Constraint::MaxNorm { max, axis } => {
                    let index = axis_index(axis, D).unwrap_or_else(|error| panic!("{error}"));
                    let norm = value.clone().square().sum_dim(index).sqrt();
                    value * norm.clone().clamp_max(max) / (norm + 1e-7)
                }
            };
            kept.detach().set_require_grad(trained)
        })
    }
}

/// The penalty of the parameters named, `[1]`; 0 where none is in the module.
/// Gradients flow through it.
///
/// ```
/// use burn::tensor::Device;
/// use cellnorm_burn::LayerNormConfig;
/// use cellnorm_burn::parameters::{Regularizer, gammas, penalty};
/// let layer = LayerNormConfig::new(3).init(&Device::flex().autodiff());
/// let gradients = penalty(&layer, &gammas(&layer), Regularizer::L2(0.1)).backward();
/// let dgamma = layer.gamma.unwrap().val().grad(&gradients).unwrap();
/// assert!((dgamma.sum().into_scalar::<f32>() - 0.6).abs() < 1e-6);
/// ```
///
/// # Panics
/// If a factor of the regularizer is negative or not finite.
pub fn penalty<M: Module>(module: &M, ids: &[ParamId], regularizer: Regularizer) -> Tensor<1> {
    let factors = regularizer.factors().unwrap_or_else(|error| panic!("{error}"));
    let mut sum = Penalty { ids, factors, sum: None };
    module.visit(&mut sum);
    sum.sum.unwrap_or_else(|| {
        Tensor::zeros([1], &module.devices().into_iter().next().unwrap_or_default())
    })
}

struct Penalty<'a> {
    ids: &'a [ParamId],
    factors: (f64, f64),
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for Penalty<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.ids.contains(&param.id) {
            return;
        }
        let (value, (l1, l2)) = (param.val(), self.factors);
        let penalty = value.clone().abs().sum() * l1 + value.square().sum() * l2;
        self.sum = Some(match self.sum.take() {
            Some(sum) => penalty.to_device(&sum.device()) + sum,
            None => penalty,
        });
    }
}
