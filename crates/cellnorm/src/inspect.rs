//! The health of a normalization: dead channels, exploding channels, and impossible numbers.

/// A channel is dead where |γ| or its deviation is at most this share of the largest.
pub const DEAD: f64 = 1e-4;

/// A channel explodes where it multiplies its input by more than this: |γ|/√(variance + ε).
pub const EXPLODING: f64 = 1e3;

/// A normalization's numbers, one for each channel; absent where it has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    /// γ.
    pub gamma: Option<Vec<f64>>,
    /// β.
    pub beta: Option<Vec<f64>>,
    /// The fixed mean.
    pub mean: Option<Vec<f64>>,
    /// The fixed variance.
    pub variance: Option<Vec<f64>>,
    /// ε, added to the variance.
    pub epsilon: f64,
}

/// The least and the largest of finite numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The least.
    pub least: f64,
    /// The largest.
    pub largest: f64,
}

/// The health of a normalization; channels are given by their places.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// The number of channels.
    pub channels: usize,
    /// The range of γ.
    pub gamma: Option<Range>,
    /// The range of β.
    pub beta: Option<Range>,
    /// The range of the mean.
    pub mean: Option<Range>,
    /// The range of the variance.
    pub variance: Option<Range>,
    /// The largest |γ|/√(variance + ε) that is finite; of γ alone without fixed statistics.
    pub gain: Option<f64>,
    /// Channels whose γ is next to 0: their output is β for every input.
    pub dead_gamma: Vec<usize>,
    /// Channels whose variance is next to 0: they never changed in training.
    pub dead_variance: Vec<usize>,
    /// Channels that multiply by more than [`EXPLODING`].
    pub exploding: Vec<usize>,
    /// Channels with a negative variance.
    pub negative_variance: Vec<usize>,
    /// Channels with a NaN or an infinity among their numbers.
    pub not_finite: Vec<usize>,
}

impl Health {
    /// The health of these numbers. Where lengths differ, only the channels that all have count.
    ///
    /// ```
    /// use cellnorm::inspect::{Health, Numbers};
    /// let numbers = Numbers {
    ///     gamma: Some(vec![1.0, 1e-9, 2.0, 1.0]),
    ///     variance: Some(vec![1.0, 4.0, 1e-12, -1.0]),
    ///     epsilon: 1e-7,
    ///     ..Numbers::default()
    /// };
    /// let health = Health::of(&numbers);
    /// assert_eq!((health.dead_gamma, health.dead_variance), (vec![1], vec![2]));
    /// assert_eq!((health.exploding, health.negative_variance), (vec![2], vec![3])); // 2/√1e-7 = 6325
    /// ```
    pub fn of(numbers: &Numbers) -> Self {
        let Numbers { gamma, beta, mean, variance, epsilon } = numbers;
        let all = [gamma, beta, mean, variance];
        let channels = all.into_iter().flatten().map(Vec::len).max().unwrap_or(0);
        let places = |is: &dyn Fn(usize) -> bool| (0..channels).filter(|i| is(*i)).collect();
        let at = |values: &Option<Vec<f64>>, channel: usize| {
            values.as_ref().and_then(|of| of.get(channel)).copied()
        };
        let largest = |values: &Option<Vec<f64>>| {
            let finite =
                values.iter().flatten().map(|value| value.abs()).filter(|value| value.is_finite());
            finite.fold(0.0, f64::max)
        };
        let (largest_gamma, largest_variance) = (largest(gamma), largest(variance));
        let dead = DEAD * DEAD * largest_variance;
        let gain = |channel: usize| -> Option<f64> {
            let scale = at(gamma, channel).or(variance.as_ref().map(|_| 1.0))?.abs();
            match variance {
                None => Some(scale),
                Some(_) => {
                    at(variance, channel).map(|variance| scale / (variance + epsilon).sqrt())
                }
            }
        };
        Self {
            channels,
            gamma: range(gamma),
            beta: range(beta),
            mean: range(mean),
            variance: range(variance),
            gain: (0..channels).filter_map(gain).filter(|gain| gain.is_finite()).reduce(f64::max),
            dead_gamma: places(&|i| {
                at(gamma, i).is_some_and(|gamma| gamma.abs() <= DEAD * largest_gamma)
            }),
            dead_variance: places(&|i| at(variance, i).is_some_and(|v| (0.0..=dead).contains(&v))),
            exploding: places(&|i| gain(i).is_some_and(|gain| gain > EXPLODING)),
            negative_variance: places(&|i| at(variance, i).is_some_and(|v| v < 0.0)),
            not_finite: places(&|i| {
                all.iter().any(|values| at(values, i).is_some_and(|value| !value.is_finite()))
            }),
        }
    }

    /// Channels that are dead for either reason.
    pub fn dead(&self) -> usize {
        let others = self.dead_variance.iter().filter(|place| !self.dead_gamma.contains(place));
        self.dead_gamma.len() + others.count()
    }
}

fn range(values: &Option<Vec<f64>>) -> Option<Range> {
    let finite = values.iter().flatten().filter(|value| value.is_finite());
    finite.fold(None, |range, value| match range {
        None => Some(Range { least: *value, largest: *value }),
        Some(Range { least, largest }) => {
            Some(Range { least: least.min(*value), largest: largest.max(*value) })
        }
    })
}
