//! Options that few frameworks have, as on arrays.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::{Module, Param};
use burn::nn;
use burn::tensor::{Device, Tensor};
use cellnorm_burn as ours;
use cellnorm_burn::cellnorm::{self, Mask, Normalization, OneValue, Semantics};
use cellnorm_burn::fold::FixedNorm;
use cellnorm_burn::norms::AdaptiveStatistics;

use crate::common::{bools, close, devices, list, randomize, tensor, values};

fn preset(name: &str, normalization: Normalization) -> Semantics {
    Semantics::preset(name, normalization).unwrap()
}

/// The message of a panic.
fn message<T>(of: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(of)).err().expect("a panic");
    panic.downcast_ref::<String>().cloned().expect("a message")
}

/// PyTorch's `track_running_stats=False`: the statistics are those of x, frozen and in inference,
/// too, and one value is an error there.
#[test]
fn without_running_statistics_inference_is_training() {
    let torch = preset("pytorch-2", Normalization::Batch);
    let bare = Semantics { running_statistics: false, ..torch };
    let (x, dy) = (values(&[4, 3, 2], 1), values(&[4, 3, 2], 2));
    let mut arrays = cellnorm::BatchNormConfig::new(3).semantics(&bare).init().unwrap();
    let (expected, saved) = arrays.forward(x.view()).unwrap();
    let dx = arrays.backward(&saved, x.view(), dy.view()).unwrap().dx;
    let refused = arrays.infer(values(&[1, 3], 1)).unwrap_err().to_string();
    macro_rules! agrees {
        ($layer:expr, $device:expr) => {{
            let (layer, what) = ($layer, &format!("{:?}", $device));
            let input = tensor::<3>(&x, &$device).require_grad();
            for layer in [layer.clone(), layer.clone().freeze()] {
                let y = layer.forward(input.clone());
                let gradients = (y.clone() * tensor(&dy, &$device)).sum().backward();
                close(list(y), &expected, what);
                close(list(input.grad(&gradients).unwrap()), &dx, what);
            }
            let valid = layer.valid();
            close(list(valid.forward(input.clone().inner())), &expected, what);
            let one = || valid.forward(tensor::<2>(&values(&[1, 3], 1), &$device).inner());
            assert_eq!(message(one), refused);
            layer
        }};
    }
    for device in devices() {
        let batch = ours::BatchNormConfig::new(3).with_semantics(&bare).init(&device);
        let batch = agrees!(batch, device);
        assert_eq!(list(batch.running_mean.value()), [0.0; 3]);
        assert_eq!(list(batch.running_var.value()), [1.0; 3]);
        assert!(batch.valid().affine().unwrap_err().to_string().contains("no running_statistics"));
        let (_, mean, _) = batch.forward_with_statistics(tensor::<3>(&x, &device));
        assert_eq!(mean.dims(), [3]);
        let axes = ours::AxesBatchNormConfig::new(&[1], &[3]).with_semantics(&bare).init(&device);
        let axes = agrees!(axes, device);
        assert!(axes.running_mean.is_none() && axes.running_var.is_none());
        let bare = ours::AxesBatchNormConfig::new(&[1], &[3]).with_running_statistics(false);
        agrees!(bare.init(&device), device);
        let adaptive = ours::AdaptiveNormConfig::new(3, AdaptiveStatistics::Batch)
            .with_running_statistics(false)
            .init(&device)
            .valid();
        let (x, ones) = (tensor::<3>(&x, &device).inner(), Tensor::ones([4, 3], &device).inner());
        close(list(adaptive.forward(x, ones.clone(), ones.zeros_like())), &expected, "adaptive");
    }
    let device = Device::flex();
    let renorm = ours::BatchRenormConfig::new(3).with_running_statistics(false);
    assert!(message(|| renorm.init(&device)).contains("make it with running_statistics(true)"));
    let uses = ours::BatchNormConfig::new(3).with_running_statistics(false);
    let uses = uses.with_one_value(OneValue::UseRunning);
    assert!(message(|| uses.init(&device)).contains("no running statistics to use"));
}

/// Records are those of Burn's own layer, whether or not their running statistics are used.
#[test]
fn records_of_burns_own_layer_load_without_running_statistics() {
    let folder = tempfile::tempdir().unwrap();
    let (path, device) = (folder.path().join("record"), Device::flex().autodiff());
    let theirs = nn::BatchNormConfig::new(3).init(&device);
    theirs.forward(tensor::<3>(&values(&[4, 3, 2], 1), &device));
    // a record of Burn's own layer lacks the last batch otherwise
    let expected = [&theirs.running_mean, &theirs.running_var].map(|of| list(of.value_sync()));
    theirs.save_file(&path).unwrap();
    let config = ours::BatchNormConfig::new(3).with_running_statistics(false);
    let layer = config.init(&device).load_file(&path);
    layer.forward(tensor::<3>(&values(&[4, 3, 2], 2), &device));
    let own = [&layer.running_mean, &layer.running_var].map(|of| list(of.value()));
    assert_eq!(own, expected);
    layer.clone().save_file(&path).unwrap();
    let again = nn::BatchNormConfig::new(3).init(&device).load_file(&path);
    assert_eq!(list(again.running_var.value()), expected[1]);
}

/// MXNet's `InstanceNorm(scale=False)` stores a γ, and applies what is loaded into it: y is doubled
/// by a γ of 2, which gets no gradient.
#[test]
fn a_stored_gamma_is_applied_where_it_is_not_learned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record");
    let gluon = preset("mxnet-1.9-gluon", Normalization::Instance);
    let config = ours::InstanceNormConfig::new(3).with_semantics(&gluon);
    let x = values(&[4, 3, 5], 1);
    for device in devices() {
        let mut stored = ours::InstanceNormConfig::new(3).init(&device);
        stored.gamma = Some(Param::from_tensor(Tensor::full([3], 2.0, &device)));
        stored.save_file(&path).unwrap();
        let fresh = config.init(&device);
        let input = tensor::<3>(&x, &device);
        let once = list(fresh.forward(input.clone()));
        let layer = fresh.load_file(&path);
        for layer in [layer.clone(), layer.valid().train()] {
            let gamma = layer.gamma.as_ref().unwrap().val();
            assert!(!gamma.is_require_grad());
            let y = layer.forward(input.clone());
            let gradients = y.clone().sum().backward();
            let twice: Vec<f32> = once.iter().map(|y| 2.0 * y).collect();
            assert_eq!(list(y), twice, "{device:?}");
            assert!(gamma.grad(&gradients).is_none());
            let beta = layer.beta.as_ref().unwrap().val().grad(&gradients).unwrap();
            assert_eq!(list(beta), [20.0; 3]);
        }
    }
    let device = Device::flex();
    let batch = preset("mxnet-1.9-gluon", Normalization::Batch);
    let trained = ours::BatchNormConfig::new(3).with_semantics(&batch).init(&device);
    assert!(trained.gamma.is_some());
    let frozen = ours::BatchNormConfig::new(3).with_scale(false).with_frozen_gamma(true);
    assert!(frozen.init(&device.autodiff()).gamma.is_some_and(|gamma| !gamma.is_require_grad()));
}

/// A parameter without gradient leaves all other gradients as they are, in every form of a layer.
#[test]
fn a_parameter_is_frozen_alone() {
    let (x, dy) = (values(&[4, 3, 2], 1), values(&[4, 3, 2], 2));
    let mask = Mask::lengths(&[2, 1, 2, 2], 2);
    for (device, masked) in
        devices().iter().flat_map(|device| [false, true].map(|masked| (device, masked)))
    {
        let (input, dy) = (tensor::<3>(&x, device).require_grad(), tensor::<3>(&dy, device));
        macro_rules! gradients {
            ($layer:expr, $($parameter:ident),*) => {{
                let layer = &$layer;
                let y = match masked {
                    true => layer.forward_masked(input.clone(), bools(&mask, [4, 3, 2], device)),
                    false => layer.forward(input.clone()),
                };
                let gradients = (y * dy.clone()).sum().backward();
                let of = |of: &Option<Param<Tensor<1>>>| {
                    of.as_ref().unwrap().val().grad(&gradients).map(list)
                };
                [input.grad(&gradients).map(list), $(of(&layer.$parameter)),*]
            }};
        }
        let batch = ours::BatchNormConfig::new(3).init(device);
        let [dx, dgamma, dbeta] = gradients!(batch, gamma, beta);
        let gamma = batch.gamma.clone().map(|gamma| gamma.set_require_grad(false));
        let frozen = ours::BatchNorm { gamma, ..batch.clone() };
        assert_eq!(gradients!(frozen, gamma, beta), [dx.clone(), None, dbeta]);
        let beta = batch.beta.clone().map(|beta| beta.set_require_grad(false));
        let frozen = ours::BatchNorm { beta, ..batch };
        assert_eq!(gradients!(frozen, gamma, beta), [dx, dgamma, None]);

        let mut arrays = cellnorm::norms::BatchInstanceNormConfig::new(3).init().unwrap();
        randomize(&mut arrays);
        let layer = ours::BatchInstanceNorm::from_arrays(&arrays, device);
        let [dx, dgamma, dbeta, drho] = gradients!(layer, gamma, beta, rho);
        arrays.freeze_parameter("beta").unwrap();
        let layer = ours::BatchInstanceNorm::from_arrays(&arrays, device);
        let frozen = gradients!(layer, gamma, beta, rho);
        assert_eq!(frozen, [dx.clone(), dgamma.clone(), None, drho.clone()]);
        arrays.freeze_parameter("rho").unwrap();
        arrays.unfreeze_parameter("beta");
        let layer = ours::BatchInstanceNorm::from_arrays(&arrays, device);
        assert_eq!(gradients!(layer, gamma, beta, rho), [dx, dgamma, dbeta, None]);
    }
}
