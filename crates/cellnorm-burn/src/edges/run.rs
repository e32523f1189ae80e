//! A layer on Flex, composed of Burn's operations, and burn-nn's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn;
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};

use super::inputs::{EPSILON, GROUPS, Input, Kind};
use crate::composed::wide;
use crate::modules as ours;
use crate::ops::COMPOSED;

/// The names of the forms.
pub const FORMS: [&str; 3] = ["Flex", "other devices", "burn-nn"];

/// The result of a pass, or the words of its panic.
pub type Attempt<T> = Result<T, String>;

/// y, and the running averages after the pass.
pub type Output = (Vec<f64>, Vec<Vec<f64>>);

/// dx as x lies in memory, and the gradients of γ and β, where there are any.
pub type Slopes = Vec<Option<Vec<f64>>>;

/// The outcome of an input in one form.
pub struct Run {
    pub forward: Attempt<Output>,
    /// Whether a forward pass that failed has moved the running averages.
    pub moved: bool,
    /// None after a forward pass that failed.
    pub backward: Option<Attempt<Slopes>>,
    pub inference: Attempt<Output>,
}

/// Gives γ, β and running averages the numbers of an input.
struct Set<'a> {
    input: &'a Input,
    /// The type of running averages.
    running: DType,
    field: String,
}

impl ModuleMapper for Set<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.field = name.into();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let ([gamma, beta], [mean, variance]) = (self.input.affine(), self.input.running());
        let (values, dtype) = match self.field.as_str() {
            "gamma" => (gamma, self.input.dtype),
            "beta" => (beta, self.input.dtype),
            "running_mean" => (mean, self.running),
            _ => (variance, self.running),
        };
        param.map(|old| {
            let new = Tensor::<1>::from_data(&values[..], (&old.device(), dtype));
            new.reshape([-1; D]).set_require_grad(old.is_require_grad())
        })
    }
}

/// The running averages of a module, and the gradients of its parameters.
#[derive(Default)]
struct Read<'a> {
    gradients: Option<&'a Gradients>,
    field: String,
    running: Vec<Vec<f64>>,
    slopes: Slopes,
}

impl ModuleVisitor for Read<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.field = name.into();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.field.starts_with("running_") {
            self.running.push(values(param.val()));
        } else if let Some(gradients) = self.gradients {
            self.slopes.push(param.val().grad(gradients).map(values));
        }
    }
}

fn values<const D: usize>(of: Tensor<D>) -> Vec<f64> {
    of.into_data().iter::<f64>().collect()
}

fn attempt<T>(pass: impl FnOnce() -> T) -> Attempt<T> {
    catch_unwind(AssertUnwindSafe(pass)).map_err(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        words.or(panic.downcast_ref::<&str>().map(|words| (*words).into())).unwrap_or_default()
    })
}

fn run<M: Module>(
    layer: M,
    input: &Input,
    running: DType,
    forward: impl Fn(&M, Tensor<3>) -> Tensor<3>,
) -> Run {
    let device = Device::flex().autodiff();
    let layer = layer.map(&mut Set { input, running, field: String::new() });
    let averages = |layer: &M| {
        // what Burn's own layer has left to do
        layer.valid();
        let mut read = Read::default();
        layer.visit(&mut read);
        read.running
    };
    let (inference, start) = (layer.valid(), averages(&layer));
    let stored = tensor(input, &device).require_grad();
    let mut made = None;
    let forwarded = attempt(|| {
        let y = forward(&layer, spread(input, stored.clone()));
        made = Some(y.clone());
        (values(y), averages(&layer))
    });
    let moved = forwarded.is_err() && averages(&layer) != start;
    let backward = made.map(|y| {
        attempt(|| {
            let dy = TensorData::new(input.dy(), input.shape);
            let dy = Tensor::<3>::from_data(dy, (&device, input.dtype));
            let gradients = (y * dy).sum().backward();
            let mut read = Read { gradients: Some(&gradients), ..Read::default() };
            layer.visit(&mut read);
            [vec![stored.grad(&gradients).map(values)], read.slopes].concat()
        })
    });
    let inferred = attempt(|| {
        let y = forward(&inference, spread(input, stored.inner()));
        (values(y), averages(&inference))
    });
    Run { forward: forwarded, moved, backward, inference: inferred }
}

/// Our layer on Flex and composed, and burn-nn's.
macro_rules! forms {
    ($input:expr, $config:ident::new($($argument:expr),*)) => {{
        let (input, device) = ($input, Device::flex().autodiff());
        let layer = ours::$config::new($($argument),*).with_epsilon(EPSILON);
        let theirs = nn::$config::new($($argument),*).with_epsilon(EPSILON).init(&device);
        let dtype = wide(input.dtype);
        let own = || run(layer.init(&device), input, dtype, |layer, x| layer.forward(x));
        let fused = own();
        COMPOSED.set(true);
        let composed = own();
        COMPOSED.set(false);
        [fused, composed, run(theirs, input, input.dtype, |layer, x| layer.forward(x))]
    }};
}

pub fn forms(input: &Input) -> [Run; 3] {
    let [_, channels, length] = input.shape;
    match input.layer {
        Kind::Layer => forms!(input, LayerNormConfig::new(length)),
        Kind::Rms => forms!(input, RmsNormConfig::new(length)),
        Kind::Group => forms!(input, GroupNormConfig::new(GROUPS, channels)),
        Kind::Instance => forms!(input, InstanceNormConfig::new(channels)),
        Kind::Batch => forms!(input, BatchNormConfig::new(channels)),
    }
}

/// The tensor as it lies in memory.
fn tensor(input: &Input, device: &Device) -> Tensor<3> {
    let data = TensorData::new(input.values.clone(), input.stored);
    Tensor::from_data(data, (device, input.dtype))
}

/// The tensor, from what lies in memory.
fn spread(input: &Input, stored: Tensor<3>) -> Tensor<3> {
    if input.stored == input.shape { stored } else { stored.expand(input.shape) }
}
