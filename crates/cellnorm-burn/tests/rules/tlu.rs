//! The thresholded linear unit against its formula and finite differences of it.

use burn::module::Param;
use burn::tensor::Device;
use cellnorm_burn::{Tlu, TluConfig};
use ndarray::{ArrayD, IxDyn};

use crate::common::{close, devices, list, tensor, values};

/// max(x, α x + τ), where `number` says whose τ and α belong to an index.
fn naive(
    x: &ArrayD<f64>,
    tau: &ArrayD<f64>,
    alpha: &ArrayD<f64>,
    number: &dyn Fn(&IxDyn) -> usize,
) -> ArrayD<f64> {
    let mut y = x.clone();
    y.indexed_iter_mut()
        .for_each(|(index, y)| *y = y.max(alpha[number(&index)] * *y + tau[number(&index)]));
    y
}

/// Central differences of Σ dy · y; a maximum of lines has no curvature, and no value is so near
/// the bend.
fn slopes(
    of: &ArrayD<f64>,
    dy: &ArrayD<f64>,
    y: &dyn Fn(&ArrayD<f64>) -> ArrayD<f64>,
) -> ArrayD<f64> {
    let mut slopes = of.clone();
    for (index, slope) in slopes.indexed_iter_mut() {
        let at = |step: f64| {
            let mut moved = of.clone();
            moved[index.clone()] += step;
            (y(&moved) * dy).sum()
        };
        *slope = (at(1e-6) - at(-1e-6)) / 2e-6;
    }
    slopes
}

fn agrees(unit: Tlu, len: usize, number: &dyn Fn(&IxDyn) -> usize, device: &Device) {
    let what = &format!("axes {:?}, affine {}, {device:?}", unit.axes, unit.alpha.is_some());
    let (x, dy, tau) = (values(&[4, 3, 5], 1), values(&[4, 3, 5], 2), values(&[len], 3));
    let alpha = if unit.alpha.is_some() { values(&[len], 4) } else { ArrayD::zeros(IxDyn(&[len])) };
    let parameter = |of| Param::from_tensor(tensor::<1>(of, device));
    let unit =
        Tlu { tau: parameter(&tau), alpha: unit.alpha.as_ref().map(|_| parameter(&alpha)), ..unit };
    let input = tensor::<3>(&x, device).require_grad();
    let y = unit.forward(input.clone());
    let gradients = (y.clone() * tensor(&dy, device)).sum().backward();
    close(list(y), &naive(&x, &tau, &alpha, number), what);
    close(
        list(input.grad(&gradients).unwrap()),
        &slopes(&x, &dy, &|x| naive(x, &tau, &alpha, number)),
        what,
    );
    let of_tau = slopes(&tau, &dy, &|tau| naive(&x, tau, &alpha, number));
    close(list(unit.tau.val().grad(&gradients).unwrap()), &of_tau, what);
    if let Some(of) = &unit.alpha {
        let of_alpha = slopes(&alpha, &dy, &|alpha| naive(&x, &tau, alpha, number));
        close(list(of.val().grad(&gradients).unwrap()), &of_alpha, what);
    }
}

#[test]
fn it_is_the_larger_of_two_lines() {
    for device in devices() {
        for affine in [false, true] {
            let init = |config: TluConfig| config.with_affine(affine).init(&device);
            agrees(init(TluConfig::per_channel(3)), 3, &|index| index[1], &device);
            agrees(init(TluConfig::new(vec![-1], vec![5])), 5, &|index| index[2], &device);
            agrees(
                init(TluConfig::new(vec![1, 2], vec![3, 5])),
                15,
                &|index| 5 * index[1] + index[2],
                &device,
            );
        }
    }
}

#[test]
#[should_panic(expected = "[4, 3]")]
fn another_number_of_channels() {
    let device = Device::flex();
    TluConfig::per_channel(5).init(&device).forward(tensor::<2>(&values(&[4, 3], 1), &device));
}
