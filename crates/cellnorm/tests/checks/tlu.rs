//! The thresholded linear unit: differences of the loss, ReLU and leaky ReLU as cases of it, and
//! any strides.

use cellnorm::{
    Error,
    norms::{Tlu, TluConfig},
};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice, array};

use crate::common::{Numbers, distance};

const H: f64 = 1e-6;

/// Units of each form with thresholds for each channel, for each element of a sample, and one for
/// all.
fn units(shape: &[usize]) -> Result<Vec<Tlu>, Error> {
    let mut numbers = Numbers::new(17);
    let axes: Vec<isize> = (1..shape.len() as isize).collect();
    let configs =
        [TluConfig::new(shape[1]), TluConfig::over(&axes, &shape[1..]), TluConfig::over(&[], &[])];
    let mut units = Vec::new();
    for (config, affine) in configs.iter().flat_map(|config| [(config, false), (config, true)]) {
        let mut unit = config.clone().affine(affine).init()?;
        for values in [Some(&mut unit.tau), unit.alpha.as_mut()].into_iter().flatten() {
            values.mapv_inplace(|_| numbers.normal());
        }
        units.push(unit);
    }
    Ok(units)
}

fn loss(unit: &Tlu, x: &ArrayD<f64>, dy: &ArrayD<f64>) -> f64 {
    (unit.forward(x.view()).unwrap() * dy).sum()
}

#[test]
fn gradients_are_finite_differences() -> Result<(), Error> {
    let shape = [3, 4, 2, 3];
    let mut numbers = Numbers::new(2);
    let (x, dy) = (numbers.tensor(&shape, 0.0), numbers.tensor(&shape, 0.0));
    let mut worst = 0.0_f64;
    for unit in units(&shape)? {
        let gradients = unit.backward(x.view(), dy.view())?;
        assert_eq!(gradients.dalpha.is_some(), unit.alpha.is_some());
        let mut compare = |ours: f64, at: &dyn Fn(f64) -> f64| {
            worst = worst.max((ours - (at(H) - at(-H)) / (2.0 * H)).abs());
        };
        for (index, dx) in gradients.dx.indexed_iter() {
            compare(*dx, &|step| {
                let mut x = x.clone();
                x[&index] += step;
                loss(&unit, &x, &dy)
            });
        }
        for (index, dtau) in gradients.dtau.indexed_iter() {
            compare(*dtau, &|step| {
                let mut unit = unit.clone();
                unit.tau[&index] += step;
                loss(&unit, &x, &dy)
            });
        }
        for (index, dalpha) in gradients.dalpha.iter().flat_map(|dalpha| dalpha.indexed_iter()) {
            compare(*dalpha, &|step| {
                let mut unit = unit.clone();
                unit.alpha.as_mut().unwrap()[&index] += step;
                loss(&unit, &x, &dy)
            });
        }
    }
    println!("{:<36} {worst:.1e}", "thresholded linear unit");
    assert!(worst < 1e-7, "{worst:e}");
    Ok(())
}

#[test]
fn relu_and_leaky_relu_are_cases() -> Result<(), Error> {
    let x = Numbers::new(3).tensor(&[5, 4], 0.0).mapv(|x| x as f32);
    assert_eq!(TluConfig::new(4).init()?.forward(x.view())?, x.mapv(|x| x.max(0.0)));
    let mut leaky = TluConfig::new(4).affine(true).init()?;
    assert_eq!(leaky.forward(x.view())?, x.mapv(|x| x.max(0.0)));
    leaky.alpha.as_mut().unwrap().fill(0.125);
    assert_eq!(leaky.forward(x.view())?, x.mapv(|x| if x > 0.0 { x } else { 0.125 * x }));
    // where both are equal x has the gradient, as in TensorFlow
    let gradients =
        TluConfig::new(1).init()?.backward(array![[0.0]].view(), array![[3.0]].view())?;
    assert_eq!((gradients.dx[[0, 0]], gradients.dtau[[0]]), (3.0, 0.0));
    let odd = array![[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.5]];
    let y = TluConfig::new(4).init()?.forward(odd.view())?;
    assert!(y[[0, 0]].is_nan());
    assert_eq!(y.as_slice().unwrap()[1..], [f32::INFINITY, 0.0, 0.0]);
    Ok(())
}

#[test]
fn strides_do_not_matter() -> Result<(), Error> {
    let shape = [3, 4, 2, 3];
    let mut numbers = Numbers::new(9);
    let (x, dy) = (numbers.tensor(&shape, 0.0), numbers.tensor(&shape, 0.0));
    // the same numbers as views: in Fortran order, with a reversed axis, and every other of a
    // larger array
    let fortran = |of: &ArrayD<f64>| of.t().as_standard_layout().into_owned().reversed_axes();
    let reversed = |of: &ArrayD<f64>| {
        let mut of = of.clone();
        of.invert_axis(Axis(2));
        let mut of = of.as_standard_layout().into_owned();
        of.invert_axis(Axis(2));
        of
    };
    let wide = |of: &ArrayD<f64>| {
        let mut wide = ArrayD::zeros(IxDyn(&[3, 8, 2, 3]));
        wide.slice_axis_mut(Axis(1), Slice::new(0, None, 2)).assign(of);
        wide
    };
    for unit in units(&shape)? {
        let (y, gradients) = (unit.forward(x.view())?, unit.backward(x.view(), dy.view())?);
        let same = |x: ArrayViewD<'_, f64>, dy: ArrayViewD<'_, f64>| -> Result<(), Error> {
            assert_eq!(unit.forward(x.view())?, y);
            assert_eq!(unit.backward(x, dy)?, gradients);
            Ok(())
        };
        same(fortran(&x).view(), dy.view())?;
        same(reversed(&x).view(), fortran(&dy).view())?;
        let (wide_x, wide_dy) = (wide(&x), wide(&dy));
        let every_other = Slice::new(0, None, 2);
        same(wide_x.slice_axis(Axis(1), every_other), wide_dy.slice_axis(Axis(1), every_other))?;
        let narrow = unit.forward(x.mapv(|x| x as f32).view())?;
        assert!(distance(narrow.mapv(f64::from), y) < 1e-6);
    }
    Ok(())
}

#[test]
fn units_that_do_not_suit() -> Result<(), Error> {
    let error = TluConfig::over(&[1, 2], &[3]).init().unwrap_err();
    assert_eq!(error.to_string(), "1 length, [3], for 2 axes, [1, 2]; give one for each");
    let x = ArrayD::<f64>::zeros(IxDyn(&[2, 3]));
    let message = |unit: &Tlu| unit.forward(x.view()).unwrap_err().to_string();
    assert_eq!(
        message(&TluConfig::new(4).init()?),
        "the axes [1] of the shape [2, 3] have the lengths [3]; the layer was made for [4]"
    );
    let mut unit = TluConfig::new(3).affine(true).init()?;
    unit.tau = ArrayD::zeros(IxDyn(&[1]));
    assert_eq!(message(&unit), "tau has the shape [1]; it must be [3]");
    unit.tau = ArrayD::from_elem(IxDyn(&[3]), 1.0);
    unit.alpha.as_mut().unwrap()[[1]] = f64::NAN;
    assert_eq!(message(&unit), "alpha is NaN; it must be finite");
    unit.alpha = None;
    let error = unit.backward(x.view(), ArrayD::zeros(IxDyn(&[3, 2])).view()).unwrap_err();
    assert_eq!(error.to_string(), "dy has the shape [3, 2], but x has [2, 3]; they must be equal");
    let error = unit
        .backward(x.view(), ArrayD::from_elem(IxDyn(&[2, 3]), f64::INFINITY).view())
        .unwrap_err();
    assert!(error.to_string().starts_with("dy holds NaN, infinity"), "{error}");
    Ok(())
}
