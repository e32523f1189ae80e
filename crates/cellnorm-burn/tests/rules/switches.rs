//! Options that few frameworks have, as on arrays.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::Module;
use burn::nn;
use burn::tensor::{Device, Tensor};
use cellnorm_burn as ours;
use cellnorm_burn::cellnorm::{self, Normalization, OneValue, Semantics};
use cellnorm_burn::fold::FixedNorm;
use cellnorm_burn::norms::AdaptiveStatistics;

use crate::common::{close, devices, list, tensor, values};

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
        let axes = ours::AxesBatchNormConfig::over(&[1], &[3]).with_semantics(&bare).init(&device);
        let axes = agrees!(axes, device);
        assert!(axes.running_mean.is_none() && axes.running_var.is_none());
        let bare = ours::AxesBatchNormConfig::over(&[1], &[3]).with_running_statistics(false);
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
    theirs.clone().save_file(&path).unwrap();
    let config = ours::BatchNormConfig::new(3).with_running_statistics(false);
    let layer = config.init(&device).load_file(&path);
    layer.forward(tensor::<3>(&values(&[4, 3, 2], 2), &device));
    assert_eq!(list(layer.running_mean.value()), list(theirs.running_mean.value_sync()));
    layer.clone().save_file(&path).unwrap();
    let again = nn::BatchNormConfig::new(3).init(&device).load_file(&path);
    assert_eq!(list(again.running_mean.value()), list(theirs.running_mean.value()));
}
