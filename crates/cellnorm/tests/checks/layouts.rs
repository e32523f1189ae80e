//! Any axes and any strides: permuted, reversed, stepped, broadcast and Fortran-order arrays give
//! what a plain copy gives.

use cellnorm::{Error, moments};
use ndarray::{ArrayD, ArrayViewD, Axis, CowArray, IxDyn, ShapeBuilder, Slice};
use proptest::prelude::*;

use crate::common::{AnyLayer, Numbers, Parameters, Spec, Which, check, distance, largest, specs};

/// How an array lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Plain,
    Fortran,
    /// Axes in another order in memory, some of them reversed.
    Permuted,
    /// Every second or third index of a larger array.
    Stepped,
    /// One axis of stride 0.
    Broadcast,
}

const LAYOUTS: [Layout; 5] =
    [Layout::Plain, Layout::Fortran, Layout::Permuted, Layout::Stepped, Layout::Broadcast];

impl Layout {
    /// Whether arrays of this layout fill their memory.
    fn gapless(self) -> bool {
        matches!(self, Self::Plain | Self::Fortran | Self::Permuted)
    }

    /// Calls `work` with a view of this layout of random values in `shape`.
    fn with<R>(
        self,
        shape: &[usize],
        numbers: &mut Numbers,
        work: impl FnOnce(ArrayViewD<'_, f64>) -> R,
    ) -> R {
        let rank = shape.len();
        match self {
            Self::Plain => work(numbers.tensor(shape, 1.0).view()),
            Self::Fortran => {
                let values = numbers.tensor(shape, 1.0).into_raw_vec_and_offset().0;
                work(ArrayD::from_shape_vec(IxDyn(shape).f(), values).unwrap().view())
            }
            Self::Permuted => {
                let mut order: Vec<usize> = (0..rank).collect();
                (1..rank).rev().for_each(|i| order.swap(i, numbers.below(i + 1)));
                let mut memory = vec![0; rank];
                order.iter().enumerate().for_each(|(axis, at)| memory[*at] = shape[axis]);
                let mut x = numbers.tensor(&memory, 1.0).permuted_axes(order);
                (0..rank)
                    .filter(|_| numbers.below(2) == 1)
                    .for_each(|axis| x.invert_axis(Axis(axis)));
                work(x.view())
            }
            Self::Stepped => {
                let step: Vec<usize> = (0..rank).map(|_| 1 + numbers.below(3)).collect();
                let large: Vec<usize> =
                    shape.iter().zip(&step).map(|(len, step)| len * step + 1).collect();
                let x = numbers.tensor(&large, 1.0);
                let mut view = x.view();
                for axis in 0..rank {
                    let (end, step) = (shape[axis] * step[axis], step[axis] as isize);
                    let sign = if numbers.below(2) == 1 { -1 } else { 1 };
                    view.slice_axis_inplace(
                        Axis(axis),
                        Slice::new(0, Some(end as isize), sign * step),
                    );
                }
                work(view)
            }
            Self::Broadcast => {
                let mut one = shape.to_vec();
                one[numbers.below(rank)] = 1;
                work(numbers.tensor(&one, 1.0).broadcast(IxDyn(shape)).unwrap())
            }
        }
    }
}

/// Mean and variance over the axes marked, by two passes over each set.
fn naive_moments(x: &ArrayViewD<'_, f64>, over: &[bool]) -> (Vec<f64>, Vec<f64>) {
    let mut sets = std::collections::BTreeMap::<Vec<usize>, Vec<f64>>::new();
    for (index, value) in x.indexed_iter() {
        let set = (0..over.len()).filter(|axis| !over[*axis]).map(|axis| index[axis]).collect();
        sets.entry(set).or_default().push(*value);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let of_set = |values: &Vec<f64>| {
        let center = mean(values);
        (center, mean(&values.iter().map(|x| (x - center).powi(2)).collect::<Vec<_>>()))
    };
    sets.values().map(of_set).unzip()
}

#[test]
fn moments_over_any_axes_of_any_array() {
    let worst = std::cell::Cell::new(0.0_f64);
    let shape = prop::collection::vec(1..8_usize, 0..=5);
    check(1500, (shape, 0..5_usize, any::<u64>()), |(shape, layout, seed)| {
        let (rank, mut numbers) = (shape.len(), Numbers::new(seed));
        let layout = if rank == 0 { Layout::Plain } else { LAYOUTS[layout] };
        let over: Vec<bool> = (0..rank).map(|_| numbers.below(2) == 1).collect();
        let mut axes: Vec<isize> = (0..rank as isize).filter(|axis| over[*axis as usize]).collect();
        axes.iter_mut().for_each(|axis| *axis -= numbers.below(2) as isize * rank as isize);
        axes.reverse();
        let keep: Vec<usize> =
            (0..rank).map(|axis| if over[axis] { 1 } else { shape[axis] }).collect();
        let gone: Vec<usize> =
            (0..rank).filter(|axis| !over[*axis]).map(|axis| shape[axis]).collect();
        layout.with(&shape, &mut numbers, |x| {
            let (mean, variance) = naive_moments(&x, &over);
            for (keepdims, expected) in [(true, keep), (false, gone)] {
                let (m, v) = moments(x.view(), &axes, keepdims).unwrap();
                assert_eq!((m.shape(), v.shape()), (&expected[..], &expected[..]));
                let error = distance(m, mean.clone()).max(distance(v, variance.clone()));
                assert!(error <= 1e-12, "{error:e} over {axes:?} of {shape:?}, {layout:?}");
                worst.set(worst.get().max(error));
            }
        });
    });
    println!("moments over any axes of any array: {:.1e}", worst.get());
}

/// Whether all axes that share statistics carry parameters.
fn rows(spec: &Spec) -> bool {
    match spec.which {
        Which::Batch { .. } | Which::Instance => false,
        _ if spec.element_axes().is_some() => spec.scale || spec.center,
        _ => spec.values_per_set() == spec.channels(),
    }
}

#[test]
fn layers_on_any_array() {
    let worst = std::cell::Cell::new(0.0_f64);
    check(1000, (specs(500), 0..5_usize, 0..5_usize), |((spec, seed), x_layout, dy_layout)| {
        let mut numbers = Numbers::new(seed);
        // ε keeps 1/√variance at bay where a broadcast leaves few different values
        let spec = Spec { epsilon: 0.1, ..spec };
        let parameters = Parameters::random(&spec, &mut numbers, 1.0);
        let mut layer = AnyLayer::new(&spec, &parameters).unwrap();
        let what = format!("{spec:?}, x {:?}, dy {:?}", LAYOUTS[x_layout], LAYOUTS[dy_layout]);
        let mut dy_numbers = Numbers::new(!seed);
        LAYOUTS[x_layout].with(&spec.shape, &mut numbers, |x| {
            LAYOUTS[dy_layout].with(&spec.shape, &mut dy_numbers, |dy| {
                let plain = |view: &ArrayViewD<'_, f64>| view.as_standard_layout().into_owned();
                let expected = layer.run(plain(&x).view(), plain(&dy).view()).unwrap();
                let given = layer.run(x.view(), dy.view()).unwrap();
                let same = |name: &str, a: &ArrayD<f64>, b: &ArrayD<f64>| {
                    assert_eq!(a.shape(), b.shape(), "{name}: {what}");
                    let error = distance(a.iter().copied(), b.iter().copied())
                        / largest(b.iter().copied()).max(1.0);
                    assert!(error <= 1e-12, "{name} is off by {error:e}: {what}");
                    worst.set(worst.get().max(error));
                };
                same("y", &given.y, &expected.y);
                same("dx", &given.dx, &expected.dx);
                for (a, b) in [(&given.dgamma, &expected.dgamma), (&given.dbeta, &expected.dbeta)] {
                    assert_eq!(a.is_some(), b.is_some());
                    a.iter().zip(b).for_each(|(a, b)| same("a parameter's gradient", a, b));
                }
                let flat = |saved: &cellnorm::rule::Saved| {
                    [&saved.statistics.mean[..], &saved.statistics.variance].concat()
                };
                assert!(
                    distance(flat(&given.saved), flat(&expected.saved)) <= 1e-12,
                    "statistics: {what}"
                );
                // rows are taken in logical order, so there x may have been copied
                if LAYOUTS[x_layout].gapless() && !rows(&spec) {
                    for axis in (0..x.ndim()).filter(|axis| x.len_of(Axis(*axis)) > 1) {
                        assert_eq!(
                            given.y.strides()[axis],
                            x.strides()[axis],
                            "the order of y: {what}"
                        );
                        assert_eq!(
                            given.dx.strides()[axis],
                            x.strides()[axis],
                            "the order of dx: {what}"
                        );
                    }
                }
            });
        });
    });
    println!("layers on any array against a plain copy: {:.1e}", worst.get());
}

/// A tensor handed over is written over: no second tensor.
#[test]
fn owned_arrays_are_written_over() {
    check(300, specs(500), |(spec, seed)| {
        let mut numbers = Numbers::new(seed);
        let parameters = Parameters::random(&spec, &mut numbers, 1.0);
        let mut layer = AnyLayer::new(&spec, &parameters).unwrap();
        let (x, dy) = (numbers.tensor32(&spec.shape, 1.0), numbers.tensor32(&spec.shape, 0.0));
        // only last axes are rows as they lie; others are copied
        let last = |axes: Vec<usize>| axes[0] + axes.len() == spec.shape.len();
        let in_place = !rows(&spec) || spec.element_axes().is_none_or(last);
        let by_view = layer.infer(x.view()).unwrap();
        let handed = x.clone();
        let place = handed.as_ptr();
        let by_value = layer.infer(handed).unwrap();
        assert_eq!(by_view, by_value, "{spec:?}");
        assert!(by_value.as_ptr() == place || !in_place, "{spec:?}");

        let (_, saved) = layer.forward(x.view()).unwrap();
        let by_view = layer.backward(&saved, x.view(), dy.view()).unwrap();
        let place = dy.as_ptr();
        let by_value = layer.backward(&saved, x.view(), dy).unwrap();
        assert_eq!(by_view, by_value, "{spec:?}");
        assert!(by_value.dx.as_ptr() == place || !in_place, "{spec:?}");
    });
}

/// An owned array that does not use all its memory, one with gaps, and a borrowed one.
#[test]
fn handed_over_parts_and_views() -> Result<(), Error> {
    let spec = Spec::new(Which::Instance, &[2, 3, 5]);
    let mut numbers = Numbers::new(1);
    let layer = AnyLayer::new(&spec, &Parameters::random(&spec, &mut numbers, 0.0))?;
    let mut part = numbers.tensor(&[4, 3, 5], 0.0);
    part.slice_axis_inplace(Axis(0), Slice::new(2, None, 1));
    let (copy, place) = (part.as_standard_layout().into_owned(), part.as_ptr());
    let y = layer.infer(part)?;
    assert_eq!((y.as_ptr(), &y), (place, &layer.infer(copy.view())?));

    let mut gaps = numbers.tensor(&[2, 3, 10], 0.0);
    gaps.slice_axis_inplace(Axis(2), Slice::new(0, None, 2));
    assert_eq!(layer.infer(gaps.clone())?, layer.infer(gaps.view())?);
    let before = copy.clone();
    layer.infer(CowArray::from(copy.view()))?;
    assert_eq!(copy, before);
    Ok(())
}
