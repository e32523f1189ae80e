//! Local response normalization against a naive twin, the frameworks' numbers, and finite
//! differences.

use cellnorm::norms::Lines;
use cellnorm::{
    Error,
    norms::{LocalResponseNorm, LocalResponseNormConfig, Window},
    shape::Cells,
};
use ndarray::{Array1, ArrayD, Axis, IxDyn, array, s};
use proptest::prelude::*;

use crate::common::{Numbers, check, distance, largest};
use crate::finite_differences::differences;

/// A layer's numbers, and the tensor it is applied to.
#[derive(Clone, Debug)]
struct Case {
    shape: Vec<usize>,
    axis: usize,
    size: usize,
    alpha: f64,
    beta: f64,
    bias: f64,
    window: Window,
    seed: u64,
}

impl Case {
    fn layer(&self) -> LocalResponseNorm {
        let (rank, axis) = (self.shape.len(), self.axis as isize);
        let axis = if self.seed.is_multiple_of(2) { axis } else { axis - rank as isize };
        let config = LocalResponseNormConfig::new(self.size)
            .alpha(self.alpha)
            .beta(self.beta)
            .bias(self.bias);
        config.window(self.window).channel_axis(axis).init().unwrap()
    }

    /// Sums over windows of the channels with zeros around them: PyTorch pads size/2 before and
    /// (size − 1)/2 after, ONNX the other way round.
    fn twin(&self, x: &ArrayD<f64>) -> ArrayD<f64> {
        let mut y = x.clone();
        let before = if self.window == Window::Left { self.size / 2 } else { (self.size - 1) / 2 };
        for (x, mut y) in x.lanes(Axis(self.axis)).into_iter().zip(y.lanes_mut(Axis(self.axis))) {
            let mut padded = vec![0.0; before];
            padded.extend(x.iter().map(|x| x * x));
            padded.extend(vec![0.0; self.size]);
            for (c, y) in y.iter_mut().enumerate() {
                let sum: f64 = padded[c..c + self.size].iter().sum();
                *y /= (self.bias + self.alpha * sum / self.size as f64).powf(self.beta);
            }
        }
        y
    }
}

fn cases(most: usize) -> impl Strategy<Value = Case> {
    let window = prop_oneof![Just(Window::Left), Just(Window::Right)];
    let numbers = (0.0..4.0, prop_oneof![Just(0.5), Just(0.75), 0.0..3.0], 0.1..2.0);
    (
        prop::collection::vec(1..12_usize, 2..=5),
        any::<u64>(),
        1..16_usize,
        numbers,
        window,
        any::<u64>(),
    )
        .prop_map(move |(mut shape, axis, size, (alpha, beta, bias), window, seed)| {
            while shape.iter().product::<usize>() > most {
                *shape.iter_mut().max().unwrap() /= 2;
            }
            let axis = axis as usize % shape.len();
            Case { shape, axis, size, alpha, beta, bias, window, seed }
        })
}

#[test]
fn a_window_is_what_the_twin_adds() {
    check(1000, cases(2000), |case| {
        let mut numbers = Numbers::new(case.seed);
        let (x, layer) = (numbers.tensor(&case.shape, 0.5), case.layer());
        let twin = case.twin(&x);
        let y = layer.forward(x.view()).unwrap();
        assert!(distance(y, twin.iter().copied()) <= 1e-14 * largest(twin).max(1.0), "{case:?}");
        let x = x.mapv(|x| x as f32);
        let twin = case.twin(&x.mapv(f64::from));
        let y = layer.forward(x.view()).unwrap().mapv(f64::from);
        assert!(
            distance(y, twin.iter().copied()) <= 1e-7 * largest(twin).max(1.0),
            "in f32: {case:?}"
        );
    });
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    check(200, cases(60), |case| {
        let mut numbers = Numbers::new(case.seed);
        let (x, w) = (numbers.tensor(&case.shape, 0.0), numbers.tensor(&case.shape, 0.0));
        let layer = case.layer();
        let dx = layer.backward(x.view(), w.view()).unwrap();
        let slopes = differences(&x.into_raw_vec_and_offset().0, |x| {
            let x = ArrayD::from_shape_vec(IxDyn(&case.shape), x.to_vec()).unwrap();
            (layer.forward(x.view()).unwrap() * &w).sum()
        });
        assert!(distance(slopes, dx.iter().copied()) <= 1e-7 * largest(dx).max(1e-2), "{case:?}");
    });
}

/// The same bits from any memory layout, and results in that layout, with enough values for several
/// threads.
#[test]
fn layouts() {
    let x = Numbers::new(5).tensor32(&[3, 40, 9, 70], 0.0);
    let layer = LocalResponseNormConfig::new(5).alpha(1.0).init().unwrap();
    let (y, dx) = (layer.forward(x.view()).unwrap(), layer.backward(x.view(), x.view()).unwrap());
    assert!(y.is_standard_layout() && dx.is_standard_layout());
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| layer.forward(x.view())).unwrap(), y);

    let last = x.view().permuted_axes(&[0, 2, 3, 1][..]).as_standard_layout().into_owned();
    let mut reversed = x.clone();
    reversed.invert_axis(Axis(1));
    let stored_reversed = reversed.as_standard_layout().into_owned();
    let mut reversed = stored_reversed.view();
    reversed.invert_axis(Axis(1));
    for same in [last.view().permuted_axes(&[0, 3, 1, 2][..]), reversed] {
        let found = layer.forward(same.view()).unwrap();
        assert_eq!((&found, found.strides()), (&y, same.strides()));
        assert_eq!(layer.backward(same.view(), x.view()).unwrap(), dx);
    }
}

/// A value that leaves a window leaves no rounding error.
#[test]
fn no_digits_are_lost_behind_a_large_channel() {
    let mut x = Array1::from_elem(40, 1e-3).insert_axis(Axis(0));
    x[[0, 3]] = 1e9;
    let y = LocalResponseNormConfig::new(3)
        .alpha(3.0)
        .beta(1.0)
        .init()
        .unwrap()
        .forward(x.view())
        .unwrap();
    for c in 5..39 {
        let expected = 1e-3_f64 / (1.0 + 3e-6);
        assert!((y[[0, c]] - expected).abs() <= 1e-15 * expected, "{c}: {}", y[[0, c]]);
    }
}

/// Numbers of PyTorch 2.15 (f64), TensorFlow 2.21 and MXNet 1.9.1 (f32) on the same five channels.
#[test]
fn the_frameworks_numbers() {
    let x = array![[1.0, -2.0, 3.0, 0.5, 4.0]];
    let w = array![[1.0, -1.0, 2.0, 0.5, -0.25]];
    let of_pytorch = [
        (
            2,
            [
                0.5029733718731741,
                -0.4912979796268831,
                0.40373393350973336,
                0.08421969341938992,
                0.4625527031240252,
            ],
            [
                0.08781289191229669,
                0.14816624117487695,
                0.0009351020091664664,
                0.086167917240741,
                0.010179416882130844,
            ],
        ),
        (
            4,
            [
                0.35355339059327373,
                -0.4017591729821516,
                0.5960763992207706,
                0.062136274659961986,
                0.5489953284790225,
            ],
            [
                0.14814733033044503,
                0.2128225933210915,
                -0.002432575537968218,
                0.013224803775375292,
                -0.010942132170444164,
            ],
        ),
        (
            5,
            [
                0.22990914081663297,
                -0.4550201437848444,
                0.42361084826655343,
                0.07220039207083041,
                0.636379966477794,
            ],
            [
                0.13518442623554203,
                -0.034778806727020745,
                0.017997488301583542,
                0.03784657216354158,
                -0.16293092590155792,
            ],
        ),
    ];
    for (size, y, dx) in of_pytorch {
        let layer = LocalResponseNormConfig::new(size).alpha(2.0).bias(1.5).init().unwrap();
        assert!(distance(layer.forward(x.view()).unwrap(), y) < 1e-15, "size {size}");
        assert!(distance(layer.backward(x.view(), w.view()).unwrap(), dx) < 1e-15, "size {size}");
        // from the last channel to the first, the window lies on the other side
        let mirrored = LocalResponseNormConfig::new(size)
            .alpha(2.0)
            .bias(1.5)
            .window(Window::Right)
            .init()
            .unwrap();
        let back = mirrored.forward(x.slice(s![.., ..;-1])).unwrap();
        assert!(distance(back.slice_move(s![.., ..;-1]), y) < 1e-15, "size {size}, mirrored");
    }

    let tensorflow = |radius: usize, alpha: f64, beta: f64, bias: f64| {
        let size = 2 * radius + 1;
        let config =
            LocalResponseNormConfig::new(size).alpha(alpha * size as f64).beta(beta).bias(bias);
        config.channel_axis(-1).init().unwrap().forward(x.view()).unwrap()
    };
    let given = [
        0.3535533845424652,
        -0.40175917744636536,
        0.6233813166618347,
        0.06862441450357437,
        0.7319973111152649,
    ];
    assert!(distance(tensorflow(1, 0.5, 0.75, 1.5), given) < 1e-7);
    let default = [
        0.17888544499874115,
        -0.3577708899974823,
        0.5366563200950623,
        0.08944272249937057,
        0.7155417799949646,
    ];
    assert!(distance(tensorflow(5, 1.0, 0.5, 1.0), default) < 1e-7);

    let mxnet = LocalResponseNormConfig::new(3)
        .alpha(2.0)
        .bias(2.0)
        .init()
        .unwrap()
        .forward(x.view())
        .unwrap();
    let given = [
        0.28493839502334595,
        -0.32378876209259033,
        0.5024000406265259,
        0.05530630052089691,
        0.5899366736412048,
    ];
    assert!(distance(mxnet, given) < 1e-7);
}

#[test]
fn windows_longer_than_the_channels() {
    let x = Numbers::new(2).tensor(&[2, 5, 3], 0.0);
    let layer =
        |size: usize| LocalResponseNormConfig::new(size).alpha(0.1 * size as f64).init().unwrap();
    let all = layer(10).forward(x.view()).unwrap();
    assert!(distance(layer(usize::MAX).forward(x.view()).unwrap(), all.iter().copied()) < 1e-15);
}

#[test]
fn errors() {
    let config = LocalResponseNormConfig::new(5);
    let message = |result: Result<LocalResponseNorm, Error>| result.unwrap_err().to_string();
    assert_eq!(message(LocalResponseNormConfig::new(0).init()), "size is 0; it must be at least 1");
    assert_eq!(
        message(config.clone().alpha(-1.0).init()),
        "alpha is -1; it must be finite and not negative, such as 1e-4"
    );
    let beta = "it must be not negative, such as 0.75, and bias^-beta finite";
    assert_eq!(message(config.clone().beta(f64::NAN).init()), format!("beta is NaN; {beta}"));
    assert_eq!(
        message(config.clone().bias(1e-30).beta(20.0).init()),
        format!("beta is 20; {beta}")
    );
    assert_eq!(
        message(config.clone().bias(0.0).init()),
        "bias is 0; it must be finite and at least 1e-36, such as 1"
    );

    let layer = config.init().unwrap();
    let message = |x: ArrayD<f64>| layer.forward(x.view()).unwrap_err().to_string();
    assert_eq!(
        message(ArrayD::zeros(&[3][..])),
        "the tensor of shape [3] has 1 axis; local response normalization needs at least 2"
    );
    assert!(message(ArrayD::zeros(&[3, 0][..])).starts_with("a statistic over no values"));
    let position = "holds NaN, infinity or numbers too large to sum, first seen in the \
                    statistic with index 3 (of 4); look at what made it";
    for bad in [f64::NAN, f64::NEG_INFINITY, 1e200] {
        let mut x = ArrayD::zeros(&[2, 7, 2][..]);
        x[[1, 6, 1]] = bad;
        assert_eq!(message(x.clone()), format!("x {position}"));
        let one = ArrayD::ones(&[2, 7, 2][..]);
        assert_eq!(
            layer.backward(x.view(), one.view()).unwrap_err().to_string(),
            format!("x {position}")
        );
        if !bad.is_finite() {
            assert_eq!(
                layer.backward(one.view(), x.view()).unwrap_err().to_string(),
                format!("dy {position}")
            );
        }
    }
    let (x, dy) = (ArrayD::<f32>::ones(&[2, 3][..]), ArrayD::ones(&[3, 2][..]));
    let shape = "dy has the shape [3, 2], but x has [2, 3]; they must be equal";
    assert_eq!(layer.backward(x.view(), dy.view()).unwrap_err().to_string(), shape);
    let far = LocalResponseNormConfig::new(5).channel_axis(2).init().unwrap();
    let axis = "axis 2 does not exist in a tensor of 2 axes; possible: -2 to 1";
    assert_eq!(far.forward(x.view()).unwrap_err().to_string(), axis);
}

#[test]
fn lines_without_values_are_left_alone() {
    let layer = LocalResponseNormConfig::new(5).init().unwrap();
    for cells in [
        Cells::channels_first(4, 1, 0),
        Cells::channels_last(4, 2, 0),
        Cells::channels_first(0, 1, 3),
    ] {
        assert_eq!(layer.forward_lines::<f32>(&[], &mut [], &cells), Ok(()));
        assert_eq!(layer.backward_lines::<f32>(&[], &mut [], &cells), Ok(()));
    }
}
