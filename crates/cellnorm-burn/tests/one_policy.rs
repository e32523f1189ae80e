//! Layers treat a batch without samples, and one value a statistic, as on arrays.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use cellnorm_burn::cellnorm::{self, Normalization, OneValue, Semantics};
use cellnorm_burn::norms::AdaptiveStatistics;
use cellnorm_burn::{
    AdaptiveNormConfig, BatchInstanceNormConfig, BatchNormConfig, BatchRenormConfig,
    FilterResponseNormConfig, GemmaRmsNormConfig, GroupNormConfig, InstanceNormConfig,
    LayerNormConfig, LocalResponseNormConfig, LpNormConfig, MeanVarianceNormConfig, RmsNormConfig,
    SwitchableNormConfig,
};

/// Flex, and a device without the fused operations.
#[expect(deprecated, reason = "the only other backend that builds without a GPU")]
fn devices() -> [Device; 2] {
    [Device::flex(), Device::ndarray()].map(Device::autodiff)
}

/// The message of a panic.
fn message<T>(of: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(of)).err().expect("a panic");
    panic.downcast_ref::<String>().cloned().expect("a message")
}

/// y and dx are empty, and the gradients of the parameters named 0.
macro_rules! empty {
    ($layer:expr, $shape:expr, $device:expr $(, $parameter:ident)*) => {{
        let layer = $layer;
        let x = Tensor::<{ $shape.len() }>::zeros($shape, &$device).require_grad();
        let y = layer.forward(x.clone());
        assert_eq!(y.dims(), $shape);
        let gradients = y.sum().backward();
        assert_eq!(x.grad(&gradients).unwrap().dims(), $shape);
        $(
            let parameter = layer.$parameter.as_ref().unwrap().val();
            let gradient = parameter.grad(&gradients).expect("a gradient");
            assert_eq!(gradient.dims(), parameter.dims());
            assert_eq!(gradient.abs().max().into_scalar::<f32>(), 0.0);
        )*
        let plain = layer.valid().forward(x.inner());
        assert_eq!(plain.dims(), $shape);
    }};
}

#[test]
fn no_samples_give_an_empty_tensor() {
    for device in devices() {
        empty!(LayerNormConfig::new(8).init(&device), [0, 8], device, gamma, beta);
        empty!(LayerNormConfig::new(8).init(&device), [3, 0, 8], device, gamma, beta);
        empty!(RmsNormConfig::new(8).init(&device), [2, 0, 8], device, gamma);
        empty!(InstanceNormConfig::new(3).init(&device), [0, 3, 2, 2], device, gamma, beta);
        empty!(GroupNormConfig::new(2, 4).init(&device), [0, 4, 2, 2], device, gamma, beta);
        empty!(GemmaRmsNormConfig::new(&[8]).init(&device), [0, 8], device, gamma);
        empty!(FilterResponseNormConfig::new(3).init(&device), [0, 3, 2], device, gamma, beta);
        empty!(MeanVarianceNormConfig::new(&[1]).init(&device), [0, 3], device);
        empty!(LpNormConfig::new(vec![1]).init(), [0, 3], device);
        empty!(LocalResponseNormConfig::new(3).init(), [0, 3, 2], device);
    }
}

#[test]
fn no_samples_keep_their_shape_where_running_averages_normalize() {
    for device in devices() {
        empty!(BatchNormConfig::new(3).init(&device).freeze(), [0, 3, 2, 2], device);
        empty!(BatchInstanceNormConfig::new(3).init(&device).freeze(), [0, 3, 2], device);
        empty!(BatchRenormConfig::new(3).init(&device).freeze(), [0, 3, 2], device);
        let adaptive = AdaptiveNormConfig::new(3, AdaptiveStatistics::Groups(3)).init(&device);
        let table = || Tensor::<2>::ones([0, 3], &device).require_grad();
        let (x, gamma) = (Tensor::<3>::zeros([0, 3, 2], &device), table());
        let y = adaptive.forward(x, gamma.clone(), table());
        assert_eq!(y.dims(), [0, 3, 2]);
        assert_eq!(gamma.grad(&y.sum().backward()).unwrap().dims(), [0, 3]);
    }
}

#[test]
fn a_statistic_over_no_values_is_refused() {
    let expected = "a statistic over no values: the shape [0, 3, 2, 2] has an axis of length 0";
    for device in devices() {
        let x = Tensor::<4>::zeros([0, 3, 2, 2], &device);
        let batch = BatchNormConfig::new(3).init(&device);
        assert!(message(|| batch.forward(x.clone())).starts_with(expected));
        let state = [&batch.running_mean, &batch.running_var].map(|of| of.value());
        assert_eq!(state.map(|of| of.sum().into_scalar::<f32>()), [0.0, 3.0]);
        let switchable = SwitchableNormConfig::new(3).init(&device);
        assert!(message(|| switchable.forward(x)).starts_with(expected));
        let layer = LayerNormConfig::over(&[1, 2], &[0, 2]).init(&device);
        let none = Tensor::<3>::zeros([2, 0, 2], &device);
        assert!(message(|| layer.forward(none)).starts_with("a statistic over no values"));
        let lp = LpNormConfig::new(vec![1]).init();
        let none = Tensor::<2>::zeros([2, 0], &device);
        assert!(message(|| lp.forward(none)).starts_with("a statistic over no values"));
    }
}

/// Instance normalization of images of one pixel, in training and in inference, beside arrays.
#[test]
fn one_value_a_statistic_is_up_to_the_policy() {
    let x = ndarray::Array4::<f32>::from_elem((2, 3, 1, 1), 4.0);
    for device in devices() {
        for policy in [OneValue::Error, OneValue::AlwaysError, OneValue::Beta] {
            let mut arrays = cellnorm::InstanceNormConfig::new(3).one_value(policy).init().unwrap();
            let layer = InstanceNormConfig::new(3).with_one_value(policy).init(&device);
            let tensor = Tensor::<4>::full([2, 3, 1, 1], 4.0, &device);
            let train = || catch_unwind(AssertUnwindSafe(|| layer.forward(tensor.clone())));
            match (arrays.forward(x.view()), train()) {
                (Ok(_), Ok(y)) => assert_eq!(y.abs().max().into_scalar::<f32>(), 0.0),
                (Err(error), Err(panic)) => {
                    assert_eq!(panic.downcast_ref(), Some(&error.to_string()))
                }
                (arrays, burn) => {
                    panic!("{policy:?}: {} on arrays, {} in Burn", arrays.is_ok(), burn.is_ok())
                }
            }
            let infer = AssertUnwindSafe(|| layer.valid().forward(tensor.clone().inner()));
            let inferred = catch_unwind(infer).is_ok();
            assert_eq!(inferred, arrays.infer(x.view()).is_ok(), "{policy:?} {device:?}");
            assert_eq!(inferred, policy != OneValue::AlwaysError);
        }
        let default = InstanceNormConfig::new(3);
        let semantics = Semantics::preset("pytorch-2", Normalization::Instance).unwrap();
        assert_eq!(default.one_value, OneValue::Error);
        assert_eq!(default.with_semantics(&semantics).one_value, OneValue::AlwaysError);
    }
}

#[test]
#[should_panic(expected = "has no running statistics to use for one value")]
fn there_are_no_running_statistics_to_use() {
    InstanceNormConfig::new(3).with_one_value(OneValue::UseRunning).init(&Device::flex());
}
