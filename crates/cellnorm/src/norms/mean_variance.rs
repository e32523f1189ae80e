//! Mean-variance normalization: any axes, no parameters, ε outside the root.
//!
//! y = (x − mean) / (√variance + ε).
//!
//! Source: `MeanVarianceNormalization` of ONNX (opsets 9 and 13): axes 0, 2 and 3, ε = 1e-9.

use crate::rule::{Coefficients, Context, Norm, NormConfig, ParameterSpec, Rule, Table};
use crate::shape::{Measure, Sharing, axis_set};
use crate::{error::Error, semantics::EpsilonAt};

/// The values along some axes share statistics; nothing is learned.
#[derive(Clone, Debug)]
pub struct MeanVariance {
    /// The axes; negative counts from the last.
    pub axes: Vec<isize>,
}

/// Mean-variance normalization.
///
/// ```
/// use cellnorm::norms::MeanVarianceNormConfig;
/// let y = MeanVarianceNormConfig::new(&[0])
///     .init()?
///     .infer(ndarray::array![[1.0_f64, 5.0], [3.0, 5.0]])?;
/// assert!((y[[0, 0]] + 1.0).abs() < 1e-8 && y[[0, 1]] == 0.0);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type MeanVarianceNorm = Norm<MeanVariance>;

/// Makes a [`MeanVarianceNorm`].
pub type MeanVarianceNormConfig = NormConfig<MeanVariance>;

impl NormConfig<MeanVariance> {
    /// Over these axes, ε = 1e-9.
    pub fn new(axes: &[isize]) -> Self {
        Self::custom(MeanVariance { axes: axes.to_vec() })
    }
}

impl Rule for MeanVariance {
    const NAME: &'static str = "mean-variance normalization";
    const FORMULA: &'static str = "y = (x − mean) / (√variance + ε)";
    const EPSILON: f64 = 1e-9;
    const EPSILON_AT: EpsilonAt = EpsilonAt::OutsideRoot;

    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![]
    }

    fn check(&self) -> Result<(), Error> {
        if self.axes.is_empty() { Err(Error::NoAxes) } else { Ok(()) }
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let shared = axis_set(&self.axes, shape.len())?;
        Ok(vec![Sharing::over("mean-variance", Measure::MeanVariance, shape, |axis| !shared[axis])])
    }

    fn variance_sharing(&self) -> Option<usize> {
        None
    }

    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = context.cells;
        let of = cells.merge(0).take(&cells.sets[0]);
        let scale = of.variance.sqrt().plus(context.epsilon).recip();
        Coefficients { scale: scale.clone(), offset: scale * (cells.center.clone() - of.mean) }
    }
}
