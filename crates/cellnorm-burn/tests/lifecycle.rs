//! The life of a layer in Burn besides calls: train, validate, freeze, save, load,
//! checkpoint gradients.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor, Tolerance};
use cellnorm_burn::cellnorm::Momentum;
use cellnorm_burn::{BatchNorm, BatchNormConfig, GroupNormConfig, LayerNormConfig, RmsNormConfig};

fn x(device: &Device) -> Tensor<4> {
    Tensor::random([6, 3, 4, 5], Distribution::Normal(2.0, 3.0), device)
}

fn running(layer: &BatchNorm) -> Vec<f32> {
    let state = [layer.running_mean.value_sync(), layer.running_var.value_sync()];
    state.into_iter().flat_map(|t| t.into_data().try_to_vec::<f32>().expect("f32")).collect()
}

#[test]
fn training_moves_the_running_statistics_by_pytorchs_rule() {
    let device = Device::flex().autodiff();
    let layer = BatchNormConfig::new(1).init(&device);
    let x = Tensor::<2>::from_floats([[1.0], [2.0], [6.0]], &device);
    let (_, mean, variance) = layer.forward_with_statistics(x);
    assert_eq!(mean.into_scalar::<f64>(), 3.0);
    assert!((variance.into_scalar::<f64>() - 14.0 / 3.0).abs() < 1e-12);
    let moved = running(&layer);
    assert!((moved[0] - 0.3).abs() < 1e-6);
    assert!((moved[1] - (0.9 + 0.1 * 7.0)).abs() < 1e-6);
}

#[test]
fn valid_uses_the_running_statistics_and_train_goes_on() {
    let device = Device::flex().autodiff();
    let layer = BatchNormConfig::new(3).with_momentum(Momentum::Step(1.0)).init(&device);
    layer.forward(x(&device));
    let before = running(&layer);
    let valid = layer.valid();
    let sample = x(&device).inner();
    let alone = valid.forward(sample.clone().narrow(0, 0, 1));
    let together = valid.forward(sample).narrow(0, 0, 1);
    alone.into_data().assert_eq(&together.into_data(), true);
    assert_eq!(before, running(&valid), "validation leaves them alone");
    let layer = valid.train();
    layer.forward(x(&device));
    assert_ne!(before, running(&layer), "training moves them");
}

#[test]
fn a_frozen_layer_keeps_its_statistics_but_passes_gradients() {
    let device = Device::flex().autodiff();
    let layer = BatchNormConfig::new(3).init(&device);
    layer.forward(x(&device));
    let frozen = layer.freeze();
    let before = running(&frozen);
    let input = x(&device).require_grad();
    let y = frozen.forward(input.clone());
    assert_eq!(before, running(&frozen));
    let gradients = y.sum().backward();
    // dx = γ / √(running variance + ε) for a loss Σ y
    let dx = input
        .grad(&gradients)
        .expect("gradients pass")
        .into_data()
        .try_to_vec::<f32>()
        .expect("f32");
    assert!((dx[0] - 1.0 / (before[3] + 1e-5).sqrt()).abs() < 1e-6);
    let gamma = frozen.gamma.as_ref().expect("scale is on").val();
    assert!(gamma.grad(&gradients).is_none(), "its parameters do not train");
}

#[test]
fn records_bring_everything_back() {
    let device = Device::flex().autodiff();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("batch");
    let layer = BatchNormConfig::new(3).init(&device);
    layer.forward(x(&device));
    let input = x(&device);
    layer.clone().save_file(&path).expect("saved");
    let expected = layer.valid().forward(input.clone().inner());
    let loaded = BatchNormConfig::new(3).init(&device).load_file(&path);
    loaded.valid().forward(input.inner()).into_data().assert_eq(&expected.into_data(), true);
}

#[test]
fn gradient_checkpointing_gives_the_same_gradients() {
    fn dx(device: Device) -> Vec<f32> {
        let values: Vec<f32> = (0..240).map(|i| ((i * 37) % 101) as f32 * 0.1).collect();
        let x = Tensor::<1>::from_floats(values.as_slice(), &device)
            .reshape([4, 3, 4, 5])
            .require_grad();
        let x = x.detach().require_grad();
        let batch = BatchNormConfig::new(3).init(&device);
        let group = GroupNormConfig::new(1, 3).init(&device);
        let layer = LayerNormConfig::new(5).init(&device);
        let rms = RmsNormConfig::new(5).init(&device);
        // memory-bound operations between the layers are recomputed
        let y = rms.forward(
            layer.forward(group.forward(batch.forward(x.clone() * 2.0).sin()).exp()) + 1.0,
        );
        let gradients = y.sin().sum().backward();
        x.grad(&gradients).expect("x requires it").into_data().try_to_vec().expect("f32")
    }
    let plain = dx(Device::flex().autodiff());
    assert_eq!(plain, dx(Device::flex().autodiff().gradient_checkpointing()));
    assert!(plain.iter().any(|v| v.abs() > 1e-3));
}

#[test]
fn gradients_add_up_where_x_is_used_twice() {
    // the layer may write dx over dy only if nobody else holds it
    let device = Device::flex().autodiff();
    let layer = LayerNormConfig::new(5).init(&device);
    let input = x(&device).require_grad();
    let (a, b) = (layer.forward(input.clone()), layer.forward(input.clone()));
    let twice = input.grad(&(a + b).sin().sum().backward()).expect("x requires it");
    let y = layer.forward(input.clone());
    let once = input.grad(&(y * 2.0).sin().sum().backward()).expect("x requires it");
    twice.into_data().assert_approx_eq::<f32>(&once.into_data(), Tolerance::absolute(1e-5));
}

#[test]
fn an_input_that_is_used_again_is_not_overwritten() {
    let device = Device::flex();
    let layer = BatchNormConfig::new(3).init(&device);
    let input = x(&device);
    let before = input.to_data();
    let kept = input.clone();
    layer.forward(input);
    kept.into_data().assert_eq(&before, true);
}

#[test]
fn without_scale_and_center_there_is_nothing_to_train() {
    let device = Device::flex().autodiff();
    let layer = BatchNormConfig::new(3).with_scale(false).with_center(false).init(&device);
    assert!(layer.gamma.is_none() && layer.beta.is_none());
    let input = x(&device).require_grad();
    let gradients = layer.forward(input.clone()).sin().sum().backward();
    assert!(input.grad(&gradients).is_some());
    let scale_only = GroupNormConfig::new(3, 3).with_center(false).init(&device);
    assert_eq!(scale_only.num_params(), 3);
}

#[test]
fn a_transposed_input_is_used_as_it_lies() {
    let device = Device::flex().autodiff();
    let layer = BatchNormConfig::new(3).init(&device);
    let last = BatchNormConfig::new(3).with_channel_axis(-1).init(&device);
    let input = x(&device);
    let y = layer.forward(input.clone());
    let transposed = last.forward(input.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]);
    transposed.into_data().assert_eq(&y.into_data(), true);
}

#[test]
fn displays_say_what_they_are() {
    let device = Device::flex();
    let shown = format!("{}", BatchNormConfig::new(3).init(&device));
    assert!(shown.contains("num_features: 3") && shown.contains("epsilon"), "{shown}");
}

#[test]
#[should_panic(expected = "10 channels cannot be split into 4 groups; possible: 1, 2, 5, 10")]
fn groups_that_do_not_divide() {
    GroupNormConfig::new(4, 10).init(&Device::flex());
}

#[test]
#[should_panic(expected = "the layer was made for 4 channels")]
fn another_number_of_channels() {
    let device = Device::flex();
    BatchNormConfig::new(4).init(&device).forward(x(&device));
}

#[test]
#[should_panic(expected = "one value for each statistic")]
fn one_value_a_channel() {
    let device = Device::flex().autodiff();
    BatchNormConfig::new(4).init(&device).forward(Tensor::<2>::zeros([1, 4], &device));
}
