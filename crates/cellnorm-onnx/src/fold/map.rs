//! A map of each channel on its way to a layer: which channels, on which axis, and how far it is
//! linear.

use std::sync::Arc;

use cellnorm::fold::Affine;

/// An axis, counted from the first or back from the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// 0 is the first.
    Front(usize),
    /// 0 is the last.
    Back(usize),
}

impl Axis {
    /// Counted from the first, in a tensor of so many axes; `None` if it is not known how many, or
    /// there are too few.
    pub fn front(self, rank: Option<usize>) -> Option<usize> {
        match (self, rank) {
            (Self::Front(axis), None) => Some(axis),
            (Self::Front(axis), Some(rank)) => (axis < rank).then_some(axis),
            (Self::Back(axis), Some(rank)) => rank.checked_sub(axis + 1),
            (Self::Back(_), None) => None,
        }
    }
}

/// The map of a node by its operator's own formula, which proofs compute beside [`Affine`].
#[derive(Clone, Debug)]
pub enum Formula {
    /// γ·(x − mean)/√(variance + ε) + β.
    Norm {
        /// γ.
        gamma: Vec<f64>,
        /// β.
        beta: Vec<f64>,
        /// The fixed mean.
        mean: Vec<f64>,
        /// The fixed variance.
        variance: Vec<f64>,
        /// ε.
        epsilon: f64,
    },
    /// x · v.
    Multiply(Vec<f64>),
    /// x + v.
    Add(Vec<f64>),
    /// x − v.
    Subtract(Vec<f64>),
    /// v − x.
    SubtractFrom(Vec<f64>),
    /// x / v.
    Divide(Vec<f64>),
    /// γ·x + β, which a layer or RMS normalization ends with.
    ScaleShift {
        /// γ.
        gamma: Vec<f64>,
        /// β.
        beta: Vec<f64>,
    },
    /// One map after the other.
    Chain(Vec<Map>),
    /// (x − mean)/deviation, of the data.
    Data {
        /// The mean.
        mean: Vec<f64>,
        /// The standard deviation.
        deviation: Vec<f64>,
    },
}

impl Formula {
    /// The result for a number in a channel.
    pub fn apply(&self, channel: usize, x: f64) -> f64 {
        match self {
            Self::Norm { gamma, beta, mean, variance, epsilon } => {
                gamma[channel] * (x - mean[channel]) / (variance[channel] + epsilon).sqrt()
                    + beta[channel]
            }
            Self::Multiply(v) => x * v[channel],
            Self::Add(v) => x + v[channel],
            Self::Subtract(v) => x - v[channel],
            Self::SubtractFrom(v) => v[channel] - x,
            Self::Divide(v) => x / v[channel],
            Self::ScaleShift { gamma, beta } => gamma[channel] * x + beta[channel],
            Self::Chain(maps) => maps.iter().fold(x, |x, map| map.apply(channel, x)),
            Self::Data { mean, deviation } => (x - mean[channel]) / deviation[channel],
        }
    }

    /// The same as a scale and a shift of each channel.
    ///
    /// # Errors
    /// If the numbers of channels differ, a variance is negative, or a result is not finite.
    pub fn affine(&self) -> Result<Affine, cellnorm::Error> {
        let scaled = |scale: Vec<f64>| {
            let zeros = vec![0.0; scale.len()];
            Affine::new(scale, zeros)
        };
        let shifted = |scale: f64, shift: Vec<f64>| Affine::new(vec![scale; shift.len()], shift);
        match self {
            Self::Norm { gamma, beta, mean, variance, epsilon } => {
                Affine::of_batch_norm(Some(gamma), Some(beta), mean, variance, *epsilon)
            }
            Self::Multiply(v) => scaled(v.clone()),
            Self::Add(v) => shifted(1.0, v.clone()),
            Self::Subtract(v) => shifted(1.0, v.iter().map(|v| -v).collect()),
            Self::SubtractFrom(v) => shifted(-1.0, v.clone()),
            Self::Divide(v) => scaled(v.iter().map(|v| 1.0 / v).collect()),
            Self::ScaleShift { gamma, beta } => Affine::new(gamma.clone(), beta.clone()),
            Self::Chain(maps) => match maps.as_slice() {
                [] => Affine::new(Vec::new(), Vec::new()),
                [first, rest @ ..] => {
                    rest.iter().try_fold(first.affine(), |all, map| all.then(&map.affine()))
                }
            },
            Self::Data { mean, deviation } => Affine::standardize(mean, deviation),
        }
    }
}

/// A node's map at some place of the graph.
#[derive(Clone, Debug)]
pub struct Map {
    /// The formula of the node.
    pub formula: Arc<Formula>,
    pub(super) affine: Arc<Affine>,
    /// The node's channel at each place of the axis.
    pub channels: Vec<usize>,
    /// The axis of the channels; `None` where all values are treated alike.
    pub axis: Option<Axis>,
    /// Whether the value may be shorter than the constant, which would make it longer: only a layer
    /// right before it tells.
    pub may_widen: bool,
    /// Whether the map has lost its shift: the shift of a sum goes to one of the addends alone.
    pub shift_is_dropped: bool,
}

impl Map {
    /// A node's map at the node itself.
    ///
    /// # Errors
    /// If the node's numbers are no map.
    pub fn new(formula: Formula, axis: Option<Axis>) -> Result<Self, cellnorm::Error> {
        let affine = formula.affine()?;
        let channels = (0..affine.channels()).collect();
        Ok(Self {
            formula: Arc::new(formula),
            affine: Arc::new(affine),
            channels,
            axis,
            may_widen: false,
            shift_is_dropped: false,
        })
    }

    /// This map and then others, which have as many channels.
    ///
    /// # Errors
    /// If they have not, or a result is not finite.
    pub fn chain<'m>(
        &'m self,
        others: impl Iterator<Item = &'m Map>,
    ) -> Result<Self, cellnorm::Error> {
        let all: Vec<Map> = std::iter::once(self).chain(others).cloned().collect();
        if all.len() == 1 { Ok(self.clone()) } else { Self::new(Formula::Chain(all), self.axis) }
    }

    /// The scale and shift of each place of the axis.
    pub fn affine(&self) -> Affine {
        let all = self.affine.select(&self.channels);
        if self.shift_is_dropped { all.without_shift() } else { all }
    }

    /// Whether it shifts nothing.
    pub fn is_linear(&self) -> bool {
        self.shift_is_dropped
            || self.channels.iter().all(|channel| self.affine.shift()[*channel] == 0.0)
    }

    /// Whether no scale is negative.
    pub fn is_rising(&self) -> bool {
        self.channels.iter().all(|channel| self.affine.scale()[*channel] >= 0.0)
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.is_linear() && self.channels.iter().all(|channel| self.affine.scale()[*channel] == 1.0)
    }

    /// The same map with the channels of other places.
    pub fn relocate(&self, channels: Vec<usize>, axis: Option<Axis>) -> Self {
        Self { channels, axis, ..self.clone() }
    }

    /// The result for a number at a place of the axis, by the node's own formula.
    pub fn apply(&self, place: usize, x: f64) -> f64 {
        let result = |x: f64| self.formula.apply(self.channels[place], x);
        if self.shift_is_dropped { result(x) - result(0.0) } else { result(x) }
    }
}
