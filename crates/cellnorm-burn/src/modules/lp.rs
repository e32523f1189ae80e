//! Lp normalization for Burn: the vectors along some axes are divided by their length.
//!
//! y = x / D with D = ‖x‖_p = (Σ |x_i|^p)^(1/p), or max |x_i| for p = ∞, kept from 0 by a
//! [`Floor`]; see [`cellnorm::norms::LpNorm`], whose passes serve on Flex. On other devices it is
//! composed of Burn's own operations. There D is scale · relative, where the scale is a constant of
//! each vector and relative the norm of x / scale: powers of that neither overflow nor vanish, and
//! since D does not depend on the scale, no gradient has to flow through it.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Bool, Tensor};
use cellnorm::norms::Floor;
use cellnorm::shape::Along;

use super::lines;
use crate::ops::LineLayer;

/// A vector without a larger value counts as zeros: what is divided by less leaves the range of
/// f32.
const LEAST: f64 = 1e-36;

/// Makes an [`LpNorm`].
#[derive(Config, Debug)]
pub struct LpNormConfig {
    /// The axes that vectors lie along; negative counts from the last.
    pub axes: Vec<isize>,
    /// The power p ≥ 1; `f64::INFINITY` divides by the largest magnitude. Default: 2
    #[config(default = 2.0)]
    pub p: f64,
    /// The floor that keeps the divisor from 0. Default: `Floor::Max(1e-12)`, as PyTorch
    #[config(default = "Floor::Max(1e-12)")]
    pub floor: Floor,
}

/// Lp normalization over any axes of tensors of any rank, without parameters, the same in training
/// and in inference.
///
/// Without a floor, a vector whose largest magnitude is below 1e-36 counts as zeros: y and dx
/// are 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use cellnorm_burn::LpNormConfig;
/// let x = Tensor::<2>::from_floats([[3.0, 4.0], [0.0, -2.0]], &Device::flex());
/// let y = LpNormConfig::unit(&[-1]).init().forward(x);
/// let expected = Tensor::<2>::from_floats([[0.6, 0.8], [0.0, -1.0]], &Device::flex());
/// y.into_data().assert_approx_eq::<f32>(&expected.into_data(), Default::default());
/// ```
#[derive(Module, Debug)]
pub struct LpNorm {
    /// The axes that vectors lie along.
    #[module(skip)]
    pub axes: Vec<isize>,
    /// The power.
    pub p: f64,
    /// The floor that keeps the divisor from 0.
    #[module(skip)]
    pub floor: Floor,
}

impl LpNormConfig {
    /// Unit normalization: p = 2 with the floor of Keras 3. Its default axes are `&[-1]`.
    pub fn unit(axes: &[isize]) -> Self {
        Self::new(axes.to_vec()).with_floor(Floor::MaxSquare(1e-24))
    }

    /// The layer.
    ///
    /// # Panics
    /// If no axis is named, p is below 1, or the floor's ε is not finite and at least 1e-36.
    pub fn init(&self) -> LpNorm {
        let layer = LpNorm { axes: self.axes.clone(), p: self.p, floor: self.floor };
        layer.on_arrays();
        layer
    }
}

impl LpNorm {
    /// Normalizes.
    ///
    /// # Panics
    /// If an axis does not exist or is named twice, or a vector has no values.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        lines(x, LineLayer::Lp(self.on_arrays()), |x, along| {
            let axes: Vec<usize> = (0..D).filter(|axis| along[*axis] == Along::Shared).collect();
            self.divided(x, &axes)
        })
    }

    fn divided<const D: usize>(&self, x: Tensor<D>, along: &[usize]) -> Tensor<D> {
        let largest = x.clone().detach().abs().max_dims(along);
        let nothing = largest.clone().lower_elem(LEAST);
        let unit = largest.clone().mask_fill(nothing.clone(), 1.0);
        let relative = self.relative(x.clone() / unit.clone(), &nothing, along);
        let at_least = |least: f64| {
            let norm = largest.clone() * relative.clone().detach();
            let below = norm.lower_elem(least);
            (unit.clone().mask_fill(below.clone(), least), relative.clone().mask_fill(below, 1.0))
        };
        let (scale, relative) = match self.floor {
            Floor::Max(epsilon) => at_least(epsilon),
            Floor::MaxSquare(epsilon) => at_least(epsilon.sqrt()),
            Floor::AddSquare(epsilon) => {
                let root = epsilon.sqrt();
                let scale = largest.clone().clamp_min(root);
                let norm = largest / scale.clone() * relative;
                let floor = scale.clone().recip().mul_scalar(root);
                (scale, (norm.clone() * norm + floor.clone() * floor).sqrt())
            }
            Floor::None => {
                let y = x / unit / relative;
                let nothing = nothing.expand(y.shape());
                return y.mask_fill(nothing, 0.0);
            }
        };
        x / scale / relative
    }

    /// The norm of each vector whose largest magnitude is 1, and 1 where there is nothing.
    fn relative<const D: usize>(
        &self,
        x: Tensor<D>,
        nothing: &Tensor<D, Bool>,
        along: &[usize],
    ) -> Tensor<D> {
        // a root has no gradient at 0, nor has a power at the sum of no powers
        let sum = |powers: Tensor<D>| powers.sum_dims(along).mask_fill(nothing.clone(), 1.0);
        let magnitudes = x.clone().abs();
        match self.p {
            1.0 => sum(magnitudes),
            2.0 => sum(x.clone() * x).sqrt(),
            f64::INFINITY => {
                // the largest values share the gradient
                let shares =
                    magnitudes.clone().detach().greater_equal_elem(1.0).float().cast(x.dtype());
                let count = sum(shares.clone());
                sum(magnitudes * shares) / count
            }
            p => sum(magnitudes.powf_scalar(p)).powf_scalar(1.0 / p),
        }
    }

    /// The layer on arrays, which knows what is sound and where vectors lie.
    fn on_arrays(&self) -> cellnorm::norms::LpNorm {
        let config = cellnorm::norms::LpNormConfig::new(&self.axes).p(self.p).floor(self.floor);
        config.init().unwrap_or_else(|error| panic!("{error}"))
    }
}
