//! An activation after a normalization, y = act(z) with z = γ x̂ + β, in the pass that writes y.
//!
//! | activation | act(z) | act′(z) |
//! |---|---|---|
//! | ReLU | max(z, 0) | 1 for z > 0, else 0 |
//! | leaky ReLU | z for z > 0, else s z | 1 for z > 0, else s |
//! | SiLU | z σ(z), σ(z) = 1 / (1 + e⁻ᶻ) | σ(z) (1 + z (1 − σ(z))) |
//! | GELU | z Φ(z), Φ the normal distribution | Φ(z) + z e^(−z²/2) / √(2π) |
//!
//! The backward pass has x and the coefficients of the forward pass, computes z again and needs
//! neither y nor z in memory.
//!
//! Φ(z) = ½ erfc(−z / √2), and for w ≥ 0, with t = 2 / (2 + w), erfc(w) = t e^(−w² + p(4 t − 2)),
//! where p is a sum of Chebyshev polynomials: their coefficients are those of ln(erfc(w) e^(w²) /
//! t), computed with 40 digits.

use super::dispatch::{Kernel, dispatch};
use super::lanes::{LANES, Lanes};
use super::vectors::Vectors;
use crate::kernels::Real;

/// The function of γ x̂ + β.
///
/// ```
/// use cellnorm::kernels::Buffers;
/// use cellnorm::rule::ClosedForm;
/// use cellnorm::{
///     Activation,
///     kernels::Parameters,
///     shape::{Axis, Plan},
/// };
/// let plan = Plan::new(&Axis::row_major(&[1, 3], |axis| (axis == 1, false))).unwrap();
/// let (x, mut y) = ([-1.0_f32, 0.0, 1.0], Vec::new());
/// let parameters = Parameters { activation: Activation::Relu, ..Parameters::default() };
/// let relu = ClosedForm { epsilon: 1e-5, parameters, ..ClosedForm::default() };
/// plan.forward(Buffers::Into(&x, &mut y), relu);
/// assert_eq!(y[..2], [0.0, 0.0]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// Nothing: y = z.
    #[default]
    Identity,
    /// max(z, 0), with slope 0 at 0.
    Relu,
    /// z for positive z and this slope times z for others. PyTorch's default slope is 0.01, Keras'
    /// 0.3.
    LeakyRelu(f64),
    /// z σ(z), also known as swish.
    Silu,
    /// z Φ(z): the exact one, not the approximation by tanh.
    Gelu,
}

/// γ and β, absent where not used, each with a value for each of the plan's channels; and the
/// activation that follows them.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a, P = f64> {
    /// The factor; absent means 1.
    pub gamma: Option<&'a [P]>,
    /// The offset; absent means 0.
    pub beta: Option<&'a [P]>,
    /// y = act(γ x̂ + β); nothing unless said otherwise.
    pub activation: Activation,
}

impl<P> Default for Parameters<'_, P> {
    fn default() -> Self {
        Self { gamma: None, beta: None, activation: Activation::default() }
    }
}

use Activation::{Gelu, Identity, LeakyRelu, Relu, Silu};

/// Epilogue fused into a pass, chosen at compile time: an activation, or none. A loop that may call
/// an activation has no registers left for its sums.
pub(super) trait Epilogue: Copy {
    const NONE: bool;
    /// act(z).
    fn apply<A: Real, S: Vectors>(self, z: Lanes<A, S>) -> Lanes<A, S>;
    /// act′(z).
    fn slope<A: Real, S: Vectors>(self, z: Lanes<A, S>) -> Lanes<A, S>;
}

impl Epilogue for Activation {
    const NONE: bool = false;

    #[inline(always)]
    fn apply<A: Real, S: Vectors>(self, z: Lanes<A, S>) -> Lanes<A, S> {
        Lanes::from_array(dispatch(Value(self, z.to_array())))
    }

    #[inline(always)]
    fn slope<A: Real, S: Vectors>(self, z: Lanes<A, S>) -> Lanes<A, S> {
        Lanes::from_array(dispatch(Slope(self, z.to_array())))
    }
}

/// The identity, known to the compiler.
#[derive(Clone, Copy)]
pub(super) struct NoEpilogue;

impl Epilogue for NoEpilogue {
    const NONE: bool = true;

    #[inline(always)]
    fn apply<A: Real, S: Vectors>(self, z: Lanes<A, S>) -> Lanes<A, S> {
        z
    }

    #[inline(always)]
    fn slope<A: Real, S: Vectors>(self, _: Lanes<A, S>) -> Lanes<A, S> {
        Lanes::splat(A::from_f64(1.0))
    }
}

/// act(z) as a kernel of its own for each instruction set: within every loop that may call it, it
/// would be compiled many times.
struct Value<A>(Activation, [A; LANES]);

impl<A: Real> Kernel for Value<A> {
    type Output = [A; LANES];

    #[inline(always)]
    fn run<S: Vectors>(self) -> [A; LANES] {
        let Self(activation, z) = self;
        let zero = A::default();
        match activation {
            Identity => z,
            Relu => each(
                z,
                #[inline(always)]
                |z| if z < zero { zero } else { z },
            ),
            LeakyRelu(slope) => {
                let slope = A::from_f64(slope);
                each(
                    z,
                    #[inline(always)]
                    |z| if z > zero { z } else { slope * z },
                )
            }
            Silu => each(
                z,
                #[inline(always)]
                |z| z * sigma(z),
            ),
            Gelu => each(
                z,
                #[inline(always)]
                |z| z * normal(z),
            ),
        }
    }
}

/// act′(z), likewise.
struct Slope<A>(Activation, [A; LANES]);

impl<A: Real> Kernel for Slope<A> {
    type Output = [A; LANES];

    #[inline(always)]
    fn run<S: Vectors>(self) -> [A; LANES] {
        let Self(activation, z) = self;
        let (zero, one) = (A::default(), A::from_f64(1.0));
        match activation {
            Identity => [one; LANES],
            Relu => each(
                z,
                #[inline(always)]
                |z| if z > zero { one } else { zero },
            ),
            LeakyRelu(slope) => {
                let slope = A::from_f64(slope);
                each(
                    z,
                    #[inline(always)]
                    |z| if z > zero { one } else { slope },
                )
            }
            Silu => each(
                z,
                #[inline(always)]
                |z| sigma(z) * (one + z * (one - sigma(z))),
            ),
            Gelu => each(
                z,
                #[inline(always)]
                |z| normal(z) + z * density(z),
            ),
        }
    }
}

/// f of each number; `f` must be `#[inline(always)]`.
#[inline(always)]
fn each<A: Real>(mut z: [A; LANES], f: impl Fn(A) -> A) -> [A; LANES] {
    for z in &mut z {
        *z = f(*z);
    }
    z
}

/// σ(z).
#[inline(always)]
fn sigma<A: Real>(z: A) -> A {
    let one = A::from_f64(1.0);
    one / (one + (A::default() - z).exp())
}

/// e^(−z²/2) / √(2π).
#[inline(always)]
fn density<A: Real>(z: A) -> A {
    const ROOT: f64 = 0.398_942_280_401_432_7; // 1 / √(2π)
    A::from_f64(ROOT) * (A::default() - z * z * A::from_f64(0.5)).exp()
}

/// The coefficients of p, the first halved.
const CHEBYSHEV: [f64; 28] = [
    -0.651_326_859_890_854_7,
    0.641_969_792_356_490_3,
    0.019_476_473_204_185_836,
    -0.009_561_514_786_808_632,
    -0.000_946_595_344_482_037,
    0.000_366_839_497_852_761_45,
    4.252_332_480_690_777e-5,
    -2.027_857_811_253_424_3e-5,
    -1.624_290_004_647_025_5e-6,
    1.303_655_835_580_523_2e-6,
    1.562_644_172_206_614_3e-8,
    -8.523_809_591_492_654e-8,
    6.529_054_439_098_852e-9,
    5.059_343_495_551_469e-9,
    -9.913_641_564_930_33e-10,
    -2.273_651_222_931_836e-10,
    9.646_791_102_015_527e-11,
    2.394_038_083_039_114_7e-12,
    -6.886_027_526_497_553e-12,
    8.944_879_273_090_726e-13,
    3.130_921_399_342_958e-13,
    -1.127_082_236_136_725_2e-13,
    3.810_905_255_189_232e-16,
    7.106_097_613_609_237e-15,
    -1.523_028_201_457_104_3e-15,
    -9.457_494_571_291_234e-17,
    1.210_237_189_224_279e-16,
    -2.816_663_087_747_177e-17,
];

/// Φ(z).
#[inline(always)]
fn normal<A: Real>(z: A) -> A {
    const ROOT_HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
    let (zero, one, two, half) =
        (A::default(), A::from_f64(1.0), A::from_f64(2.0), A::from_f64(0.5));
    let w = z * A::from_f64(ROOT_HALF);
    let w = if w < zero { zero - w } else { w };
    let t = two / (two + w);
    let s = two * t - one;
    // Clenshaw's recurrence; f32 does not see terms below 1e-8
    let terms = if size_of::<A>() == size_of::<f64>() { CHEBYSHEV.len() } else { 12 };
    let (mut above, mut sum) = (zero, zero);
    let mut k = terms - 1;
    while k > 0 {
        let next = two * s * sum - above + A::from_f64(CHEBYSHEV[k]);
        (above, sum) = (sum, next);
        k -= 1;
    }
    let p = s * sum - above + A::from_f64(CHEBYSHEV[0]);
    let tail = half * t * (p - w * w).exp();
    if z > zero { one - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::vectors::Portable;

    /// erf by its Taylor series, and erfc by its continued fraction where that is better.
    fn normal_naive(z: f64) -> f64 {
        let w = z.abs() / 2.0_f64.sqrt();
        let upper = if w < 1.5 {
            let (mut term, mut sum) = (w, w);
            for n in 1..60 {
                term *= -w * w / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            0.5 - sum / std::f64::consts::PI.sqrt()
        } else {
            let fraction = (1..400).rev().fold(w, |below, k| w + f64::from(k) / 2.0 / below);
            0.5 * (-w * w).exp() / std::f64::consts::PI.sqrt() / fraction
        };
        if z > 0.0 { 1.0 - upper } else { upper }
    }

    #[test]
    fn the_normal_distribution_and_slopes() {
        fn of<A: Real>(activation: Activation, z: A) -> [A; LANES] {
            activation.apply(Lanes::<A, Portable>::splat(z)).to_array()
        }
        let all = [Relu, LeakyRelu(0.2), Silu, Gelu];
        for i in -4000..=4000 {
            let z = f64::from(i) * 2e-3 + 1e-4;
            let expected = normal_naive(z);
            assert!((normal(z) - expected).abs() < 2e-15, "Φ({z}): {} {expected}", normal(z));
            let near = f64::from(normal(z as f32));
            assert!((near - normal_naive(f64::from(z as f32))).abs() < 2e-7, "Φ({z}): {near}");
            for activation in all {
                let act = |z: f64| of(activation, z)[7];
                let h = 1e-5;
                let slope = (act(z + h) - act(z - h)) / (2.0 * h);
                let ours = activation.slope(Lanes::<f64, Portable>::splat(z)).to_array()[3];
                assert!((slope - ours).abs() < 1e-9, "{activation:?}′({z}): {ours} {slope}");
                let narrow = f64::from(of(activation, z as f32)[0]);
                assert!((narrow - act(z)).abs() < 2e-6, "{activation:?}({z}): {narrow}");
            }
        }
        for activation in all {
            assert!(of(activation, f32::NAN)[0].is_nan(), "{activation:?} hides NaN");
            assert_eq!(of(activation, 1e30_f32)[0], 1e30, "{activation:?}");
        }
    }
}
