//! Any bytes as a layer, a tensor of any shape, strides and element type, and values of some class:
//! what comes out agrees with the naive twin, or is the error that the input deserves. The fuzz
//! target in `fuzz/` runs the same on bytes that it evolves.

use cellnorm::{Element, Error};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};

use crate::common::{AnyLayer, Numbers, Parameters, Spec, Twin, Which, largest, place};
use crate::elements::{element, wide, with_element};

/// Decisions from bytes; 0 when they are used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn below(&mut self, end: usize) -> usize {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte as usize % end
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    Normal,
    /// Around a mean far beyond the standard deviation.
    Far,
    Constant,
    /// With squares that vanish beside ε, but do not underflow.
    Tiny,
    /// With squares beyond the computing type, except in f16.
    Huge,
    /// Normal, with one NaN or infinity in x or in dy.
    Spoilt,
    Subnormal,
    /// The largest number and its negative; in f64, whose cubes must not overflow in the tables,
    /// 1e100.
    Largest,
}

const CLASSES: [Class; 8] = [
    Class::Normal,
    Class::Far,
    Class::Constant,
    Class::Tiny,
    Class::Huge,
    Class::Spoilt,
    Class::Subnormal,
    Class::Largest,
];

/// The values of a class in an element type, and the tolerance of results.
struct Limits {
    far: f64,
    tiny: f64,
    huge: f64,
    subnormal: f64,
    /// The largest value.
    most: f64,
    /// Relative errors: of computing, against the largest result; and of rounding the result
    /// itself.
    computing: f64,
    rounding: f64,
    /// Half of the least value.
    least: f64,
}

fn limits<T: Element>() -> Limits {
    let two = |exponent| 2_f64.powi(exponent);
    let limits = |[far, tiny, huge, subnormal]: [f64; 4], most, computing, rounding, least| {
        Limits { far, tiny, huge, subnormal, most, computing, rounding, least }
    };
    match std::any::type_name::<T>().rsplit("::").next().unwrap() {
        "f32" => limits([1e4, 1e-15, 1e30, 1e-40], f32::MAX.into(), 4e-6, 0.0, two(-149)),
        "f64" => limits([1e5, 1e-100, 1e100, 1e-310], f64::MAX, 1e-9, 0.0, 0.0),
        "f16" => limits([500.0, 1e-4, 1e4, 1e-6], 65504.0, 4e-6, two(-11), two(-25)),
        "bf16" => {
            limits([100.0, 1e-15, 1e30, 1e-39], half::bf16::MAX.into(), 4e-6, two(-8), two(-134))
        }
        other => panic!("no limits for {other}"),
    }
}

/// A layer and its shape, of which some cannot be normalized.
fn spec(bytes: &mut Bytes<'_>) -> Spec {
    let rank = 1 + bytes.below(5);
    let mut shape: Vec<usize> = (0..rank)
        .map(|_| match bytes.below(32) {
            31 => 0,
            30 => 17 + bytes.below(256),
            29 => 16,
            len => 1 + len % 9,
        })
        .collect();
    while shape.iter().product::<usize>() > 4096 {
        *shape.iter_mut().max().unwrap() /= 2;
    }
    let channels_last = bytes.flag();
    let some_axes = |bytes: &mut Bytes<'_>| {
        let mask = 1 + bytes.below((1 << rank) - 1);
        (0..rank)
            .filter(|axis| mask >> axis & 1 == 1)
            .map(|axis| axis as isize)
            .collect::<Vec<isize>>()
    };
    // without a channel axis, only the layers that name axes
    let kind = if rank == 1 { 6 + bytes.below(4) } else { bytes.below(10) };
    let which = match kind {
        0 => Which::Batch { fixed: false },
        1 => Which::Batch { fixed: true },
        2 => Which::LayerPerChannel,
        3 => Which::Instance,
        4 => {
            let channels = shape[if channels_last { rank - 1 } else { 1 }];
            let divisors: Vec<usize> =
                (1..=channels.max(1)).filter(|groups| channels.is_multiple_of(*groups)).collect();
            Which::Group(divisors[bytes.below(divisors.len())])
        }
        5 => Which::RmsPerChannel,
        6 => Which::LayerLast(1 + bytes.below(rank)),
        7 => Which::LayerOver(some_axes(bytes)),
        8 => Which::RmsLast(1 + bytes.below(rank)),
        _ => Which::RmsOver(some_axes(bytes)),
    };
    let (scale, center) = (bytes.flag(), bytes.flag());
    Spec {
        which,
        shape,
        channels_last,
        scale,
        center,
        epsilon: [1e-5, 1e-3, 1e-12][bytes.below(3)],
    }
}

/// An array of NaN in which a view of the shape lies permuted, reversed and with steps, and the
/// axes of that view.
struct Laid<T> {
    memory: ArrayD<T>,
    slices: Vec<Slice>,
    order: Vec<usize>,
}

impl<T: Element> Laid<T> {
    fn new(values: &ArrayD<T>, bytes: &mut Bytes<'_>) -> Self {
        let rank = values.ndim();
        let plain = bytes.flag();
        let mut order: Vec<usize> = (0..rank).collect();
        let mut slices = vec![Slice::from(..); rank];
        if !plain {
            (1..rank).rev().for_each(|i| order.swap(i, bytes.below(i + 1)));
            for slice in &mut slices {
                slice.step = [1, -1, 1, -1, 2, -2, 3, 1][bytes.below(8)];
            }
        }
        // axis `order[i]` of the view is axis i of the memory
        let length = |i: usize| match (values.len_of(Axis(order[i])), slices[i].step.unsigned_abs())
        {
            (0, _) => 0,
            (len, step) => (len - 1) * step + 1,
        };
        let memory = ArrayD::from_elem(
            IxDyn(&(0..rank).map(length).collect::<Vec<_>>()),
            element::<T>(f64::NAN),
        );
        let mut laid = Self { memory, slices, order };
        let inverse = laid.inverse();
        let mut view = laid.memory.view_mut();
        laid.slices
            .iter()
            .enumerate()
            .for_each(|(axis, slice)| view.slice_axis_inplace(Axis(axis), *slice));
        view.permuted_axes(inverse).assign(values);
        laid
    }

    fn inverse(&self) -> Vec<usize> {
        let mut inverse = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(i, axis)| inverse[*axis] = i);
        inverse
    }

    fn view(&self) -> ArrayViewD<'_, T> {
        let mut view = self.memory.view();
        self.slices
            .iter()
            .enumerate()
            .for_each(|(axis, slice)| view.slice_axis_inplace(Axis(axis), *slice));
        view.permuted_axes(self.inverse())
    }
}

/// The values of a class, and running statistics' mean.
fn values<T: Element>(class: Class, shape: &[usize], numbers: &mut Numbers) -> ArrayD<T> {
    let Limits { far, tiny, huge, subnormal, most, .. } = limits::<T>();
    let (mean, size) = match class {
        Class::Normal | Class::Spoilt => (0.5, 1.0),
        Class::Far => (far, 1.0),
        Class::Constant => (3.0 * numbers.normal(), 0.0),
        Class::Tiny => (0.0, tiny),
        Class::Huge => (0.0, huge),
        Class::Subnormal => (0.0, subnormal),
        Class::Largest => {
            let most = most.min(1e100);
            return ArrayD::from_shape_simple_fn(IxDyn(shape), || {
                element(if numbers.below(4) == 0 { -most } else { most })
            });
        }
    };
    ArrayD::from_shape_simple_fn(IxDyn(shape), || element(mean + size * numbers.normal()))
}

/// Fails where ours is not as near to the twin's as rounding allows.
fn agree<T: Element>(name: &str, ours: &ArrayD<T>, twin: &[f64], size: f64, context: &str) {
    let limits = limits::<T>();
    for (ours, twin) in ours.iter().map(wide).zip(twin) {
        // the twin's value may be beyond the largest of the type; then infinity is right
        let overflows =
            twin.abs() * (1.0 + 2.0 * (limits.computing + limits.rounding)) > limits.most;
        if ours.is_infinite() && overflows && ours.signum() == twin.signum() {
            continue;
        }
        let bar = limits.computing * size + limits.rounding * twin.abs() + limits.least;
        assert!(
            (ours - twin).abs() <= bar,
            "{name}: {ours:e}, the twin {twin:e}, bar {bar:e}: {context}"
        );
    }
}

fn run<T: Element>(spec: &Spec, class: Class, seed: u64, bytes: &mut Bytes<'_>) {
    let mut numbers = Numbers::new(seed);
    let context = format!("{} {class:?} seed {seed} {spec:?}", std::any::type_name::<T>());
    let parameters = Parameters::random(
        spec,
        &mut numbers,
        if class == Class::Far { limits::<T>().far } else { 0.0 },
    );
    let mut x = values::<T>(class, &spec.shape, &mut numbers);
    let mut dy = values::<T>(Class::Normal, &spec.shape, &mut numbers);
    let empty = x.is_empty();
    let without_values = empty && !spec.fixed() && spec.sets() > 0;
    let (mut bad_x, mut bad_dy) = (false, false);
    if class == Class::Spoilt && !empty {
        (bad_x, bad_dy) = if bytes.flag() { (true, false) } else { (false, true) };
        let at = numbers.below(x.len());
        let bad = element([f64::NAN, f64::INFINITY, f64::NEG_INFINITY][bytes.below(3)]);
        *(if bad_x { &mut x } else { &mut dy }).iter_mut().nth(at).unwrap() = bad;
    }
    let (laid_x, laid_dy) = (Laid::new(&x, bytes), Laid::new(&dy, bytes));
    let (x_view, dy_view) = (laid_x.view(), laid_dy.view());

    let mut layer = match AnyLayer::new(spec, &parameters) {
        Ok(layer) => layer,
        Err(error) => {
            assert!(empty, "{error}: {context}");
            return;
        }
    };
    let (y, saved) = match layer.forward(x_view.view()) {
        Ok(result) => result,
        Err(Error::Empty { .. }) => return assert!(without_values, "{context}"),
        Err(Error::Rank { least, .. }) => return assert!(spec.shape.len() < least, "{context}"),
        Err(Error::OneValue { .. }) => {
            return assert!(
                spec.values_per_set() == 1 && !spec.rms() && !spec.fixed(),
                "{context}"
            );
        }
        Err(Error::NotFinite { name, .. }) => {
            return assert!(bad_x && name == "x" && !spec.fixed(), "{context}");
        }
        Err(error) => panic!("{error}: {context}"),
    };
    assert!(!without_values, "{context}");
    if empty {
        let gradients = layer.backward(&saved, x_view, dy_view).expect("gradients of no samples");
        assert_eq!((y.shape(), gradients.dx.shape()), (x.shape(), x.shape()), "{context}");
        let sums = [gradients.dgamma, gradients.dbeta];
        return assert!(sums.iter().flatten().flatten().all(|sum| *sum == 0.0), "{context}");
    }
    if !matches!(spec.which, Which::Batch { .. }) {
        let inferred = layer.infer(x_view.view()).unwrap();
        assert!(inferred.iter().map(wide).eq(y.iter().map(wide)), "inference differs: {context}");
    }
    if bad_x {
        assert!(spec.fixed(), "{context}");
        let spread =
            y.iter().zip(&x).filter(|(y, x)| wide(*y).is_finite() != wide(*x).is_finite()).count();
        assert_eq!(spread, 0, "{context}");
    }

    let flat = |array: &ArrayD<T>| array.iter().map(wide).collect::<Vec<f64>>();
    let twin = Twin::new(spec, &parameters, &flat(&x), &flat(&dy));
    if !bad_x {
        agree("y", &y, &twin.y, largest(twin.y.iter().copied()).max(1.0), &context);
    }
    if class == Class::Constant && !spec.rms() && !spec.fixed() {
        assert!(saved.statistics.variance.iter().all(|variance| *variance == 0.0), "{context}");
        let beta = |at| if spec.center { parameters.beta[place(spec, at).1] } else { 0.0 };
        assert!(
            y.iter().enumerate().all(|(at, y)| wide(y) == wide(&element::<T>(beta(at)))),
            "not beta: {context}"
        );
    }

    let gradients = match layer.backward(&saved, x_view, dy_view) {
        Ok(gradients) => gradients,
        Err(Error::NotFinite { name, .. }) => {
            return assert!(bad_dy && name == "dy" || bad_x && name == "x", "{name}: {context}");
        }
        Err(error) => panic!("{error}: {context}"),
    };
    assert!(!bad_x && !bad_dy, "{context}");
    agree(
        "dx",
        &gradients.dx,
        &twin.dx,
        largest(twin.dx.iter().copied()).max(twin.dx_terms),
        &context,
    );
    let sums = [("dgamma", spec.scale, &gradients.dgamma, &twin.dgamma, &twin.dgamma_terms)];
    let sums = sums.into_iter().chain([(
        "dbeta",
        spec.center,
        &gradients.dbeta,
        &twin.dbeta,
        &twin.dbeta_terms,
    )]);
    for (name, present, ours, twin, terms) in sums {
        assert_eq!(ours.is_some(), present, "{context}");
        for ((ours, twin), terms) in ours.iter().flatten().zip(twin).zip(terms) {
            let bar = limits::<T>().computing * terms.max(1.0);
            assert!(
                (ours - twin).abs() <= bar,
                "{name}: {ours:e}, the twin {twin:e}, bar {bar:e}: {context}"
            );
        }
    }
}

/// Runs the layer that the bytes describe.
pub fn any_input(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let kind = bytes.below(4);
    let class = CLASSES[bytes.below(CLASSES.len())];
    let seed = (bytes.below(256) << 8 | bytes.below(256)) as u64;
    let spec = spec(&mut bytes);
    with_element!(kind, T => run::<T>(&spec, class, seed, &mut bytes));
}

#[test]
fn any_input_agrees_with_the_twin_or_is_refused() {
    let cases = if cfg!(miri) { 20 } else { 6000 };
    for case in 0..cases {
        let mut numbers = Numbers::new(case);
        let bytes: Vec<u8> = (0..64).map(|_| numbers.bits() as u8).collect();
        any_input(&bytes);
    }
}
