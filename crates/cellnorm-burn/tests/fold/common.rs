//! Normalizations with statistics that are not trivial, and how far two results are apart.

use burn::module::{Param, RunningState};
use burn::nn;
use burn::tensor::{Device, Distribution, Tensor};
use cellnorm_burn::fold::FixedNorm;
use cellnorm_burn::{BatchNorm, BatchNormConfig};

/// The common part of both kinds of batch normalization.
pub trait Norm: FixedNorm {
    fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D>;
}

impl Norm for BatchNorm {
    fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward(x)
    }
}

impl Norm for nn::BatchNorm {
    fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward(x)
    }
}

pub fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.5, 1.5), device)
}

/// γ, β, mean and variance; with an offset 0 of each channel where it should not be shifted.
fn tables(channels: usize, shifted: bool, device: &Device) -> [Tensor<1>; 4] {
    let uniform = |low, high| Tensor::random([channels], Distribution::Uniform(low, high), device);
    let offset =
        |low, high| if shifted { uniform(low, high) } else { Tensor::zeros([channels], device) };
    [uniform(-1.5, 1.5), offset(-1.0, 1.0), offset(-2.0, 2.0), uniform(0.1, 4.0)]
}

pub fn ours(channels: usize, channel_axis: isize, shifted: bool, device: &Device) -> BatchNorm {
    let [gamma, beta, mean, variance] = tables(channels, shifted, device);
    let mut norm = BatchNormConfig::new(channels)
        .with_epsilon(1e-3)
        .with_channel_axis(channel_axis)
        .init(device);
    (norm.gamma, norm.beta) = (Some(Param::from_tensor(gamma)), Some(Param::from_tensor(beta)));
    (norm.running_mean, norm.running_var) = (RunningState::new(mean), RunningState::new(variance));
    norm
}

pub fn theirs(channels: usize, shifted: bool, device: &Device) -> nn::BatchNorm {
    let [gamma, beta, mean, variance] = tables(channels, shifted, device);
    let mut norm = nn::BatchNormConfig::new(channels).init(device);
    (norm.gamma, norm.beta) = (Param::from_tensor(gamma), Param::from_tensor(beta));
    (norm.running_mean, norm.running_var) = (RunningState::new(mean), RunningState::new(variance));
    norm
}

/// The largest difference, relative to the largest value expected.
pub fn error<const D: usize>(given: Tensor<D>, expected: Tensor<D>) -> f32 {
    let scale = expected.clone().abs().max().into_scalar::<f32>();
    (given - expected).abs().max().into_scalar::<f32>() / scale
}

#[track_caller]
pub fn assert_near<const D: usize>(given: Tensor<D>, expected: Tensor<D>, what: &str) {
    let error = error(given, expected);
    println!("{what}: {error:.1e} of the scale");
    assert!(error < 1e-5, "{what} differs by {error}");
}
