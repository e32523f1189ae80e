//! A normalization as table arithmetic.

use super::{Figure, Labels, Sharing, Statistics, Table};
use crate::error::Error;
use crate::semantics::{EpsilonAt, Semantics};

/// A parameter of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Its name: gamma, beta, rho, …
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The value that each element starts with.
    pub initial: f64,
}

impl Slot {
    /// A parameter of this name and shape that starts with this value.
    pub fn new(name: &'static str, shape: &[usize], initial: f64) -> Self {
        Self { name, shape: shape.to_vec(), initial }
    }

    /// γ = 1 and β = 0 of a shape.
    pub fn affine(shape: &[usize]) -> Vec<Self> {
        vec![Self::new("gamma", shape, 1.0), Self::new("beta", shape, 0.0)]
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a rule answers for each cell: y = (x − center) · scale + offset, with the
/// [center](Figure::center) of the figure.
#[derive(Clone, Debug)]
pub struct Coefficients<V> {
    /// The factor.
    pub scale: V,
    /// The value at the center.
    pub offset: V,
}

/// What a rule keeps running averages of.
#[derive(Clone, Debug)]
pub struct Tracked<V> {
    /// The means, or what the rule keeps in their place.
    pub mean: V,
    /// The biased variances, or what the rule keeps in their place.
    pub variance: V,
    /// The number of values of each, for the unbiased running variance: infinite where the second
    /// is no variance. A set without values does not move its averages.
    pub values: Vec<f64>,
}

impl<V: Table> Tracked<V> {
    /// The statistics of these sets.
    pub fn merged(figure: &Figure<'_, V>, sets: &Labels) -> Self {
        let Statistics { mean, variance } = figure.merge(sets);
        Self { mean, variance, values: figure.values(sets) }
    }
}

/// What a rule is given besides the figure.
#[derive(Clone, Debug)]
pub struct Given<'a, V> {
    /// ε.
    pub epsilon: f64,
    /// Whether statistics are those of x, as in training; else the running ones, where the rule has
    /// them.
    pub batch: bool,
    /// The running averages, where the rule has them.
    pub running: Option<Statistics<V>>,
    /// The parameters, flat, in the order of the slots; None for one that the layer does not have.
    pub parameters: &'a [(&'static str, Option<V>)],
}

impl<V: Table> Given<'_, V> {
    /// A parameter, where the layer has it.
    pub fn parameter(&self, name: &str) -> Option<&V> {
        self.parameters.iter().find(|(of, _)| *of == name).and_then(|(_, value)| value.as_ref())
    }

    /// The statistics of the sets that running averages are kept of: of x in training, the running
    /// ones in inference.
    pub fn statistics(&self, figure: &Figure<'_, V>, sets: &Labels) -> Statistics<V> {
        match &self.running {
            Some(running) if !self.batch => running.clone(),
            _ => figure.merge(sets),
        }
    }

    /// 1 / √(variance + ε).
    pub fn rstd(&self, variance: V) -> V {
        variance.plus(self.epsilon).rsqrt()
    }

    /// γ (x − mean) / √(variance + ε) + β, with the statistics and the channel of each cell.
    pub fn standardize(
        &self,
        figure: &Figure<'_, V>,
        of_cells: Statistics<V>,
        channels: &Labels,
    ) -> Coefficients<V> {
        let r = self.rstd(of_cells.variance);
        self.affine(r.clone(), r * (figure.center.clone() - of_cells.mean), channels)
    }

    /// γ and β, where the layer has them, after a cell's `scale` and `shift`: scale · γ and shift ·
    /// γ + β.
    pub fn affine(&self, scale: V, shift: V, channels: &Labels) -> Coefficients<V> {
        let (mut scale, mut offset) = (scale, shift);
        if let Some(gamma) = self.parameter("gamma") {
            let gamma = gamma.take(channels);
            scale = scale * gamma.clone();
            offset = offset * gamma;
        }
        if let Some(beta) = self.parameter("beta") {
            offset = offset + beta.take(channels);
        }
        Coefficients { scale, offset }
    }
}

/// What most normalizations compute.
pub(crate) const STANDARDIZE: &str = "y = γ (x − mean) / √(variance + ε) + β";

/// A normalization: which cells share what, as arithmetic on their tables. A new one is one
/// implementation.
///
/// ```
/// use cellnorm::Error;
/// use cellnorm::tables::{
///     Coefficients, Figure, Given, Measure, Rule, Sharing, Slot, Table, TableNormConfig,
/// };
///
/// /// Each channel of each sample is divided by its standard deviation, and keeps its mean.
/// #[derive(Clone, Debug)]
/// struct Contrast;
///
/// impl Rule for Contrast {
///     const NAME: &'static str = "contrast normalization";
///     const FORMULA: &'static str = "y = mean + (x − mean) / √(variance + ε)";
///
///     fn slots(&self) -> Vec<Slot> {
///         vec![]
///     }
///
///     fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
///         Ok(vec![Sharing::over("contrast", Measure::MeanVariance, shape, |axis| axis < 2)])
///     }
///
///     fn table<V: Table>(
///         &self,
///         figure: &Figure<'_, V>,
///         given: &Given<'_, V>,
///     ) -> Coefficients<V> {
///         Coefficients {
///             scale: given.rstd(figure.variance.clone()),
///             offset: figure.mean.clone(),
///         }
///     }
/// }
///
/// let x = ndarray::array![[[1.0_f64, 3.0], [10.0, 30.0]]];
/// let y = TableNormConfig::of(Contrast).epsilon(1e-12).init()?.infer(x.view())?;
/// assert!((y[[0, 1, 1]] - 21.0).abs() < 1e-9);
/// # Ok::<(), Error>(())
/// ```
pub trait Rule: Clone + std::fmt::Debug + Send + Sync {
    /// The normalization's name in messages.
    const NAME: &'static str;

    /// The formula, in words and letters.
    const FORMULA: &'static str = STANDARDIZE;

    /// Whether what it normalizes is a weight rather than an activation.
    const OF_WEIGHTS: bool = false;

    /// ε unless asked otherwise.
    const EPSILON: f64 = 1e-5;

    /// Where ε is added; semantics that have it elsewhere are refused.
    const EPSILON_AT: EpsilonAt = EpsilonAt::InsideRoot;

    /// The parameters; the layer can do without those named gamma and beta.
    fn slots(&self) -> Vec<Slot>;

    /// Whether the rule itself is sound; asked once, when the layer is made.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Takes from a framework's semantics what the rule itself holds, such as the channel axis.
    fn adopt(&mut self, _semantics: &Semantics) {}

    /// The shape of the running averages, and what the second starts with (the first starts with
    /// 0); None without any.
    fn running(&self) -> Option<(Vec<usize>, f64)> {
        None
    }

    /// Which values share each statistic that the formula takes: the sets that [`Figure::sets`] has
    /// in the same order.
    ///
    /// # Errors
    /// If the shape does not suit the normalization.
    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error>;

    /// Which axes number the cells; along the others lie the values of a cell. Those that a
    /// statistic is not shared along, unless a parameter varies along others.
    ///
    /// # Errors
    /// As [`sharings`](Self::sharings).
    fn numbered(&self, shape: &[usize]) -> Result<Vec<bool>, Error> {
        let sharings = self.sharings(shape)?;
        Ok((0..shape.len())
            .map(|axis| sharings.iter().any(|sharing| !sharing.shares(axis)))
            .collect())
    }

    /// The sharing of which a single value would have variance 0 for good, so that training refuses
    /// it; None where it is fine.
    fn estimated(&self) -> Option<usize> {
        None
    }

    /// The formula, on tables.
    fn table<V: Table>(&self, figure: &Figure<'_, V>, given: &Given<'_, V>) -> Coefficients<V>;

    /// The statistics of the batch that running averages move toward.
    fn tracked<V: Table>(
        &self,
        _figure: &Figure<'_, V>,
        _given: &Given<'_, V>,
    ) -> Option<Tracked<V>> {
        None
    }
}
