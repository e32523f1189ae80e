//! Which parameters are those of normalizations, and what can be done with them.

use burn::module::{Module, Param, ParamGroup};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig, decay::WeightDecayConfig};
use burn::tensor::{Device, Tensor};
use cellnorm_burn::parameters::{
    Constraint, Regularizer, betas, constrain, gammas, norm_parameters, penalty,
};
use cellnorm_burn::weights::{WeightNorm, WeightNormConfig};
use cellnorm_burn::{
    BatchNorm, BatchNormConfig, GemmaRmsNormConfig, GroupNorm, GroupNormConfig, RmsNorm,
    RmsNormConfig,
};

#[derive(Module, Debug)]
struct Network {
    linear: Linear,
    batch: BatchNorm,
    groups: Vec<GroupNorm>,
    rms: RmsNorm,
    theirs: burn::nn::LayerNorm,
}

fn network(device: &Device) -> Network {
    Network {
        linear: LinearConfig::new(2, 4).init(device),
        batch: BatchNormConfig::new(4).init(device),
        groups: vec![
            GroupNormConfig::new(2, 4).init(device),
            GroupNormConfig::new(2, 4).with_scale(false).init(device),
        ],
        rms: RmsNormConfig::new(4).init(device),
        theirs: burn::nn::LayerNormConfig::new(4).init(device),
    }
}

fn values<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
    param.val().into_data().try_to_vec().expect("f32")
}

#[test]
fn norm_parameters_are_found() {
    let network = network(&Device::flex());
    let id = |param: &Option<Param<Tensor<1>>>| param.as_ref().expect("present").id;
    let gamma = [
        id(&network.batch.gamma),
        id(&network.groups[0].gamma),
        id(&network.rms.gamma),
        network.theirs.gamma.id,
    ];
    let beta = [
        id(&network.batch.beta),
        id(&network.groups[0].beta),
        id(&network.groups[1].beta),
        id(&network.theirs.beta),
    ];
    assert_eq!(gammas(&network), gamma);
    assert_eq!(betas(&network), beta);
    let all = norm_parameters(&network);
    assert_eq!(all.len(), 8, "and neither running statistics nor the linear layer");
    assert!(gamma.iter().chain(&beta).all(|id| all.contains(id)));

    let gemma = GemmaRmsNormConfig::new(&[3]).init(&Device::flex());
    assert_eq!(gammas(&gemma), [], "it stores γ − 1");
    assert_eq!(norm_parameters(&gemma)[0], id(&gemma.gamma));

    let linear = network.linear.apply_reparameterization(WeightNormConfig::new());
    let g = linear.weight.reparameterization::<WeightNorm>().expect("attached").g.id;
    assert_eq!(norm_parameters(&linear), [g]);
}

#[test]
fn weight_decay_leaves_them_out() {
    let device = Device::flex().autodiff();
    let before = network(&device);
    let decay = SgdConfig::new().with_weight_decay(Some(WeightDecayConfig { penalty: 0.5 }));
    let norms = ParamGroup::from_ids(norm_parameters(&before));
    let mut optimizer = decay.init().with_group(norms, SgdConfig::new().build(), None);
    // a loss whose gradients are all 0, so that only decay moves anything
    let rms = before
        .rms
        .forward(before.batch.forward(before.linear.forward(Tensor::<2>::ones([3, 2], &device))));
    let gradients = GradientsParams::from_grads((rms * 0.0).sum().backward(), &before);
    let after = optimizer.step(0.1, before.clone(), gradients);
    for (before, after) in values(&before.linear.weight).iter().zip(values(&after.linear.weight)) {
        assert!((after - 0.95 * before).abs() < 1e-6);
    }
    assert_eq!(values(after.rms.gamma.as_ref().expect("present")), [1.0; 4]);
    assert_eq!(values(after.batch.gamma.as_ref().expect("present")), [1.0; 4]);
}

#[test]
fn constrained_parameters_go_on_training() {
    let device = Device::flex().autodiff();
    let start = Initializer::Constant { value: -2.0 };
    let layer = BatchNormConfig::new(3)
        .with_gamma_initializer(start.clone())
        .with_beta_initializer(start)
        .init(&device);
    let ids = gammas(&layer);
    let gamma = |layer: &BatchNorm| values(layer.gamma.as_ref().expect("present"));
    let apply = |constraint| constrain(layer.clone(), &ids, constraint);
    let positive = apply(Constraint::NonNegative);
    assert_eq!(gamma(&positive), [0.0; 3]);
    assert_eq!(values(positive.beta.as_ref().expect("present")), [-2.0; 3], "β was not named");
    assert_eq!(gamma(&apply(Constraint::Clip { low: -1.5, high: 1.0 })), [-1.5; 3]);
    for axis in [0, -1] {
        // as in Keras: −2 · 2 / (1e-7 + √12)
        let short = apply(Constraint::MaxNorm { max: 2.0, axis });
        assert!(gamma(&short).iter().all(|value| (value + 1.1547005).abs() < 1e-6));
        let y =
            short.forward(Tensor::<2>::from_floats([[1.0, 2.0, 3.0], [3.0, 2.5, 9.0]], &device));
        let gradients = y.exp().sum().backward();
        assert!(short.gamma.expect("present").val().grad(&gradients).is_some());
    }
    let plain = constrain(layer.valid(), &ids, Constraint::NonNegative);
    assert_eq!(gamma(&plain), [0.0; 3]);
    assert!(plain.train().gamma.expect("present").is_require_grad(), "also after validation");
}

#[test]
fn penalties_and_their_gradients() {
    let device = Device::flex().autodiff();
    let mut layer = GroupNormConfig::new(1, 3).init(&device);
    layer.gamma = Some(Param::from_data([1.5_f32, -2.0, 0.0], &device));
    let loss = penalty(&layer, &norm_parameters(&layer), Regularizer::L1L2 { l1: 0.1, l2: 0.2 });
    assert!((loss.clone().into_scalar::<f32>() - (0.35 + 0.2 * 6.25)).abs() < 1e-6);
    let gradients = loss.backward();
    let dgamma = layer.gamma.as_ref().expect("present").val().grad(&gradients).expect("trains");
    for (ours, exact) in dgamma.into_data().iter::<f32>().zip([0.1 + 0.6, -0.1 - 0.8, 0.0]) {
        assert!((ours - exact).abs() < 1e-6);
    }
    assert_eq!(penalty(&layer, &[], Regularizer::L2(1.0)).into_scalar::<f32>(), 0.0);
}

#[test]
#[should_panic(expected = "the regularizer's l1 is -1; it must be finite and at least 0")]
fn a_negative_penalty() {
    penalty(&RmsNormConfig::new(3).init(&Device::flex()), &[], Regularizer::L1(-1.0));
}

#[test]
#[should_panic(expected = "axis 1 does not exist in a tensor of 1 axis")]
fn a_norm_over_no_axis() {
    let layer = RmsNormConfig::new(3).init(&Device::flex());
    let ids = gammas(&layer);
    constrain(layer, &ids, Constraint::MaxNorm { max: 1.0, axis: 1 });
}
