//! Refusals and their messages.

use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, ModuleT, VarBuilder, VarMap};
use cellnorm_candle::cellnorm::OneValue;
use cellnorm_candle::*;

use super::common::*;

fn says(result: candle_core::Result<Tensor>, words: &str) {
    let message = result.unwrap_err().to_string();
    assert!(message.contains(words), "{message}");
}

fn vb() -> VarBuilder<'static> {
    VarBuilder::from_varmap(&VarMap::new(), DType::F32, CPU)
}

#[test]
fn one_value_a_channel() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let layer = batch_norm(3, 1e-5, vb()).unwrap();
        let one = tensor(&[1, 3], 1, dtype);
        says(
            layer.forward_train(&one),
            "batch normalization over the shape [1, 3] has one value for each statistic",
        );
        assert_eq!(values(layer.running_var()), [1.0; 3], "nothing has changed");
        assert!(layer.forward_t(&one, false).is_ok());
    }
    // where gradients are wanted; in inference β is right
    let (layer, one) = (instance_norm(3, 1e-5, vb()).unwrap(), tensor(&[2, 3, 1], 1, DType::F32));
    says(layer.forward(&one), "has one value for each statistic");
    let y = InstanceNorm::new_no_affine(3, 1e-5).forward(&one).unwrap();
    assert_eq!(values(&y), [0.0; 6]);
}

#[test]
fn instances_of_one_value_follow_the_policy() {
    let one = var(&[2, 3, 1, 1], 1, DType::F32);
    let refused = "instance normalization over the shape [2, 3, 1, 1] has one value for each";
    let layer = |policy| instance_norm(3, 1e-5, vb()).unwrap().with_one_value(policy);
    says(layer(OneValue::Error).unwrap().forward(&one), refused);
    says(layer(OneValue::AlwaysError).unwrap().forward(&one), refused);
    let always = InstanceNorm::new_no_affine(3, 1e-5).with_one_value(OneValue::AlwaysError);
    says(always.unwrap().forward(&one.detach()), refused);
    let beta = layer(OneValue::Beta).unwrap();
    let y = beta.forward(&one).unwrap();
    assert_eq!(values(&y), [0.0; 6]);
    let gradients = backward(&y, &tensor(&[2, 3, 1, 1], 2, DType::F32));
    assert_eq!(values(gradients.get(&one).unwrap()), [0.0; 6]);
    assert_eq!(values(gradients.get(beta.parameter("gamma").unwrap()).unwrap()), [0.0; 3]);
    // there are no running averages to use
    let message = layer(OneValue::UseRunning).unwrap_err().to_string();
    assert!(message.contains("no running statistics to use"), "{message}");
    let semantics = |name| cellnorm::Semantics::preset(name, cellnorm::Normalization::Instance);
    let layer = instance_norm(3, 1e-5, vb()).unwrap();
    says(layer.with_semantics(&semantics("pytorch-2").unwrap()).unwrap().forward(&one), refused);
}

#[test]
fn shapes_and_types() {
    let x = tensor(&[2, 4, 5], 1, DType::F32);
    says(
        layer_norm(6, 1e-5, vb()).unwrap().forward(&x),
        "the last axes of the shape [2, 4, 5] are not [6]",
    );
    says(
        group_norm(2, 6, 1e-5, vb()).unwrap().forward(&x),
        "axis 1 of the shape [2, 4, 5] has length 4",
    );
    says(batch_norm(5, 1e-5, vb()).unwrap().forward_train(&x), "made for 5 channels");
    assert!(batch_norm(5, 1e-5, vb()).unwrap().with_channel_axis(-1).forward_train(&x).is_ok());
    says(switchable_norm(3, vb()).unwrap().forward_t(&x, true), "made for 3 channels");
    says(LocalResponseNorm::new(0).forward(&x), "size is 0");
    let integers = Tensor::zeros((2, 5), DType::U8, &Device::Cpu).unwrap();
    says(layer_norm(5, 1e-5, vb()).unwrap().forward(&integers), "f32, f64, f16 or bf16, not of U8");
    says(layer_norm(5, 0.0, vb()).unwrap().forward(&x), "epsilon is 0");
    let short = LayerNorm::new(
        Tensor::ones(5, DType::F32, CPU).unwrap(),
        Tensor::ones(1, DType::F32, CPU).unwrap(),
        1e-5,
    );
    says(short.forward(&x), "beta has the shape [1]; it must be [5]");
    let nan = Tensor::new(&[1f32, 1.0, f32::NAN, 1.0, 1.0], CPU).unwrap();
    says(LayerNorm::new_no_bias(nan, 1e-5).forward(&x), "gamma is NaN; it must be finite");
    let message = |result: candle_core::Result<GroupNorm>| result.unwrap_err().to_string();
    assert!(message(GroupNorm::new_no_affine(10, 4, 1e-5)).contains("possible: 1, 2, 5, 10"));
    let config = BatchNormConfig { remove_mean: false, ..Default::default() };
    assert!(
        batch_norm(4, config, vb()).unwrap_err().to_string().contains("remove_mean must be true")
    );
    let config = BatchNormConfig { momentum: 1.5, ..Default::default() };
    assert!(batch_norm(4, config, vb()).unwrap_err().to_string().contains("momentum is 1.5"));
}

#[test]
fn a_gradient_that_is_nan_is_refused() {
    for case in cases(DType::F32) {
        let (x, dy) =
            (var(&case.shape, 1, DType::F32), Tensor::full(f32::NAN, &*case.shape, CPU).unwrap());
        let loss = ((case.layer)(&x).unwrap() * dy).and_then(|l| l.sum_all()).unwrap();
        let message = loss.backward().unwrap_err().to_string();
        assert!(message.contains("dy holds NaN"), "{}: {message}", case.name);
    }
}

#[test]
fn nan_is_not_passed_on() {
    for case in cases(DType::F32) {
        let mut numbers = numbers(case.shape.iter().product(), 1);
        numbers[7] = f64::NAN;
        let x = Tensor::from_vec(numbers, &*case.shape, CPU).unwrap();
        match case.name {
            // no statistic sees it, and it stays where it is
            "batch in inference" => {
                assert_eq!(
                    values(&(case.layer)(&x).unwrap()).iter().filter(|y| y.is_nan()).count(),
                    1
                )
            }
            _ => says((case.layer)(&x), "x holds NaN"),
        }
    }
}
