//! Local response and Lp normalization against their forms on arrays.

use burn::tensor::{Device, Tensor};
use cellnorm_burn::cellnorm::{
    self,
    norms::{Floor, Window},
};
use cellnorm_burn::{LocalResponseNormConfig, LpNormConfig};
use ndarray::{ArrayD, Axis};

use crate::common::{close, devices, list, tensor, values};

/// y and dx of a forward pass in Burn against those of arrays.
fn agrees<const D: usize>(
    x: &ArrayD<f64>,
    device: &Device,
    forward: impl Fn(Tensor<D>) -> Tensor<D>,
    expected: impl Fn(&ArrayD<f64>, &ArrayD<f64>) -> [ArrayD<f64>; 2],
    what: &str,
) {
    let dy = values(x.shape(), 77);
    let input = tensor::<D>(x, device).require_grad();
    let y = forward(input.clone());
    let gradients = (y.clone() * tensor(&dy, device)).sum().backward();
    let [of_y, of_dx] = expected(x, &dy);
    close(list(y), &of_y, &format!("y of {what}"));
    close(list(input.grad(&gradients).unwrap()), &of_dx, &format!("dx of {what}"));
}

/// Values of which some are zero.
fn with_zeros(shape: &[usize], seed: usize) -> ArrayD<f64> {
    values(shape, seed).mapv(|v| if v.abs() < 0.2 { 0.0 } else { v })
}

#[test]
fn local_response_agrees_with_arrays() {
    let x = with_zeros(&[2, 5, 3, 4], 1);
    for device in devices() {
        for size in [1, 2, 3, 4, 5, 6, 30] {
            for (window, axis) in
                [(Window::Left, 1), (Window::Right, 1), (Window::Left, -1), (Window::Right, -1)]
            {
                let layer = LocalResponseNormConfig::new(size)
                    .with_alpha(0.7)
                    .with_bias(0.5)
                    .with_window(window);
                let layer = layer.with_channel_axis(axis).init();
                let arrays = cellnorm::norms::LocalResponseNormConfig::new(size)
                    .alpha(0.7)
                    .bias(0.5)
                    .window(window);
                let arrays = arrays.channel_axis(axis).init().unwrap();
                let expected = |x: &ArrayD<f64>, dy: &ArrayD<f64>| {
                    [
                        arrays.forward(x.view()).unwrap(),
                        arrays.backward(x.view(), dy.view()).unwrap(),
                    ]
                };
                let what = format!("{size} channels, {window:?}, axis {axis}, {device:?}");
                agrees::<4>(&x, &device, |x| layer.forward(x), expected, &what);
            }
        }
    }
}

const POWERS: [f64; 5] = [1.0, 1.5, 2.0, 3.0, f64::INFINITY];

fn lp_agrees(x: &ArrayD<f64>, axes: &[isize], p: f64, floor: Floor, device: &Device) {
    let layer = LpNormConfig::new(axes.to_vec()).with_p(p).with_floor(floor).init();
    let arrays = cellnorm::norms::LpNormConfig::new(axes).p(p).floor(floor).init().unwrap();
    let expected = |x: &ArrayD<f64>, dy: &ArrayD<f64>| {
        [arrays.forward(x.view()).unwrap(), arrays.backward(x.view(), dy.view()).unwrap()]
    };
    agrees::<3>(
        x,
        device,
        |x| layer.forward(x),
        expected,
        &format!("p = {p}, {floor:?} on {axes:?}, {device:?}"),
    );
}

#[test]
fn lp_agrees_with_arrays() {
    let x = with_zeros(&[4, 3, 5], 2);
    // a sample of zeros, a small one, and one whose largest values are equal
    let mut some_small = x.clone();
    some_small.index_axis_mut(Axis(0), 0).fill(0.0);
    some_small.index_axis_mut(Axis(0), 1).mapv_inplace(|v| v / 256.0);
    some_small.index_axis_mut(Axis(0), 2).mapv_inplace(|v| v.signum());
    for device in devices() {
        for p in POWERS {
            for axes in [&[-1][..], &[1], &[1, 2], &[0, 1, 2]] {
                for floor in
                    [Floor::Max(0.4), Floor::MaxSquare(0.16), Floor::AddSquare(0.3), Floor::None]
                {
                    lp_agrees(&some_small, axes, p, floor, &device);
                }
                for floor in [Floor::Max(1e-12), Floor::MaxSquare(1e-24), Floor::AddSquare(1e-10)] {
                    lp_agrees(&x.mapv(|v| if v == 0.0 { 0.5 } else { v }), axes, p, floor, &device);
                }
            }
        }
    }
}

#[test]
fn lp_neither_overflows_nor_vanishes() {
    let x = with_zeros(&[4, 3, 5], 3);
    for device in devices() {
        for p in POWERS {
            let layer = LpNormConfig::new(vec![1, 2]).with_p(p).with_floor(Floor::None).init();
            let expected =
                cellnorm::norms::LpNormConfig::new(&[1, 2]).p(p).floor(Floor::None).init().unwrap();
            let expected = expected.forward(x.view()).unwrap();
            for scale in [1e37, 1e-35] {
                let input = (tensor::<3>(&x, &device) * scale).detach().require_grad();
                let y = layer.forward(input.clone());
                close(list(y.clone()), &expected, &format!("p = {p} at {scale:e}"));
                let dx = input.grad(&y.sum().backward()).unwrap() * scale;
                assert!(list(dx).iter().all(|dx| dx.is_finite()), "dx of p = {p} at {scale:e}");
            }
        }
    }
}

/// A library of tensors goes on where numbers have gone wrong, and the rest of them is right.
#[test]
fn nan_stays_in_its_line() {
    let device = Device::flex().autodiff();
    let lp = LpNormConfig::new(vec![1]).init();
    let response = LocalResponseNormConfig::new(3).init();
    let mut x = values(&[2, 3, 4], 1);
    x[[1, 0, 2]] = f64::NAN;
    let x = tensor::<3>(&x, &device).require_grad();
    for (y, bad) in [(lp.forward(x.clone()), 3), (response.forward(x.clone()), 2)] {
        let dx = x.grad(&y.clone().sum().backward()).unwrap();
        let nans = |of: Vec<f32>| of.iter().filter(|value| value.is_nan()).count();
        assert_eq!((nans(list(y)), nans(list(dx)) <= 3), (bad, true));
    }
}

#[test]
#[should_panic(expected = "at least 1, or f64::INFINITY")]
fn a_power_below_one() {
    LpNormConfig::new(vec![1]).with_p(0.5).init();
}

#[test]
#[should_panic(expected = "bias is 0")]
fn a_denominator_that_can_be_zero() {
    LocalResponseNormConfig::new(5).with_bias(0.0).init();
}
