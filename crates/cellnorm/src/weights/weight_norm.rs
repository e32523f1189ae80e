//! Weight normalization: the length and the direction of each output's weights are trained apart.
//!
//! w = g v / ‖v‖, with the norm over all axes but the outputs'; g starts as ‖v‖, so that nothing
//! changes at first. A norm below √ε counts as √ε.
//!
//! Source: T. Salimans, D. P. Kingma, *Weight Normalization*, 2016; axes as
//! `torch.nn.utils.weight_norm` of PyTorch 2. TensorFlow Addons 0.23 has the outputs on the last
//! axis and the same ε = 1e-12.

use ndarray::{ArrayD, ArrayView, Dimension, IxDyn};

use crate::error::{Error, check_number};
use crate::rule::{Coefficients, Context, Norm, NormConfig, ParameterSpec, Rule, Table};
use crate::shape::{Measure, Sharing, axis_index};
use crate::{functions::moments, kernels::Element};

/// The direction of each output's weights, whose length is a parameter of its own.
#[derive(Clone, Debug)]
pub struct WeightDirection {
    /// The axis of the outputs; None for one norm of the whole weight.
    pub axis: Option<usize>,
    /// The number of outputs; 1 for one norm of the whole weight.
    pub outputs: usize,
}

/// Weight normalization; parameter g, \[outputs\].
///
/// ```
/// use cellnorm::weights::WeightNormConfig;
/// let v = ndarray::array![[3.0, 4.0], [0.0, 2.0]];
/// let mut layer = WeightNormConfig::of_weight(v.view(), Some(0))?;
/// assert_eq!(layer.parameter("g").unwrap(), &ndarray::array![5.0, 2.0].into_dyn());
/// layer.parameter_mut("g").unwrap()[0] = 10.0;
/// assert_eq!(layer.infer(v.view())?, ndarray::array![[6.0, 8.0], [0.0, 2.0]]);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type WeightNorm = Norm<WeightDirection>;

/// Makes a [`WeightNorm`].
pub type WeightNormConfig = NormConfig<WeightDirection>;

impl NormConfig<WeightDirection> {
    /// For a weight v with its outputs on this axis (negative counts from the last), or one norm
    /// for all of it; g = max(‖v‖, √ε), so that w = v. This is PyTorch's `dim`, except that
    /// PyTorch's `dim=-1` is one norm for all, like `dim=None`: `None` here, too.
    ///
    /// # Errors
    /// If there is no such axis, or the weight is empty or holds NaN or infinity.
    pub fn of_weight<T: Element, D: Dimension>(
        v: ArrayView<'_, T, D>,
        outputs: Option<isize>,
    ) -> Result<WeightNorm, Error> {
        let axis = outputs.map(|axis| axis_index(axis, v.ndim())).transpose()?;
        let count = axis.map_or(1, |axis| v.shape()[axis]);
        let inside: Vec<isize> =
            (0..v.ndim()).filter(|of| Some(*of) != axis).map(|of| of as isize).collect();
        let values = (v.len() / count.max(1)) as f64;
        let (mean, variance) = moments(v, &inside, false)?;
        let mut layer = Self::custom(WeightDirection { axis, outputs: count }).init()?;
        let square = |m: &f64, v: &f64| (values * (v + m * m)).max(layer.epsilon);
        let g = ndarray::Zip::from(&mean).and(&variance).map_collect(|m, v| square(m, v).sqrt());
        *layer.parameter_mut("g").expect("a parameter that is always there") = reshaped(g, count);
        Ok(layer)
    }
}

fn reshaped(g: ArrayD<f64>, outputs: usize) -> ArrayD<f64> {
    g.into_shape_with_order(IxDyn(&[outputs])).expect("one norm for each output")
}

impl Rule for WeightDirection {
    const NAME: &'static str = "weight normalization";
    const FORMULA: &'static str = "w = g v / ‖v‖";
    const OF_WEIGHTS: bool = true;
    const EPSILON: f64 = 1e-12;

    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![ParameterSpec::new("g", &[self.outputs], 1.0)]
    }

    fn check(&self) -> Result<(), Error> {
        let sound = self.axis.is_some() || self.outputs == 1;
        let expected = "1 for one norm of all weights";
        check_number("the number of outputs", self.outputs as f64, sound, expected)
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        if let Some(axis) = self.axis
            && shape.get(axis) != Some(&self.outputs)
        {
            axis_index(axis as isize, shape.len())?;
            return Err(Error::Channels { axis, shape: shape.to_vec(), channels: self.outputs });
        }
        Ok(vec![Sharing::over("weight", Measure::Norm, shape, |axis| Some(axis) == self.axis)])
    }

    fn variance_sharing(&self) -> Option<usize> {
        None
    }

    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = context.cells;
        let outputs = &cells.sets[0];
        let values = cells.mean.constant(cells.values(0));
        let square = (cells.mean_square(0) * values).clamp(context.epsilon, f64::INFINITY);
        let g = context.always("g");
        let scale = (g.clone() * square.rsqrt()).take(outputs);
        Coefficients { scale: scale.clone(), offset: scale * cells.center.clone() }
    }
}
