//! Masks: what is masked does not exist. Masked is sliced, for every layer; NaN there is harmless;
//! nothing valid is defined.

use cellnorm::rule::{NormConfig, Rule};
use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Mask,
    RmsNormConfig,
};
use ndarray::{Array3, ArrayD, Axis, IxDyn, s};

use crate::common::{Numbers, averages, distance, running_distance};

const LENGTHS: [usize; 3] = [5, 2, 3];

/// Three sequences [N, C, T] with NaN behind their ends.
fn sequences() -> (Array3<f64>, Array3<f64>) {
    let mut numbers = Numbers::new(21);
    let three = |a: ArrayD<f64>| a.into_dimensionality().unwrap();
    let (mut x, mut dy): (Array3<f64>, Array3<f64>) =
        (three(numbers.tensor(&[3, 4, 5], 1.0)), three(numbers.tensor(&[3, 4, 5], 0.0)));
    for (n, length) in LENGTHS.into_iter().enumerate() {
        x.slice_mut(s![n, .., length..]).fill(f64::NAN);
        dy.slice_mut(s![n, .., length..]).fill(f64::NAN);
    }
    (x, dy)
}

/// A layer of single samples gives for each masked sample what it gives for the sample cut to its
/// length.
fn check_masked_is_sliced<R: Rule>(config: NormConfig<R>) -> Result<(), Error> {
    let mut layer = config.init()?;
    let (x, dy) = sequences();
    let (y, saved) = layer.forward_masked(x.view(), &Mask::lengths(&LENGTHS, 2))?;
    let gradients = layer.backward(&saved, x.view(), dy.view())?;
    let mut dgamma = ArrayD::zeros(IxDyn(&[4]));
    for (n, length) in LENGTHS.into_iter().enumerate() {
        let [x, dy] = [&x, &dy].map(|a| a.slice(s![n..n + 1, .., ..length]));
        let (alone, saved) = layer.forward(x)?;
        let sliced = layer.backward(&saved, x, dy)?;
        for (masked, alone) in [(&y, &alone), (&gradients.dx, &sliced.dx)] {
            let masked = masked.slice(s![n..n + 1, .., ..length]);
            assert!(distance(masked.iter().copied(), alone.iter().copied()) < 1e-12);
        }
        assert!(
            y.slice(s![n, .., length..])
                .iter()
                .chain(gradients.dx.slice(s![n, .., length..]))
                .all(|v| *v == 0.0)
        );
        dgamma += &sliced.dgamma.unwrap();
    }
    assert!(distance(gradients.dgamma.unwrap(), dgamma) < 1e-12);
    Ok(())
}

#[test]
fn masked_is_sliced() -> Result<(), Error> {
    check_masked_is_sliced(LayerNormConfig::per_channel(4))?;
    check_masked_is_sliced(InstanceNormConfig::new(4))?;
    check_masked_is_sliced(GroupNormConfig::new(2, 4))?;
    check_masked_is_sliced(RmsNormConfig::per_channel(4))?;
    check_masked_is_sliced(LayerNormConfig::over(&[1], &[4]))
}

#[test]
fn a_masked_batch_is_the_valid_values_side_by_side() -> Result<(), Error> {
    let (x, dy) = sequences();
    let columns = |a: &Array3<f64>| {
        let of = |n: usize| a.slice(s![n, .., ..LENGTHS[n]]).reversed_axes();
        let [a, b, c] = [0, 1, 2].map(of);
        ndarray::concatenate![Axis(0), a, b, c]
    };
    let mut masked = BatchNormConfig::new(4).init()?;
    let mut dense = masked.clone();
    let (y, saved) = masked.forward_masked(x.view(), &Mask::lengths(&LENGTHS, 2))?;
    let (expected, dense_saved) = dense.forward(columns(&x).view())?;
    assert!(distance(columns(&y), expected) < 1e-12);
    assert!(running_distance(&masked, &dense) < 1e-12);
    let ours = masked.backward(&saved, x.view(), dy.view())?;
    let theirs = dense.backward(&dense_saved, columns(&x).view(), columns(&dy))?;
    assert!(distance(columns(&ours.dx), theirs.dx) < 1e-12);
    assert!(distance(ours.dgamma.unwrap(), theirs.dgamma.unwrap()) < 1e-12);

    let inferred = masked.infer_masked(x.view(), &Mask::lengths(&LENGTHS, 2))?;
    assert!(distance(columns(&inferred), masked.infer(columns(&x))?) < 1e-12);
    Ok(())
}

#[test]
fn nothing_valid_gives_nothing() -> Result<(), Error> {
    let x = Array3::from_elem((2, 3, 4), f64::NAN);
    let none = Mask::lengths(&[0, 0], 2);
    let mut batch = BatchNormConfig::new(3).init()?;
    let (y, saved) = batch.forward_masked(x.view(), &none)?;
    assert!(y.iter().all(|v| *v == 0.0));
    assert_eq!(batch.running, Some(averages(&[0.0; 3], &[1.0; 3])));
    let gradients = batch.backward(&saved, x.view(), x.view())?;
    assert!(gradients.dx.iter().chain(&gradients.dgamma.unwrap()).all(|v| *v == 0.0));
    let (y, _) = LayerNormConfig::new(&[4]).init()?.forward_masked(x.view(), &none)?;
    assert!(y.iter().all(|v| *v == 0.0));
    Ok(())
}

/// Its normalized value is 0 whatever it is, so its gradient is 0 and no rounding of terms that
/// cancel.
#[test]
fn the_only_valid_value_of_a_set_has_no_gradient() -> Result<(), Error> {
    let x = ndarray::array![[1e4 / 3.0, 7.0, 5.0], [1.0, 2.0, 4.0]];
    let dy = ndarray::array![[1.0 / 3.0, 3.0, 2.0], [1.0, 0.0, 3.0]];
    let mask = Mask::lengths(&[1, 3], 1);
    let mut layer = LayerNormConfig::new(&[3]).init()?;
    let (y, saved) = layer.forward_masked(x.view(), &mask)?;
    let dx = layer.backward(&saved, x.view(), dy.view())?.dx;
    assert_eq!((y.row(0).to_vec(), dx.row(0).to_vec()), (vec![0.0; 3], vec![0.0; 3]));
    assert!(dx.row(1).iter().all(|dx| *dx != 0.0));
    Ok(())
}

#[test]
fn a_mask_that_does_not_fit_is_an_error() -> Result<(), Error> {
    let x = Array3::from_elem((2, 3, 4), 1.0);
    let mut layer = InstanceNormConfig::new(3).init()?;
    let mut refused = |mask: &Mask| layer.forward_masked(x.view(), mask).unwrap_err().to_string();
    assert_eq!(
        refused(&Mask::lengths(&[1, 5], 2)),
        "a length is 5; it must be at most as long as the axis"
    );
    assert!(
        refused(&Mask::lengths(&[1], 2))
            .starts_with("the lengths along an axis other than 0 has the shape [1]")
    );
    let flat = ndarray::arr1(&[true, false]);
    assert_eq!(
        refused(&Mask::new(flat.view())),
        "the mask has the shape [2], which does not broadcast to [2, 3, 4]"
    );
    Ok(())
}
