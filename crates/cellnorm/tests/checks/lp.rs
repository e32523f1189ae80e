//! Lp normalization against a naive twin, PyTorch's numbers, finite differences, and at the edge of
//! what floats hold.

use cellnorm::{
    Error,
    norms::{Floor, LpNorm, LpNormConfig},
};
use ndarray::{Array1, ArrayD, Axis, IxDyn, array};
use proptest::prelude::*;

use crate::common::{Numbers, check, distance, largest};
use crate::finite_differences::differences;

const INFINITY: f64 = f64::INFINITY;

/// A layer's numbers, and the tensor it is applied to.
#[derive(Clone, Debug)]
struct Case {
    shape: Vec<usize>,
    axes: Vec<isize>,
    p: f64,
    floor: Floor,
    seed: u64,
}

impl Case {
    fn layer(&self) -> LpNorm {
        LpNormConfig::new(&self.axes).p(self.p).floor(self.floor).init().unwrap()
    }

    /// Magnitudes from 0.2 to 1.2, all different and none near the kink at 0.
    fn tensor(&self) -> ArrayD<f64> {
        let mut numbers = Numbers::new(self.seed);
        let count = self.shape.iter().product::<usize>();
        let mut values: Vec<f64> = (0..count).map(|i| 0.2 + i as f64 / count as f64).collect();
        for i in (1..count).rev() {
            values.swap(i, numbers.below(i + 1));
        }
        let values =
            values.into_iter().map(|v| if numbers.below(2) == 0 { v } else { -v }).collect();
        ArrayD::from_shape_vec(IxDyn(&self.shape), values).unwrap()
    }

    /// Norms by axis-wise folds that keep the axes, as NumPy would compute them.
    fn twin(&self, x: &ArrayD<f64>) -> ArrayD<f64> {
        let mut norm = x.mapv(f64::abs);
        if self.p != INFINITY {
            norm.mapv_inplace(|x| x.powf(self.p));
        }
        for axis in &self.axes {
            let axis = Axis(axis.rem_euclid(x.ndim() as isize) as usize);
            let join = |a: &f64, b: &f64| if self.p == INFINITY { a.max(*b) } else { a + b };
            norm = norm.fold_axis(axis, 0.0, join).insert_axis(axis);
        }
        if self.p != INFINITY {
            norm.mapv_inplace(|sum| sum.powf(1.0 / self.p));
        }
        let divisor = norm.mapv(|norm| match self.floor {
            Floor::Max(epsilon) => f64::max(norm, epsilon),
            Floor::MaxSquare(epsilon) => f64::max(norm * norm, epsilon).sqrt(),
            Floor::AddSquare(epsilon) => (norm * norm + epsilon).sqrt(),
            Floor::None => norm,
        });
        x / divisor
    }
}

/// Floors far below, far above and (where they add) about as large as the norms.
fn cases(most: usize) -> impl Strategy<Value = Case> {
    let p = prop_oneof![Just(1.0), Just(2.0), Just(INFINITY), 1.0..8.0, Just(40.0)];
    let epsilon = prop_oneof![Just(1e-12), Just(1e6)];
    let floor = prop_oneof![
        epsilon.clone().prop_map(Floor::Max),
        epsilon.prop_map(Floor::MaxSquare),
        (1e-12..4.0).prop_map(Floor::AddSquare),
        Just(Floor::None),
    ];
    (prop::collection::vec(1..10_usize, 1..=5), any::<u64>(), p, floor, any::<u64>()).prop_map(
        move |(mut shape, choice, p, floor, seed)| {
            while shape.iter().product::<usize>() > most {
                *shape.iter_mut().max().unwrap() /= 2;
            }
            let rank = shape.len();
            let mask = 1 + choice as usize % ((1 << rank) - 1);
            let axis = |axis: usize| {
                axis as isize - if choice >> (40 + axis) & 1 == 1 { rank as isize } else { 0 }
            };
            let axes = (0..rank).filter(|i| mask >> i & 1 == 1).map(axis).collect();
            Case { shape, axes, p, floor, seed }
        },
    )
}

#[test]
fn a_length_is_what_the_twin_computes() {
    check(1000, cases(2000), |case| {
        let (x, layer) = (case.tensor(), case.layer());
        let y = layer.forward(x.view()).unwrap();
        assert!(distance(y, case.twin(&x)) <= 1e-14, "{case:?}");
        let x = x.mapv(|x| x as f32);
        let y = layer.forward(x.view()).unwrap().mapv(f64::from);
        assert!(distance(y, case.twin(&x.mapv(f64::from))) <= 1e-7, "in f32: {case:?}");
    });
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    check(300, cases(40), |case| {
        let (x, layer) = (case.tensor(), case.layer());
        let w = Numbers::new(case.seed).tensor(&case.shape, 0.0);
        let dx = layer.backward(x.view(), w.view()).unwrap();
        let slopes = differences(&x.into_raw_vec_and_offset().0, |x| {
            let x = ArrayD::from_shape_vec(IxDyn(&case.shape), x.to_vec()).unwrap();
            (layer.forward(x.view()).unwrap() * &w).sum()
        });
        assert!(distance(slopes, dx.iter().copied()) <= 1e-7 * largest(dx).max(1e-6), "{case:?}");
    });
}

fn layer(p: f64, floor: Floor) -> LpNorm {
    LpNormConfig::new(&[0]).p(p).floor(floor).init().unwrap()
}

/// `torch.nn.functional.normalize` of PyTorch 2.15 in f64, two largest values for p = ∞, and a norm
/// below the floor.
#[test]
fn the_numbers_of_pytorch() {
    let (x, w) = (array![3.0, -3.0, 1.0], array![1.0, 0.5, -2.0]);
    let given = [
        (
            1.0,
            [0.42857142857142855, -0.42857142857142855, 0.14285714285714285],
            [0.15306122448979592, 0.061224489795918366, -0.2755102040816326],
        ),
        (
            2.0,
            [0.6882472016116852, -0.6882472016116852, 0.22941573387056174],
            [0.24752750233402715, 0.09659609847181547, -0.452794211586635],
        ),
        (
            3.0,
            [0.7888607682987887, -0.7888607682987887, 0.26295358943292957],
            [0.28446797402289653, 0.10996241012649781, -0.5235166916891961],
        ),
        (
            INFINITY,
            [1.0, -1.0, 0.3333333333333333],
            [0.3611111111111111, 0.1388888888888889, -0.6666666666666666],
        ),
    ];
    for (p, y, dx) in given {
        let layer = layer(p, Floor::Max(1e-12));
        assert!(distance(layer.forward(x.view()).unwrap(), y) < 1e-15, "p = {p}");
        assert!(distance(layer.backward(x.view(), w.view()).unwrap(), dx) < 1e-15, "p = {p}");
    }
    let (x, layer) = (array![3e-13, -4e-13], layer(2.0, Floor::Max(1e-12)));
    assert!(distance(layer.forward(x.view()).unwrap(), [0.3, -0.4]) < 1e-15);
    let dx = layer.backward(x.view(), array![1.0, 0.5].view()).unwrap();
    assert!(distance(dx, [1e12, 5e11]) < 1.0);
}

/// 3 : 4 at every size that the floats hold.
#[test]
fn huge_and_tiny_values() {
    for p in [1.0, 1.5, 2.0, 3.0, 40.0, INFINITY] {
        let length = match p {
            INFINITY => 4.0,
            p => (3_f64.powf(p) + 4_f64.powf(p)).powf(1.0 / p),
        };
        let (expected, layer) = ([3.0 / length, -4.0 / length], layer(p, Floor::None));
        for size in [2_f64.powi(1021), 1e200, 1.0, 1e-200, 2_f64.powi(-1074)] {
            let x = array![3.0 * size, -4.0 * size];
            let y = layer.forward(x.view()).unwrap();
            assert!(distance(y, expected) < 1e-15, "p = {p} at {size:e}");
            // Σ x dx = 0, because a change of length changes nothing
            if size > 1e-300 {
                let dx = layer.backward(x.view(), array![0.5, 2.0].view()).unwrap() * size;
                let terms = [3.0 * dx[0], -4.0 * dx[1]];
                assert!(terms[0].abs() > 0.1, "p = {p} at {size:e}: {terms:?}");
                assert!((terms[0] + terms[1]).abs() < 1e-13, "p = {p} at {size:e}: {terms:?}");
            }
        }
        for size in [2_f32.powi(125), 1e-30, 2_f32.powi(-149)] {
            let y = layer.forward(array![3.0 * size, -4.0 * size].view()).unwrap().mapv(f64::from);
            assert!(distance(y, expected) < 1e-7, "p = {p} at {size:e}");
        }
    }
    // beside a floor of another size
    let huge = layer(2.0, Floor::AddSquare(1e-12)).forward(array![3e300, 4e300].view()).unwrap();
    assert!(distance(huge, [0.6, 0.8]) < 1e-15);
    let tiny = layer(2.0, Floor::AddSquare(1e-12)).forward(array![3e-300, 4e-300].view()).unwrap();
    assert!(distance(tiny * 1e294, [3.0, 4.0]) < 1e-14);
    assert_eq!(
        layer(2.0, Floor::None).forward(Array1::from_elem(4, f64::MAX).view()).unwrap(),
        array![0.5, 0.5, 0.5, 0.5]
    );
}

#[test]
fn zeros() {
    let (x, dy) = (Array1::<f64>::zeros(3), array![1.0, -2.0, 0.0]);
    for p in [1.0, 2.0, 3.0, INFINITY] {
        for (floor, length) in [
            (Floor::Max(1e-6), 1e-6),
            (Floor::MaxSquare(1e-12), 1e-6),
            (Floor::AddSquare(1e-12), 1e-6),
            (Floor::None, INFINITY),
        ] {
            let layer = layer(p, floor);
            assert_eq!(layer.forward(x.view()).unwrap(), x, "p = {p}, {floor:?}");
            assert_eq!(
                layer.backward(x.view(), dy.view()).unwrap(),
                &dy / length,
                "p = {p}, {floor:?}"
            );
        }
    }
}

/// Unit vectors over several axes, from and to any memory layout, with enough values for several
/// threads.
#[test]
fn layouts() {
    let x = Numbers::new(5).tensor32(&[30, 40, 9, 7], 0.0);
    let layer = LpNormConfig::unit(&[1, -1]).init().unwrap();
    let (y, dx) = (layer.forward(x.view()).unwrap(), layer.backward(x.view(), x.view()).unwrap());
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| layer.forward(x.view())).unwrap(), y);
    let lengths = y.mapv(|y| f64::from(y).powi(2)).sum_axis(Axis(3)).sum_axis(Axis(1));
    assert!(distance(lengths.iter().copied(), [1.0; 270]) < 1e-6);
    assert!(largest(dx.iter().copied().map(f64::from)) < 1e-6, "a gradient along x has no effect");

    let last = x.view().permuted_axes(&[0, 2, 3, 1][..]).as_standard_layout().into_owned();
    let last = last.view().permuted_axes(&[0, 3, 1, 2][..]);
    let found = layer.forward(last.view()).unwrap();
    // the values of a vector come in the order of the axes, whatever the memory
    assert_eq!((&found, found.strides()), (&y, last.strides()));
}

#[test]
fn errors() {
    let config = LpNormConfig::new(&[1]);
    let message = |result: Result<LpNorm, Error>| result.unwrap_err().to_string();
    assert_eq!(
        message(LpNormConfig::new(&[]).init()),
        "no axes to normalize over; name at least one"
    );
    let p = "it must be at least 1, or f64::INFINITY for the largest magnitude";
    assert_eq!(message(config.clone().p(0.5).init()), format!("p is 0.5; {p}"));
    assert_eq!(message(config.clone().p(f64::NAN).init()), format!("p is NaN; {p}"));
    for floor in [Floor::Max(0.0), Floor::MaxSquare(0.0), Floor::AddSquare(0.0)] {
        let expected = "epsilon is 0; it must be finite and at least 1e-36, such as 1e-5";
        assert_eq!(message(config.clone().floor(floor).init()), expected);
    }

    let layer = config.init().unwrap();
    let message = |x: ArrayD<f64>| layer.forward(x.view()).unwrap_err().to_string();
    assert_eq!(
        message(ArrayD::zeros(&[3][..])),
        "axis 1 does not exist in a tensor of 1 axis; possible: -1 to 0"
    );
    assert!(message(ArrayD::zeros(&[3, 0][..])).starts_with("a statistic over no values"));
    let vector = "holds NaN, infinity or numbers too large to sum, first seen in the \
                  statistic with index 3 (of 4); look at what made it";
    for bad in [f64::NAN, INFINITY, -INFINITY] {
        for at in 0..3 {
            let mut x = ArrayD::from_elem(&[2, 3, 2][..], 5.0);
            x[[1, at, 1]] = bad;
            assert_eq!(message(x.clone()), format!("x {vector}"));
            let zeros = ArrayD::zeros(&[2, 3, 2][..]);
            assert_eq!(
                layer.backward(x.view(), zeros.view()).unwrap_err().to_string(),
                format!("x {vector}")
            );
            assert_eq!(
                layer.backward(zeros.view(), x.view()).unwrap_err().to_string(),
                format!("dy {vector}")
            );
        }
    }
    let (x, dy) = (ArrayD::<f32>::ones(&[2, 3][..]), ArrayD::ones(&[3, 2][..]));
    let shape = "dy has the shape [3, 2], but x has [2, 3]; they must be equal";
    assert_eq!(layer.backward(x.view(), dy.view()).unwrap_err().to_string(), shape);
    let twice = LpNormConfig::new(&[0, -2]).init().unwrap();
    assert_eq!(
        twice.forward(x.view()).unwrap_err().to_string(),
        "axis 0 is named twice in [0, -2]; name each axis once"
    );
}
