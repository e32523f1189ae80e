//! How γ and β start.

use ndarray::{ArrayD, IxDyn};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution, StandardNormal, StandardUniform};

use crate::error::{Error, check_number};
use crate::shape::check_size;

/// Starting values of a parameter.
///
/// Random ones come from xoshiro256++ seeded with `seed`, in row-major order: a seed gives the same
/// numbers on every machine (except the last bit of rare normal numbers far from the mean, which
/// need a logarithm), and γ and β with the same seed have the same draws.
///
/// ```
/// use cellnorm::BatchNormConfig;
/// use cellnorm::parameters::Initializer;
/// let layer = BatchNormConfig::new(3)
///     .gamma_initializer(Initializer::Normal { mean: 1.0, std: 0.02, seed: 7 })
///     .init()?;
/// assert!(layer.gamma.unwrap().iter().all(|gamma| (gamma - 1.0).abs() < 0.1));
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initializer {
    /// All 1, the default of γ.
    Ones,
    /// All 0, the default of β.
    Zeros,
    /// All the same number.
    Constant(f64),
    /// Uniform in \[low, high).
    Uniform {
        /// The least value.
        low: f64,
        /// The end of the values.
        high: f64,
        /// The seed of the draws.
        seed: u64,
    },
    /// Normal.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        std: f64,
        /// The seed of the draws.
        seed: u64,
    },
}

/// A γ whose root mean square is below this is warned of.
const NEAR_ZERO: f64 = 0.1;

impl Initializer {
    /// Starting values in this shape.
    ///
    /// # Errors
    /// If a number is not finite, `low` is above `high`, `std` is negative, or the shape has more
    /// elements than can be counted.
    pub fn init(&self, shape: &[usize]) -> Result<ArrayD<f64>, Error> {
        self.check()?;
        check_size(shape)?;
        let shape = IxDyn(shape);
        let draws = |seed, value: &dyn Fn(&mut Xoshiro256PlusPlus) -> f64| {
            let mut numbers = Xoshiro256PlusPlus::seed_from_u64(seed);
            ArrayD::from_shape_simple_fn(shape.clone(), || value(&mut numbers))
        };
        Ok(match *self {
            Self::Ones => ArrayD::ones(shape),
            Self::Zeros => ArrayD::zeros(shape),
            Self::Constant(value) => ArrayD::from_elem(shape, value),
            Self::Uniform { low, high, seed } => draws(seed, &|numbers| {
                let share: f64 = StandardUniform.sample(numbers);
                low + (high - low) * share
            }),
            Self::Normal { mean, std, seed } => draws(seed, &|numbers| {
                let deviation: f64 = StandardNormal.sample(numbers);
                mean + std * deviation
            }),
        })
    }

    /// A warning about a layer that starts with this γ: its root mean square is below 0.1, and
    /// by what factor the layer's output shrinks. Legal, but the layers after it see almost nothing
    /// of x at first, and hand back as little gradient.
    ///
    /// Keras' `"random_uniform"`, U(−0.05, 0.05), is the common case:
    ///
    /// ```
    /// use cellnorm::parameters::Initializer;
    /// let keras = Initializer::Uniform { low: -0.05, high: 0.05, seed: 0 };
    /// assert_eq!(
    ///     keras.warning().unwrap(),
    ///     "gamma starts near 0: the layer's output is 35 times smaller than with gamma = 1, at least 20 times in every \
    ///      channel, and half of the channels change sign; Initializer::Ones is the usual start"
    /// );
    /// assert_eq!(Initializer::Ones.warning(), None);
    /// ```
    pub fn warning(&self) -> Option<String> {
        let (mean, variance, largest) = match *self {
            Self::Ones => (1.0, 0.0, Some(1.0)),
            Self::Zeros => (0.0, 0.0, Some(0.0)),
            Self::Constant(value) => (value, 0.0, Some(value.abs())),
            Self::Uniform { low, high, .. } => {
                ((low + high) / 2.0, (high - low).powi(2) / 12.0, Some(low.abs().max(high.abs())))
            }
            Self::Normal { mean, std, .. } => (mean, std * std, None),
        };
        let size = f64::sqrt(mean * mean + variance);
        if size == 0.0 {
            return Some(
                "gamma starts at 0: the layer's output is beta whatever x is, and no gradient \
                 reaches x until gamma has moved; meant only at the end of a residual branch"
                    .into(),
            );
        }
        (size < NEAR_ZERO).then(|| {
            let times = |size: f64| format!("{:.0} times", 1.0 / size);
            let least = largest.filter(|largest| *largest > size);
            let least = least.map_or(String::new(), |largest| {
                format!(", at least {} in every channel", times(largest))
            });
            let sign = if mean == 0.0 { ", and half of the channels change sign" } else { "" };
            let shrinks = times(size);
            format!(
                "gamma starts near 0: the layer's output is {shrinks} smaller than with gamma = \
                 1{least}{sign}; Initializer::Ones is the usual start"
            )
        })
    }

    fn check(&self) -> Result<(), Error> {
        let finite = |name, value: f64| check_number(name, value, value.is_finite(), "finite");
        match *self {
            Self::Ones | Self::Zeros => Ok(()),
            Self::Constant(value) => finite("the initializer's constant", value),
            Self::Uniform { low, high, .. } => {
                finite("the initializer's low", low)?;
                finite("the initializer's high", high)?;
                check_number("the initializer's low", low, low <= high, "no more than high")?;
                let expected = "so near to low that high - low is finite";
                check_number("the initializer's high", high, (high - low).is_finite(), expected)
            }
            Self::Normal { mean, std, .. } => {
                finite("the initializer's mean", mean)?;
                let sound = (0.0..f64::INFINITY).contains(&std);
                check_number("the initializer's std", std, sound, "finite and at least 0")
            }
        }
    }
}
