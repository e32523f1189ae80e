//! Our layers against Burn's own, where both have the same meaning: output, gradients and running
//! statistics.

use burn::module::Param;
use burn::nn;
use burn::tensor::{Device, Distribution, Tensor};
use cellnorm_burn as ours;

/// y, dx and the gradients of γ and β for one input and the loss Σ w·y.
struct Outcome<const D: usize> {
    y: Tensor<D>,
    dx: Tensor<D>,
    dgamma: Option<Tensor<1>>,
    dbeta: Option<Tensor<1>>,
}

fn run<const D: usize>(
    x: &Tensor<D>,
    w: &Tensor<D>,
    gamma: Option<&Param<Tensor<1>>>,
    beta: Option<&Param<Tensor<1>>>,
    layer: impl Fn(Tensor<D>) -> Tensor<D>,
) -> Outcome<D> {
    let x = x.clone().require_grad();
    let y = layer(x.clone());
    let gradients = (y.clone() * w.clone()).sum().backward();
    let of = |parameter: Option<&Param<Tensor<1>>>| {
        parameter.map(|p| p.val().grad(&gradients).expect("it trains"))
    };
    Outcome {
        y,
        dx: x.grad(&gradients).expect("x requires it"),
        dgamma: of(gamma),
        dbeta: of(beta),
    }
}

fn assert_near<const D: usize>(ours: &Tensor<D>, theirs: &Tensor<D>, what: &str) {
    let scale = theirs.clone().abs().max().into_scalar::<f32>().max(1.0);
    let error =
        (ours.clone().inner() - theirs.clone().inner()).abs().max().into_scalar::<f32>() / scale;
    assert!(error < 2e-5, "{what} differs by {error}");
}

fn assert_same<const D: usize>(ours: Outcome<D>, theirs: Outcome<D>) {
    assert_near(&ours.y.detach(), &theirs.y.detach(), "y");
    assert_near(&Tensor::from_inner(ours.dx), &Tensor::from_inner(theirs.dx), "dx");
    for (ours, theirs, what) in
        [(ours.dgamma, theirs.dgamma, "dgamma"), (ours.dbeta, theirs.dbeta, "dbeta")]
    {
        assert_eq!(ours.is_some(), theirs.is_some(), "{what}");
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            assert_near(&Tensor::from_inner(ours), &Tensor::from_inner(theirs), what);
        }
    }
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.7, 1.5), device)
}

fn parameter(len: usize, device: &Device) -> Param<Tensor<1>> {
    Param::from_tensor(Tensor::random([len], Distribution::Uniform(0.5, 1.5), device))
}

/// Gives both layers the same random γ and β and compares them.
macro_rules! compare {
    ($ours:expr, $theirs:expr, $x:expr, $len:expr, theirs_optional: $wrap:expr) => {{
        let (mut ours, mut theirs, x) = ($ours, $theirs, $x);
        let w = random(x.dims(), &x.device());
        let (gamma, beta) = (parameter($len, &x.device()), parameter($len, &x.device()));
        (ours.gamma, ours.beta) = (Some(gamma.clone()), Some(beta.clone()));
        (theirs.gamma, theirs.beta) = ($wrap(gamma), $wrap(beta));
        let a = run(&x, &w, ours.gamma.as_ref(), ours.beta.as_ref(), |x| ours.forward(x));
        let (gamma, beta) = (ours.gamma.as_ref(), ours.beta.as_ref());
        let b = run(&x, &w, gamma, beta, |x| theirs.forward(x));
        assert_same(a, b);
        (ours, theirs)
    }};
}

fn batch<const D: usize>(shape: [usize; D]) {
    let device = Device::flex().autodiff();
    let ours = ours::BatchNormConfig::new(shape[1])
        .with_running_variance(ours::cellnorm::RunningVariance::Biased)
        .init(&device);
    let theirs = nn::BatchNormConfig::new(shape[1]).init(&device);
    let keep = |p: Param<Tensor<1>>| p;
    let (ours, theirs) =
        compare!(ours, theirs, random(shape, &device), shape[1], theirs_optional: keep);
    for (ours, theirs) in
        [(&ours.running_mean, &theirs.running_mean), (&ours.running_var, &theirs.running_var)]
    {
        assert_near(&ours.value_sync(), &theirs.value_sync(), "a running statistic");
    }
}

#[test]
fn batch_of_any_rank() {
    batch([9, 5]);
    batch([4, 5, 7]);
    batch([3, 17, 5, 6]);
    batch([2, 3, 4, 5, 3]);
}

#[test]
fn group_and_instance_of_any_rank() {
    fn both<const D: usize>(shape: [usize; D], groups: usize) {
        let device = Device::flex().autodiff();
        let ours = ours::GroupNormConfig::new(groups, shape[1]).init(&device);
        let theirs = nn::GroupNormConfig::new(groups, shape[1]).init(&device);
        compare!(ours, theirs, random(shape, &device), shape[1], theirs_optional: Some);
        let ours = ours::InstanceNormConfig::new(shape[1]).init(&device);
        let theirs = nn::InstanceNormConfig::new(shape[1]).init(&device);
        compare!(ours, theirs, random(shape, &device), shape[1], theirs_optional: Some);
    }
    both([4, 6, 9], 3);
    both([2, 8, 5, 7], 2);
    both([3, 4, 3, 2, 5], 1);
}

#[test]
fn layer_of_any_rank() {
    fn layer<const D: usize>(shape: [usize; D]) {
        let device = Device::flex().autodiff();
        let d = shape[D - 1];
        let ours = ours::LayerNormConfig::new(d).init(&device);
        let theirs = nn::LayerNormConfig::new(d).init(&device);
        let (mut ours, mut theirs, x) = (ours, theirs, random(shape, &device));
        let w = random(shape, &device);
        let (gamma, beta) = (parameter(d, &device), parameter(d, &device));
        (ours.gamma, ours.beta) = (Some(gamma.clone()), Some(beta.clone()));
        (theirs.gamma, theirs.beta) = (gamma, Some(beta));
        let a = run(&x, &w, ours.gamma.as_ref(), ours.beta.as_ref(), |x| ours.forward(x));
        let b = run(&x, &w, Some(&theirs.gamma), theirs.beta.as_ref(), |x| theirs.forward(x));
        assert_same(a, b);
    }
    layer([7, 33]);
    layer([3, 5, 64]);
    layer([2, 3, 4, 19]);
}

#[test]
fn rms() {
    let device = Device::flex().autodiff();
    let mut ours = ours::RmsNormConfig::new(50).init(&device);
    let mut theirs = nn::RmsNormConfig::new(50).init(&device);
    theirs.gamma = parameter(50, &device);
    ours.gamma = Some(theirs.gamma.clone());
    let (x, w) = (random([4, 6, 50], &device), random([4, 6, 50], &device));
    let a = run(&x, &w, ours.gamma.as_ref(), None, |x| ours.forward(x));
    let b = run(&x, &w, Some(&theirs.gamma), None, |x| theirs.forward(x));
    assert_same(a, b);
}
